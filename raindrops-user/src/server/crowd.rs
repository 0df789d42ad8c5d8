//! Places for clients: as many as there may be, and who gives way when all are taken.
//!
//! A client that has taken its answer, or has not sent a whole request, holds a place that it does not
//! use, and makes room for who comes: first who has never asked anything, then who has not for the
//! longest. So idle clients keep nobody out, and a flood of them drives nobody away who asks now and
//! then. Some places are kept for those whom the daemon trusts, and no other user has more than half:
//! one who holds all that he can get shuts out neither root nor the rest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::body::Bytes;
use tokio::sync::Notify;

use super::{
    Limits,
    peer::Peer,
    unread::{Ticket, Unread},
};

/// One of so many places is kept for trusted clients.
const KEPT: usize = 10;

#[derive(Debug)]
pub struct Crowd {
    places: usize,
    taken: Mutex<Taken>,
    unread: Unread,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// Those of whom the kernel tells who they are, and who are not trusted.
    others: usize,
    by_user: BTreeMap<u32, usize>,
    /// Number of the next wait.
    next: u64,
    /// Those that use their place for nothing, in the order in which they go.
    idle: BTreeMap<Wait, Idle>,
}

/// Of a client that uses its place for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wait {
    has_asked: bool,
    number: u64,
}

#[derive(Debug)]
struct Idle {
    other: Option<u32>,
    give_way: Arc<Notify>,
}

/// A place of one client, from its connect to its end.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    /// The user, where that is one who is not trusted.
    other: Option<u32>,
    usage: Mutex<Usage>,
    give_way: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Usage {
    /// Answers that are made or that the client has not taken.
    answers: usize,
    wait: Option<Wait>,
}

impl Crowd {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            places: limits.connections,
            taken: Mutex::default(),
            unread: Unread::new(limits.unread_bytes),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, for which another client may have to go; `None` where none can be had.
    pub fn enter(self: &Arc<Self>, peer: Peer) -> Option<Place> {
        let other = peer.uid().filter(|_| !peer.is_trusted());
        let mut taken = self.taken();
        if let Some(user) = other {
            let has = taken.by_user.get(&user).copied().unwrap_or(0);
            if has >= (self.places / 2).max(1) {
                taken.make_room(|idle| idle.other == Some(user))?;
            } else if taken.others >= self.places - self.places / KEPT {
                taken.make_room(|idle| idle.other.is_some())?;
            } else if taken.count >= self.places {
                taken.make_room(|_| true)?;
            }
        } else if taken.count >= self.places {
            taken.make_room(|_| true)?;
        }
        taken.count += 1;
        if let Some(user) = other {
            taken.others += 1;
            *taken.by_user.entry(user).or_default() += 1;
        }
        drop(taken);
        let place = Place {
            crowd: Arc::clone(self),
            other,
            usage: Mutex::default(),
            give_way: Arc::new(Notify::new()),
        };
        place.begins_to_wait(&mut place.usage(), false);
        Some(place)
    }
}

impl Taken {
    /// Has the first of some idle clients go; `None` where there is none.
    fn make_room(&mut self, may_go: impl Fn(&Idle) -> bool) -> Option<()> {
        let (wait, _) = self.idle.iter().find(|(_, idle)| may_go(idle))?;
        let wait = *wait;
        self.idle.remove(&wait)?.give_way.notify_one();
        Some(())
    }
}

impl Place {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has asked.
    pub fn is_used(&self) {
        let mut usage = self.usage();
        usage.answers += 1;
        if let Some(wait) = usage.wait.take() {
            self.crowd.taken().idle.remove(&wait);
        }
    }

    /// An answer for the client, who rests when it has taken that.
    pub fn answer(self: &Arc<Self>, body: Bytes) -> Bytes {
        self.hand(body, true)
    }

    /// A part of an answer.
    pub fn line(self: &Arc<Self>, body: Bytes) -> Bytes {
        self.hand(body, false)
    }

    fn hand(self: &Arc<Self>, body: Bytes, is_whole: bool) -> Bytes {
        Bytes::from_owner(Handed {
            ticket: self.crowd.unread.hand(&body, &self.give_way),
            body,
            is_whole,
            place: Arc::clone(self),
        })
    }

    fn rests(&self) {
        let mut usage = self.usage();
        usage.answers -= 1;
        if usage.answers == 0 {
            self.begins_to_wait(&mut usage, true);
        }
    }

    fn begins_to_wait(&self, usage: &mut Usage, has_asked: bool) {
        let mut taken = self.crowd.taken();
        let wait = Wait {
            has_asked,
            number: taken.next,
        };
        taken.next += 1;
        let idle = Idle {
            other: self.other,
            give_way: Arc::clone(&self.give_way),
        };
        taken.idle.insert(wait, idle);
        usage.wait = Some(wait);
    }

