//! Where a listener listens, as the kernel tells it and as an operator types it.
//!
//! Unix names are bytes: abstract names and paths need not be UTF-8. They are escaped on output,
//! never converted.

use std::{fmt, net::IpAddr};

use crate::escape::escaped;

/// Address and port of one end of a TCP connection.
pub type Endpoint = (IpAddr, u16);

/// Address of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Tcp { ip: IpAddr, port: u16 },
    Unix(UnixName),
}

/// Name of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnixName {
    Path(Vec<u8>),
    /// Without the leading NUL byte.
    Abstract(Vec<u8>),
    /// Listening without having been bound.
    Unnamed,
}

impl UnixName {
    /// From `sun_path` as the kernel reports it, without a trailing NUL of a path.
    #[must_use]
    pub fn from_sun_path(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Unnamed,
            [0, name @ ..] => Self::Abstract(name.to_vec()),
            path => {
                let end = path
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(path.len());
                Self::Path(path[..end].to_vec())
            }
        }
    }
}

impl Address {
    #[must_use]
    pub const fn protocol(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Unix(_) => "unix",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp {
                ip: IpAddr::V4(ip),
                port,
            } => write!(f, "{ip}:{port}"),
            Self::Tcp {
                ip: IpAddr::V6(ip),
                port,
            } => write!(f, "[{ip}]:{port}"),
            Self::Unix(UnixName::Path(path)) => f.write_str(&escaped(path)),
            Self::Unix(UnixName::Abstract(name)) => write!(f, "@{}", escaped(name)),
            Self::Unix(UnixName::Unnamed) => f.write_str("(unnamed)"),
        }
    }
}
