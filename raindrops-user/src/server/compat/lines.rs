//! An answer that does not end: a line for each sample.
//!
//! It holds nothing but the latest sample. A client that does not read misses lines; after a while it
//! is cut off, as every client is that takes nothing.

use std::{sync::Arc, time::SystemTime};

use hyper::body::Bytes;
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
pub struct Tail {
    moments: watch::Receiver<Moment>,
    name: Name,
    shown: String,
    thresholds: Thresholds,
}

impl Tail {
    pub fn new(
        mut moments: watch::Receiver<Moment>,
        (name, shown): (Name, String),
        thresholds: Thresholds,
    ) -> Self {
        // Lines are of what comes, not of what was there; but an end that was there stays one.
        if matches!(*moments.borrow_and_update(), Moment::Over) {
            moments.mark_changed();
        }
        Self {
            moments,
            name,
            shown,
            thresholds,
        }
    }

    /// The next line; `None` at the end.
    pub async fn next(mut self) -> Option<(Bytes, Self)> {
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
