//! Views one after another, a line each, for as long as the client takes them.
//!
//! The next line is made when the last has been written: who takes it late gets a later view, and who
//! does not take it in time is cut off, so that no old view is kept for him.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{sync::watch, time};

use super::{crowd::Place, document};
use crate::publish::{Form, Hub, Published};

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub form: Form,
    pub interval: Duration,
}

#[derive(Debug)]
pub struct Views {
    hub: Arc<Hub>,
    wish: Wish,
    stopping: watch::Receiver<()>,
    place: Arc<Place>,
    /// When the view of the last line was published.
    last: Option<Instant>,
    next: time::Instant,
}

impl Views {
    pub fn new(
        hub: Arc<Hub>,
        wish: Wish,
        stopping: watch::Receiver<()>,
        place: Arc<Place>,
    ) -> Self {
        Self {
            hub,
            wish,
            stopping,
            place,
            last: None,
            next: time::Instant::now(),
        }
    }

    /// The next line; `None` at the end.
    pub async fn next(mut self) -> Option<(Bytes, Self)> {
        let due = async {
            time::sleep_until(self.next).await;
            after(&self.hub, self.wish.form, self.last).await
        };
        let published = tokio::select! {
            published = due => published,
            _ = self.stopping.changed() => return None,
        };
        let line = self.place.line(published.answer(self.wish.form));
        self.last = Some(published.at());
        self.next = (self.next + self.wish.interval).max(time::Instant::now());
        Some((line, self))
    }
}

/// What there is to tell, as soon as it is of a later view than the last: what can be afforded may be of
/// an earlier one.
async fn after(hub: &Hub, form: Form, last: Option<Instant>) -> Arc<Published> {
    loop {
        // Before the look: a view that is published in between is not missed.
        let replaced = hub.replaced();
        if let Some(latest) = hub.latest() {
            let published = document::rendered(form, latest, hub).await;
            if last.is_none_or(|last| published.at() > last) {
                return published;
            }
        }
        replaced.await;
    }
}
