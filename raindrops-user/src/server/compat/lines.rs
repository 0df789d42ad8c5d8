//! An answer that does not end: a line for each sample.
//!
//! It holds nothing but the latest sample. A client that does not read misses lines; after a while it
//! is cut off, as every client is that takes nothing.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::watch;

use crate::compat::{
    rows::{Name, Row},
    tail::{Thresholds, line, width},
};

/// All listeners at one instant.
#[derive(Debug)]
pub struct Snapshot {
    pub at: SystemTime,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub enum Moment {
    /// There is none yet.
    Before,
    At(Arc<Snapshot>),
    /// There will be none any more.
    Over,
}

/// Lines of one listener.
#[derive(Debug)]
struct Tail {
    moments: watch::Receiver<Moment>,
    name: Name,
    shown: String,
    thresholds: Thresholds,
}

impl Tail {
    /// The next line; `None` at the end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            self.moments.changed().await.ok()?;
            let moment = self.moments.borrow_and_update().clone();
            let line = match moment {
                Moment::Before => None,
                Moment::At(snapshot) => self.line(&snapshot),
                Moment::Over => return None,
            };
            if let Some(line) = line {
                return Some((line.into(), self));
            }
        }
    }

    fn line(&self, snapshot: &Snapshot) -> Option<String> {
        let mut rows = snapshot.rows.iter();
        let row = rows.find(|row| row.is_called(&self.name))?;
        let width = width([self.shown.as_str()]);
        let passes = self.thresholds.pass(row);
        passes.then(|| line(snapshot.at, &self.shown, width, row))
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Tail)>> + Send>>;

pub struct Lines {
    /// `None` after the end.
    next: Option<Next>,
}

impl Lines {
    pub fn new(
        mut moments: watch::Receiver<Moment>,
        (name, shown): (Name, String),
        thresholds: Thresholds,
    ) -> Self {
        // Lines are of what comes, not of what was there; but an end that was there stays one.
        if !matches!(*moments.borrow_and_update(), Moment::Over) {
            moments.mark_unchanged();
        } else {
            moments.mark_changed();
        }
        let tail = Tail {
            moments,
            name,
            shown,
            thresholds,
        };
        Self {
            next: Some(Box::pin(tail.next())),
        }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let line = ready!(next.as_mut().poll(cx));
        self.next = None;
        Poll::Ready(line.map(|(line, tail)| {
            self.next = Some(Box::pin(tail.next()));
            Ok(Frame::data(line))
        }))
    }
}