    /// Ends when the client has to go.
    pub async fn wanted(&self) {
        self.give_way.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let wait = self.usage().wait.take();
        let mut taken = self.crowd.taken();
        if let Some(wait) = wait {
            taken.idle.remove(&wait);
        }
        taken.count -= 1;
        let Some(user) = self.other else { return };
        taken.others -= 1;
        if let Some(count) = taken.by_user.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                taken.by_user.remove(&user);
            }
        }
    }
}

/// Bytes that a client has been handed, until it has taken them or has gone.
struct Handed {
    body: Bytes,
    is_whole: bool,
    ticket: Ticket,
    place: Arc<Place>,
}

impl AsRef<[u8]> for Handed {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.place.crowd.unread.give_back(&self.ticket);
        if self.is_whole {
            self.place.rests();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{future::Future, pin::pin, sync::Arc, task::Context};

    use hyper::body::Bytes;
    use tokio::sync::Notify;

    use super::{Crowd, Place};
    use crate::server::{Limits, peer::Peer};

    /// Whether who waits for this is told to go, for the first time.
    pub fn is_told(give_way: &Notify) -> bool {
        let mut told = pin!(give_way.notified());
        let mut context = Context::from_waker(std::task::Waker::noop());
        told.as_mut().poll(&mut context).is_ready()
    }

    fn crowd(connections: usize) -> Arc<Crowd> {
        Crowd::new(Limits {
            connections,
            ..Limits::default()
        })
    }

    fn is_wanted(place: &Arc<Place>) -> bool {
        is_told(&place.give_way)
    }

    fn enter(crowd: &Arc<Crowd>, peer: Peer) -> Option<Arc<Place>> {
        crowd.enter(peer).map(Arc::new)
    }

    #[test]
    fn who_never_asked_goes_first_then_who_has_not_for_the_longest() {
        let crowd = crowd(4);
        let enter = || enter(&crowd, Peer::UNKNOWN);
        let places = [(); 4].map(|()| enter().unwrap());
        let asks = |at: usize| {
            places[at].is_used();
            drop(places[at].answer(Bytes::from_static(b"x")));
        };
        [1, 0].into_iter().for_each(asks);
        places[3].is_used();
        let wanted = || places.each_ref().map(is_wanted);
        let fifth = enter().unwrap();
        fifth.is_used();
        assert_eq!(wanted(), [false, false, true, false]);
        let sixth = enter().unwrap();
        sixth.is_used();
        assert_eq!(wanted(), [false, true, false, false]);
        let seventh = enter().unwrap();
        seventh.is_used();
        assert_eq!(wanted(), [true, false, false, false]);
        assert!(enter().is_none(), "all are in use");
        drop(places);
        assert!(enter().is_some());
        drop((fifth, sixth, seventh));
        let taken = crowd.taken();
        assert_eq!((taken.count, taken.idle.len()), (0, 0));
    }

    #[test]
    fn who_has_not_taken_its_answer_does_not_rest() {
        let crowd = crowd(1);
        let first = enter(&crowd, Peer::UNKNOWN).unwrap();
        first.is_used();
        let answer = first.answer(Bytes::from_static(b"x"));
        assert!(enter(&crowd, Peer::UNKNOWN).is_none());
        // The next request is there before the answer to the first is taken.
        first.is_used();
        drop(answer);
        assert!(enter(&crowd, Peer::UNKNOWN).is_none());
        let line = first.line(Bytes::from_static(b"x"));
        drop(line);
        assert!(enter(&crowd, Peer::UNKNOWN).is_none());
        drop(first.answer(Bytes::new()));
        assert!(enter(&crowd, Peer::UNKNOWN).is_some());
        assert!(is_wanted(&first));
    }

    #[test]
    fn nobody_shuts_out_root_nor_one_user_the_others() {
        let crowd = crowd(20);
        let user = |uid| enter(&crowd, Peer::user(uid));
        let busy = |uid| {
            let place = user(uid)?;
            place.is_used();
            Some(place)
        };
        let first: Vec<_> = std::iter::from_fn(|| busy(1001)).take(100).collect();
        assert_eq!(first.len(), 10, "half");
        let second: Vec<_> = std::iter::from_fn(|| busy(1002)).take(100).collect();
        assert_eq!(second.len(), 8, "what is left but for those that are kept");
        let root: Vec<_> = std::iter::from_fn(|| busy(0)).take(100).collect();
        assert_eq!(root.len(), 2);
        // Of his own idle ones the user has one go, not those of others.
        drop(first[0].answer(Bytes::from_static(b"x")));
        assert!(user(0).is_some() && is_wanted(&first[0]));
        drop(second[0].answer(Bytes::from_static(b"x")));
        assert!(busy(1001).is_none(), "he has half already");
        assert!(busy(1002).is_some() && is_wanted(&second[0]));
        drop((first, second, root));
        let taken = crowd.taken();
        assert_eq!((taken.count, taken.others, taken.by_user.len()), (0, 0, 0));
    }
}
