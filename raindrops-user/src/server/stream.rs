//! Views one after another, a line each, for as long as the client takes them.
//!
//! At most one line waits for a client. Who takes it late gets a later view; who does not take it in
//! time is cut off, so that no old view is kept for him.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::channel::{Channel, Sender};
use hyper::body::{Body, Bytes, Frame};
use tokio::{sync::watch, task::AbortHandle, time};

use super::crowd::Place;
use crate::publish::{Form, Hub, Published};

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub form: Form,
    pub interval: Duration,
}

/// Ends what makes the lines when it goes.
#[derive(Debug)]
pub struct Lines {
    lines: Channel<Bytes, io::Error>,
    sending: AbortHandle,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.lines).poll_frame(cx)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

/// `patience`: how long a line may wait for the client.
pub fn lines(
    hub: Arc<Hub>,
    wish: Wish,
    patience: Duration,
    stopping: watch::Receiver<()>,
    place: Arc<Place>,
) -> Lines {
    let (sender, lines) = Channel::new(1);
    let sending = tokio::spawn(send(sender, hub, wish, patience, stopping, place));
    Lines {
        lines,
        sending: sending.abort_handle(),
    }
}

async fn send(
    mut sender: Sender<Bytes, io::Error>,
    hub: Arc<Hub>,
    wish: Wish,
    patience: Duration,
    mut stopping: watch::Receiver<()>,
    place: Arc<Place>,
) {
    // Weak, so that no old view is kept while nothing is sent.
    let mut last: Weak<Published> = Weak::new();
    let mut next = time::Instant::now();
    loop {
        let published = tokio::select! {
            published = after(&hub, &last) => published,
            _ = stopping.changed() => return,
        };
        let line = place.line(published.answer(wish.form));
        match time::timeout(patience, sender.send_data(line)).await {
            Ok(Ok(())) => {}
            // The client has gone.
            Ok(Err(_)) => return,
            Err(_) => {
                let late = "the client does not read its stream";
                sender.abort(io::Error::new(io::ErrorKind::TimedOut, late));
                return;
            }
        }
        last = Arc::downgrade(&published);
        drop(published);
        next = (next + wish.interval).max(time::Instant::now());
        tokio::select! {
            () = time::sleep_until(next) => {}
            _ = stopping.changed() => return,
        }
    }
}

/// The latest view, as soon as it is another one than the last. One that is gone has been replaced.
async fn after(hub: &Hub, last: &Weak<Published>) -> Arc<Published> {
    loop {
        // Before the look: a view that is published in between is not missed.
        let replaced = hub.replaced();
        let latest = hub.latest();
        if let Some(latest) = latest.filter(|it| !std::ptr::eq(Arc::as_ptr(it), last.as_ptr())) {
            return latest;
        }
        replaced.await;
    }
}
