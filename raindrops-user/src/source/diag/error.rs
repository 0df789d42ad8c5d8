//! What can go wrong when sockets are listed. One type for the whole source, because callers act on
//! two things only: whether a module is missing, and what to print.

use std::{fmt, io, path::PathBuf};

use crate::ids::NetnsId;

/// Kernel module that answers a kind of sock_diag request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagModule {
    Inet,
    Tcp,
    Unix,
}

impl DiagModule {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet_diag",
            Self::Tcp => "tcp_diag",
            Self::Unix => "unix_diag",
        }
    }

    /// The command that loads it. `tcp_diag` depends on `inet_diag` and is needed with it.
    #[must_use]
    pub const fn modprobe(self) -> &'static str {
        match self {
            Self::Inet | Self::Tcp => "modprobe tcp_diag",
            Self::Unix => "modprobe unix_diag",
        }
    }
}

impl fmt::Display for DiagModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    #[error("{operation} the sock_diag netlink socket")]
    Socket {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("list {subject}: the kernel module {module} is not loaded; run `{}`", module.modprobe())]
    ModuleMissing {
        subject: &'static str,
        module: DiagModule,
    },
    /// The kernel answered with an error.
    #[error("list {subject}: the kernel refused")]
    Refused {
        subject: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("list {subject}: receive the kernel's answer")]
    Receive {
        subject: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("list {subject}: the kernel's answer has no end")]
    Endless { subject: &'static str },
    #[error("list {subject}: a datagram of {size} bytes did not fit in {room}")]
    Truncated {
        subject: &'static str,
        size: usize,
        room: usize,
    },
    /// The socket had to be opened again, in a thread that has moved to another namespace.
    #[error(
        "reopen the sock_diag netlink socket of network namespace {opened}: this thread is in {current}"
    )]
    Moved { opened: NetnsId, current: NetnsId },
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} has no {what}", path.display())]
    Content { path: PathBuf, what: &'static str },
}

impl DiagError {
    /// The module that is not loaded, where that is the reason.
    #[must_use]
    pub const fn missing_module(&self) -> Option<DiagModule> {
        match self {
            Self::ModuleMissing { module, .. } => Some(*module),
            _ => None,
        }
    }
}
