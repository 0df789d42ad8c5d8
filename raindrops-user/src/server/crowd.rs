//! Places for clients: as many as there may be, and who gives way when all are taken.
//!
//! A client that has its answer, or has not sent a whole request, holds a place that it does not use,
//! and makes room for who comes: first who has never asked anything, then who has not for the longest.
//! So idle clients keep nobody out, and a flood of them drives nobody away who asks now and then.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

#[derive(Debug)]
pub struct Crowd {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// Number of the next wait.
    next: u64,
    /// Those that use their place for nothing, in the order in which they go.
    idle: BTreeMap<Wait, Arc<Notify>>,
}

/// Of a client that uses its place for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wait {
    has_asked: bool,
    number: u64,
}

/// A place of one client, from its connect to its end.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    wait: Mutex<Option<Wait>>,
    give_way: Arc<Notify>,
}

impl Crowd {
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            taken: Mutex::default(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, for which another client may have to go; `None` where all are in use.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.count >= self.places {
            let (_, first) = taken.idle.pop_first()?;
            first.notify_one();
        }
        taken.count += 1;
        drop(taken);
        let place = Place {
            crowd: Arc::clone(self),
            wait: Mutex::new(None),
            give_way: Arc::new(Notify::new()),
        };
        place.begins_to_wait(false);
        Some(place)
    }
}

impl Place {
    fn wait(&self) -> MutexGuard<'_, Option<Wait>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has asked, and gets its answer.
    pub fn is_used(&self) {
        if let Some(wait) = self.wait().take() {
            self.crowd.taken().idle.remove(&wait);
        }
    }

    /// The client has its answer.
    pub fn rests(&self) {
        self.begins_to_wait(true);
    }

    fn begins_to_wait(&self, has_asked: bool) {
        let mut taken = self.crowd.taken();
        let wait = Wait {
            has_asked,
            number: taken.next,
        };
        taken.next += 1;
        taken.idle.insert(wait, Arc::clone(&self.give_way));
        drop(taken);
        *self.wait() = Some(wait);
    }

    /// Ends when the place is wanted for another client.
    pub async fn wanted(&self) {
        self.give_way.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_used();
        self.crowd.taken().count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::{Crowd, Place};

    fn is_wanted(place: &Place) -> bool {
        let mut wanted = pin!(place.wanted());
        let mut context = Context::from_waker(std::task::Waker::noop());
        wanted.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn who_never_asked_goes_first_then_who_has_not_for_the_longest() {
        let crowd = Crowd::new(4);
        let places = [(); 4].map(|()| crowd.enter().unwrap());
        let asks = |at: usize| {
            places[at].is_used();
            places[at].rests();
        };
        [1, 0].into_iter().for_each(asks);
        places[3].is_used();
        let wanted = || places.each_ref().map(is_wanted);
        let fifth = crowd.enter().unwrap();
        fifth.is_used();
        assert_eq!(wanted(), [false, false, true, false]);
        let sixth = crowd.enter().unwrap();
        sixth.is_used();
        assert_eq!(wanted(), [false, true, false, false]);
        let seventh = crowd.enter().unwrap();
        seventh.is_used();
        assert_eq!(wanted(), [true, false, false, false]);
        assert!(crowd.enter().is_none(), "all are in use");
        drop(places);
        assert!(crowd.enter().is_some());
        drop((fifth, sixth, seventh));
        let taken = crowd.taken();
        assert_eq!((taken.count, taken.idle.len()), (0, 0));
    }
}
