//! The one answer that is not made of a view: connections, read for who asks.
//!
//! It waits for the desk's thread, so that no other client waits for it; what is said is rendered
//! there, too, because a long list takes a while, and once for all who ask the same.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use tokio::{sync::oneshot, time};

use super::{
    Desk,
    answer::{Answer, error, value},
    route::no_worker,
};
use crate::{
    connections::Unlisted,
    ids::Pid,
    publish::Published,
    view::connections::{Listing, Question},
};

/// A question, and the view that it was asked of.
pub struct Asked {
    pub question: Question,
    pub published: Arc<Published>,
}

pub async fn answer(asked: Asked, desk: &Desk, patience: Duration) -> Answer {
    let Asked {
        question,
        published,
    } = asked;
    let worker = question.worker;
    let (tell, told) = oneshot::channel();
    let render = move |read| match read {
        Ok(listing) => listed(&listing, worker, &published),
        Err(why) => unlisted(&why),
    };
    // Fails when the client has left.
    let tell = move |answer| drop(tell.send(answer));
    let handed_in = desk.ask(question, Instant::now() + patience, render, tell);
    if let Err(why) = handed_in {
        return unlisted(&why);
    }
    match time::timeout(patience, told).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!(
                "connections could not be read within {} ms",
                patience.as_millis()
            ),
            "ask for one listener; look whether the host thrashes",
        ),
    }
}

fn listed(listing: &Listing, worker: Option<Pid>, published: &Published) -> Answer {
    let view = published.view();
    let is_known = |pid: Pid| view.workers.iter().any(|it| it.pid == pid.0);
    match worker.filter(|pid| listing.matched == 0 && !is_known(*pid)) {
        Some(pid) => no_worker(view, pid.0),
        None => value(StatusCode::OK, listing),
    }
}

fn unlisted(why: &Unlisted) -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, &why.error, &why.hint)
}
