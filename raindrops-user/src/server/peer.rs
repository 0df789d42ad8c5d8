//! Who asks, as the kernel attests it, and what that one may.
//!
//! Only users count: a process id can be another process's by the time of the answer, and groups would
//! have to be looked up where a thrashing host may take for ever.

use rustix::process::geteuid;
use tokio::net::UnixStream;

use crate::publish::Audience;

/// The user at the other end of a connection, as of its connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` where the kernel does not tell.
    uid: Option<u32>,
    /// The daemon's.
    ours: u32,
}

impl Peer {
    /// Of whom nothing is known, as over TCP.
    pub const UNKNOWN: Self = Self {
        uid: None,
        ours: u32::MAX,
    };

    /// Another than the daemon's.
    #[cfg(test)]
    pub const fn user(uid: u32) -> Self {
        Self {
            uid: Some(uid),
            ours: 0,
        }
    }

    pub fn of(stream: &UnixStream) -> Self {
        Self {
            uid: stream.peer_cred().ok().map(|it| it.uid()),
            ours: geteuid().as_raw(),
        }
    }

    /// Root, and the user who runs the daemon: they could see and do all of it without the daemon.
    pub fn is_trusted(self) -> bool {
        self.uid.is_some_and(|uid| uid == 0 || uid == self.ours)
    }

    pub const fn uid(self) -> Option<u32> {
        self.uid
    }

    pub fn audience(self) -> Audience {
        if self.is_trusted() {
            Audience::Trusted
        } else {
            Audience::Others
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn root_and_the_daemons_user_are_trusted() {
        for (uid, ours, is_trusted) in [
            (Some(0), 1000, true),
            (Some(1000), 1000, true),
            (Some(1001), 1000, false),
            (Some(1001), 0, false),
            (None, 0, false),
        ] {
            let peer = Peer { uid, ours };
            assert_eq!(peer.is_trusted(), is_trusted, "{peer:?}");
        }
    }
}
