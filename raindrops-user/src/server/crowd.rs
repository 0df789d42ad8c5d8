//! Places for clients: as many as there may be, and who gives way when all are taken.
//!
//! A client that has its answer, or has not sent a whole request, holds a place that it does not use:
//! the one that has done so for the longest makes room for who comes. So idle clients keep nobody out.

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
    /// Those that use their place for nothing, by when they began to.
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// A place of one client, from its connect to its end.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    wait: Mutex<Option<u64>>,
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
            let (_, longest) = taken.idle.pop_first()?;
            longest.notify_one();
        }
        taken.count += 1;
        drop(taken);
        let place = Place {
            crowd: Arc::clone(self),
            wait: Mutex::new(None),
            give_way: Arc::new(Notify::new()),
        };
        place.rests();
        Some(place)
    }
}

impl Place {
    fn wait(&self) -> MutexGuard<'_, Option<u64>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has asked, and gets its answer.
    pub fn is_used(&self) {
        if let Some(wait) = self.wait().take() {
            self.crowd.taken().idle.remove(&wait);
        }
    }

    /// The client has nothing to wait for.
    pub fn rests(&self) {
        let mut taken = self.crowd.taken();
        let wait = taken.next;
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
    fn who_has_been_idle_for_the_longest_gives_way() {
        let crowd = Crowd::new(3);
        let places = [(); 3].map(|()| crowd.enter().unwrap());
        places[0].is_used();
        places[0].rests();
        places[1].is_used();
        let fourth = crowd.enter().unwrap();
        assert_eq!(places.each_ref().map(is_wanted), [false, false, true]);
        fourth.is_used();
        let fifth = crowd.enter().unwrap();
        fifth.is_used();
        assert_eq!(places.each_ref().map(is_wanted), [true, false, false]);
        assert!(crowd.enter().is_none(), "all are in use");
        drop(places);
        assert!(crowd.enter().is_some());
        drop((fourth, fifth));
        let taken = crowd.taken();
        assert_eq!((taken.count, taken.idle.len()), (0, 0));
    }
}
