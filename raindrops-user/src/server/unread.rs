//! Answers that clients have not taken yet, and which of them go when they are too much memory.
//!
//! An answer is shared by all who asked for the same of the same view, so it counts once, as long as
//! any of them has not taken it. Views are made ten times a second while somebody reads: without a
//! bound, clients that read nothing would keep as many old ones as they ask for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::body::Bytes;
use tokio::sync::Notify;

#[derive(Debug)]
pub struct Unread {
    budget: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Number of the next document, or reader.
    next: u64,
    /// Of all documents whose readers have not been told to go.
    bytes: usize,
    /// In the order in which they were first handed out.
    documents: BTreeMap<u64, Document>,
    by_address: BTreeMap<usize, u64>,
}

#[derive(Debug)]
struct Document {
    address: usize,
    bytes: usize,
    is_revoked: bool,
    readers: BTreeMap<u64, Arc<Notify>>,
}

/// What one client has been handed.
#[derive(Debug)]
pub struct Ticket {
    document: u64,
    reader: u64,
}

impl Unread {
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a client has `body`, which must stay where it is until it is given back. Where that is
    /// more than the budget, those who have the oldest documents are told to go; the latest is never
    /// taken away.
    pub fn hand(&self, body: &Bytes, give_way: &Arc<Notify>) -> Ticket {
        let mut held = self.held();
        let (address, bytes) = (body.as_ptr() as usize, body.len());
        let reader = held.number();
        let number = match held.by_address.get(&address) {
            Some(number) => *number,
            None => held.add(address, bytes),
        };
        if let Some(document) = held.documents.get_mut(&number) {
            document.readers.insert(reader, Arc::clone(give_way));
            if document.is_revoked {
                give_way.notify_one();
            }
        }
        held.keep_within(self.budget, number);
        Ticket {
            document: number,
            reader,
        }
    }

    /// The client has it all, or has gone.
    pub fn give_back(&self, ticket: &Ticket) {
        let mut held = self.held();
        let Some(document) = held.documents.get_mut(&ticket.document) else {
            return;
        };
        document.readers.remove(&ticket.reader);
        if !document.readers.is_empty() {
            return;
        }
        let freed = if document.is_revoked {
            0
        } else {
            document.bytes
        };
        let address = document.address;
        held.bytes -= freed;
        held.by_address.remove(&address);
        held.documents.remove(&ticket.document);
    }
}

impl Held {
    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn add(&mut self, address: usize, bytes: usize) -> u64 {
        let number = self.number();
        self.bytes += bytes;
        self.by_address.insert(address, number);
        let document = Document {
            address,
            bytes,
            is_revoked: false,
            readers: BTreeMap::new(),
        };
        self.documents.insert(number, document);
        number
    }

    fn keep_within(&mut self, budget: usize, latest: u64) {
        for (number, document) in &mut self.documents {
            if self.bytes <= budget {
                return;
            }
            if document.is_revoked || *number == latest {
                continue;
            }
            document.is_revoked = true;
            self.bytes -= document.bytes;
            for reader in document.readers.values() {
                reader.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::body::Bytes;
    use tokio::sync::Notify;

    use super::{Ticket, Unread};
    use crate::server::crowd::tests::is_told;

    fn document(bytes: usize) -> Bytes {
        Bytes::from(vec![0; bytes])
    }

    /// A client that has been handed something.
    struct Client {
        give_way: Arc<Notify>,
        ticket: Ticket,
    }

    impl Client {
        fn with(unread: &Unread, body: &Bytes) -> Self {
            let give_way = Arc::new(Notify::new());
            let ticket = unread.hand(body, &give_way);
            Self { give_way, ticket }
        }
    }

    fn bytes(unread: &Unread) -> usize {
        unread.held().bytes
    }

    #[test]
    fn a_document_counts_once_until_its_last_reader_has_it() {
        let unread = Unread::new(100);
        let body = document(80);
        let clients = [(); 3].map(|()| Client::with(&unread, &body));
        assert_eq!(bytes(&unread), 80);
        for (client, left) in clients.iter().zip([80, 80, 0]) {
            unread.give_back(&client.ticket);
            assert_eq!(bytes(&unread), left);
            assert!(!is_told(&client.give_way));
        }
    }

    #[test]
    fn readers_of_the_oldest_go_first_and_once() {
        let unread = Unread::new(100);
        let bodies = [(); 4].map(|()| document(40));
        let clients = bodies.each_ref().map(|body| Client::with(&unread, body));
        let told = || clients.each_ref().map(|client| is_told(&client.give_way));
        assert_eq!(told(), [true, true, false, false]);
        assert_eq!(bytes(&unread), 80);
        clients
            .iter()
            .for_each(|client| unread.give_back(&client.ticket));
        assert_eq!(told(), [false; 4]);
        let held = unread.held();
        assert_eq!(
            (held.bytes, held.documents.len(), held.by_address.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_latest_stays_however_large_it_is() {
        let unread = Unread::new(100);
        let (small, large) = (document(90), document(1_000));
        let first = Client::with(&unread, &small);
        let second = Client::with(&unread, &large);
        assert_eq!(
            [is_told(&first.give_way), is_told(&second.give_way)],
            [true, false]
        );
        let late = Client::with(&unread, &small);
        assert!(
            is_told(&late.give_way),
            "what is being taken away is not handed out again"
        );
    }
}
