//! The past, for who asks: merged away from the loop that serves everybody, one answer at a time, and
//! once for all who ask the same.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hyper::{StatusCode, body::Bytes};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

use super::answer::{Answer, JSON, error, ok};
use crate::{
    history::{History, merged},
    publish::rendered,
    render::json,
};

/// Answers that clients have not read yet: each can be megabytes.
const UNREAD: usize = 8;

/// Which part of the past is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// All that there is where it is not said.
    pub since: Option<Duration>,
    pub step: Duration,
    /// Ids; all where there are none.
    pub listeners: Option<BTreeSet<String>>,
}

/// Where the past is asked for.
#[derive(Debug)]
pub struct Archive {
    history: Arc<History>,
    /// The one answer that is made.
    making: Semaphore,
    unread: Arc<Semaphore>,
    last: Mutex<Option<Made>>,
}

#[derive(Clone, Debug)]
struct Made {
    wish: Wish,
    /// End of the last step in it.
    newest: Option<SystemTime>,
    body: Bytes,
}

/// A body and the place that it takes until the client has it.
struct Held {
    body: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Archive {
    #[must_use]
    pub fn new(history: Arc<History>) -> Self {
        Self {
            history,
            making: Semaphore::new(1),
            unread: Arc::new(Semaphore::new(UNREAD)),
            last: Mutex::default(),
        }
    }

    pub(super) async fn answer(&self, wish: Wish, patience: Duration) -> Answer {
        if self.history.keeps_nothing() {
            return error(
                StatusCode::NOT_FOUND,
                "no history is kept",
                "start the daemon with --history 15m, or without --history 0s",
            );
        }
        match time::timeout(patience, self.made(wish)).await {
            Ok(Some(body)) => ok(JSON, body),
            Ok(None) | Err(_) => error(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!(
                    "the past could not be told within {} ms",
                    patience.as_millis()
                ),
                "others ask too: ask again, for less time, coarser steps or one listener",
            ),
        }
    }

    /// `None` when it could not be made, which the log tells.
    async fn made(&self, wish: Wish) -> Option<Bytes> {
        let permit = Arc::clone(&self.unread).acquire_owned().await.ok()?;
        let _making = self.making.acquire().await.ok()?;
        let newest = self.history.newest();
        let last = self.last().clone();
        let body = match last.filter(|it| it.wish == wish && it.newest == newest) {
            Some(made) => made.body,
            None => {
                let body = self.merge(wish.clone()).await?;
                *self.last() = Some(Made {
                    wish,
                    newest,
                    body: body.clone(),
                });
                body
            }
        };
        Some(Bytes::from_owner(Held {
            body,
            _permit: permit,
        }))
    }

    async fn merge(&self, wish: Wish) -> Option<Bytes> {
        let history = Arc::clone(&self.history);
        let merge = move || {
            let Wish {
                since,
                step,
                listeners,
            } = wish;
            let now = SystemTime::now();
            let from = since.and_then(|since| now.checked_sub(since));
            let from = from.unwrap_or(SystemTime::UNIX_EPOCH);
            let past = merged(&history, from, step, listeners.as_ref(), now);
            rendered(|out| json::write(&past, out))
        };
        let merged = task::spawn_blocking(merge).await;
        merged
            .inspect_err(|error| log::error!("the past cannot be told: {error}"))
            .ok()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Made>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
