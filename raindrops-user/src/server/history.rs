//! The past, for who asks: merged away from the loop that serves everybody, one answer at a time, and
//! once for all who ask the same.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hyper::{StatusCode, body::Bytes};
use tokio::{sync::Semaphore, task, time};

use super::{
    answer::{Answer, JSON, error, ok},
    path::WhichPast,
    route::no_listener,
};
use crate::{
    history::{History, merged},
    publish::{Published, rendered},
    render::json,
    select::{self, SelectError, Selector},
    view::View,
};

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
    which: WhichPast,
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

    /// `published`: where listeners may be found that are not in the past yet.
    pub(super) async fn answer(
        &self,
        which: WhichPast,
        published: Arc<Published>,
        patience: Duration,
    ) -> Answer {
        if self.history.keeps_nothing() {
            return error(
                StatusCode::NOT_FOUND,
                "no history is kept",
                "start the daemon with --history 15m, or without --history 0s",
            );
        }
        match time::timeout(patience, self.made(which, published)).await {
            Ok(Some(Ok(body))) => ok(JSON, body),
            Ok(Some(Err(why))) => no_listener(why),
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
    async fn made(
        &self,
        which: WhichPast,
        published: Arc<Published>,
    ) -> Option<Result<Bytes, SelectError>> {
        let _making = self.making.acquire().await.ok()?;
        let newest = self.history.newest();
        let last = self.last().clone();
        if let Some(made) = last.filter(|it| it.which == which && it.newest == newest) {
            return Some(Ok(made.body));
        }
        let history = Arc::clone(&self.history);
        let asked = which.clone();
        let merging = task::spawn_blocking(move || told(&history, asked, published.view()));
        let merged = merging
            .await
            .inspect_err(|error| log::error!("the past cannot be told: {error}"))
            .ok()?;
        if let Ok(body) = &merged {
            *self.last() = Some(Made {
                which,
                newest,
                body: body.clone(),
            });
        }
        Some(merged)
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Made>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(history: &History, which: WhichPast, view: &View) -> Result<Bytes, SelectError> {
    let WhichPast {
        since,
        step,
        listeners,
    } = which;
    let wanted = if listeners.is_empty() {
        None
    } else {
        Some(ids(history, &listeners, view)?)
    };
    let now = SystemTime::now();
    let from = since.and_then(|since| now.checked_sub(since));
    let from = from.unwrap_or(SystemTime::UNIX_EPOCH);
    let past = merged(history, from, step, wanted.as_ref(), now);
    Ok(rendered(|out| json::write(&past, out)))
}

/// Listeners that are there or were: one that has begun anew has another id than before.
fn ids(history: &History, typed: &[String], view: &View) -> Result<BTreeSet<String>, SelectError> {
    let mut all = BTreeSet::new();
    for typed in typed {
        let selector = Selector::parse(typed);
        let mut ids = history.ids(|id, address| selector.matches(id, address));
        match select::listeners(view, typed) {
            Ok(there) => ids.extend(there.into_iter().map(|listener| listener.id.clone())),
            Err(why) if ids.is_empty() => return Err(why),
            Err(_) => {}
        }
        all.append(&mut ids);
    }
    Ok(all)
}
