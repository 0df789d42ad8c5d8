//! The past, for who asks: merged away from the loop that serves everybody, one answer at a time, and
//! once for all who ask the same.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hyper::{StatusCode, body::Bytes};
use tokio::{sync::Semaphore, task, time};

use super::answer::{Answer, JSON, error, ok};
use crate::{
    history::{History, merged},
    publish::rendered,
    render::json,
};

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
    last: Mutex<Option<Made>>,
}

#[derive(Clone, Debug)]
struct Made {
    wish: Wish,
    /// End of the last step in it.
    newest: Option<SystemTime>,
    body: Bytes,
}

impl Archive {
    #[must_use]
    pub fn new(history: Arc<History>) -> Self {
        Self {
            history,
            making: Semaphore::new(1),
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
        let _making = self.making.acquire().await.ok()?;
        let newest = self.history.newest();
        let last = self.last().clone();
        match last.filter(|it| it.wish == wish && it.newest == newest) {
            Some(made) => Some(made.body),
            None => {
                let body = self.merge(wish.clone()).await?;
                *self.last() = Some(Made {
                    wish,
                    newest,
                    body: body.clone(),
                });
                Some(body)
            }
        }
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
