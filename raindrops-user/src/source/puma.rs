//! Puma's control servers: asked for their figures as `pumactl stats` does.
//!
//! Each on a thread of its own, because an answer takes as long as the asked process lets it take:
//! up to a second where its threads keep the interpreter busy, for ever where it is stopped. Nobody
//! waits for one; what is here is the last answer, and its age.

mod answer;
mod ask;
mod reader;

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;

use self::reader::Reader;
use crate::{causes::with_causes, config::PumaControl, plan::Off, snapshot::puma::PumaSnapshot};

/// The control servers that are asked. May be told of others at any time.
#[derive(Debug, Default)]
pub struct PumaControls {
    readers: Mutex<Vec<Reader>>,
}

impl PumaControls {
    /// Asks these from now on, and no others. What is known of those that stay is kept.
    pub fn aim(&self, controls: Vec<PumaControl>) {
        let mut readers = self.readers();
        let mut before = std::mem::take(&mut *readers);
        *readers = controls
            .into_iter()
            .map(|control| {
                let same = before.iter().position(|it| it.control == control);
                same.map_or_else(|| Reader::start(control), |index| before.swap_remove(index))
            })
            .collect();
    }

    /// Says whether anybody looks at the answers; where nobody does, they may be older.
    pub fn note_reader(&self, is_read: bool) {
        for reader in &*self.readers() {
            reader.note_reader(is_read);
        }
    }

    /// The latest answers. `None` where no control server is configured.
    #[must_use]
    pub fn latest(&self) -> Option<PumaSnapshot> {
        let readers = self.readers();
        let controls = readers.iter().map(Reader::seen).collect();
        (!readers.is_empty()).then_some(PumaSnapshot { controls })
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no answer. Nothing of what was received is in it: that may hold the token.
#[derive(Debug, Error)]
enum PumaError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("its queue is full: it accepts nothing")]
    QueueFull,
    #[error("no answer within {} s: it is stopped, or its interpreter is busy", ask::PATIENCE.as_secs())]
    Timeout,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("it refuses the token (403)")]
    WrongToken,
    #[error("it has no command stats (404)")]
    NoStats,
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("what it answers is not puma's")]
    NotPuma,
}

impl PumaError {
    /// What would help, where something would.
    fn grant(&self) -> Option<&'static str> {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        match self {
            Self::Connect(error) => match error.kind() {
                NotFound | ConnectionRefused => {
                    Some("start puma with activate_control_app, or correct control_url in [puma]")
                }
                PermissionDenied => Some("run the daemon as root, or as the user of puma"),
                _ => None,
            },
            Self::WrongToken => {
                Some("set token in [puma] to the auth_token of puma's activate_control_app")
            }
            Self::NoStats => Some("let puma's control app answer stats"),
            Self::Status(_) | Self::NotPuma => Some("correct control_url in [puma]"),
            Self::QueueFull | Self::Timeout | Self::Broken(_) => None,
        }
    }

    fn off(&self) -> Off {
        Off {
            reason: with_causes(self),
            grant: self.grant().map(str::to_owned),
        }
    }
}
