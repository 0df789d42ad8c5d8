//! What `raindrops serve` is told: by its command line, by its configuration file, or not at all.
//!
//! The command line wins over the file, the file over the defaults. Reading the file is apart from
//! understanding it, so that a broken one can be reported without touching what runs.

mod hook;
mod places;
mod puma;

use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

pub use self::{
    hook::HookName,
    places::{MetricsPlaces, SlabPlaces},
    puma::{PumaControl, Token},
};
use crate::{
    closest::closest,
    history::{LONGEST_REACH, USUAL_REACH},
    plan::{AcceptHook, Turns, netns::NetnsChoice},
    render::openmetrics::USUAL_LISTENERS,
    select::Selector,
    settings_file::{self, FileError},
};

/// Where the daemon of the whole host serves.
pub const HOST_SOCKET: &str = "/run/raindrops/raindrops.sock";
/// Where applications publish slabs.
pub const SLAB_DIRECTORY: &str = "/run/raindrops/slabs";
pub const SAMPLE_HZ: std::ops::RangeInclusive<u32> = 1..=100;
/// Rows of the table of connections. It is preallocated, so an accident must not take the memory.
pub const MAX_CONNECTIONS: std::ops::RangeInclusive<u32> = 1..=16_777_216;
/// Each is some hundred lines of a scrape.
pub const METRICS_LISTENERS: std::ops::RangeInclusive<u32> = 1..=100_000;

/// Bytes of a configuration file.
const LARGEST: u64 = 1 << 20;

const KEYS: [&str; 20] = [
    "accept_hook",
    "allow_remote",
    "history",
    "inferred_slabs",
    "listen_tcp",
    "listener",
    "log",
    "max_connections",
    "metrics_listeners",
    "netns",
    "no_bpf",
    "puma",
    "puma_token_file",
    "sample_hz",
    "slab",
    "slab_directory",
    "socket",
    "textfile",
    "turns",
    "verbose",
];

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: FileError },
    #[error("{}: not a configuration: {message}; correct the file", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{}: unknown key {key:?}; did you mean {closest:?}?", path.display())]
    UnknownKey {
        path: PathBuf,
        key: String,
        closest: &'static str,
    },
    #[error(
        "{name} is {value}: it must be from {least} to {most}; correct it in the configuration file \
         or on the command line"
    )]
    OutOfRange {
        name: &'static str,
        value: u32,
        least: u32,
        most: u32,
    },
    #[error(
        "accept_hook \"peername\" (--accept-hook) is not supported: it would not see accept() of those \
         who ask for no address, nor of unix listeners; use \"auto\", \"fexit\" or \"syscall\""
    )]
    NoProgram,
    #[error(
        "[[listener]] address {address:?} is an id, which is another one when its server starts \
         again; name the address, as in \":8443\""
    )]
    ListenerId { address: String },
    #[error(
        "listen_tcp {address} can be reached from other hosts; use 127.0.0.1:{}, or allow_remote \
         (--allow-remote) where they may read which servers run here and how busy they are",
        address.port()
    )]
    Remote { address: SocketAddr },
    #[error(
        "XDG_RUNTIME_DIR is not set, so there is no default for the socket; pass --socket PATH"
    )]
    NoSocket,
}

/// What one place said; keys that it did not name are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub socket: Option<PathBuf>,
    pub no_bpf: Option<bool>,
    pub accept_hook: Option<HookName>,
    pub sample_hz: Option<u32>,
    pub max_connections: Option<u32>,
    pub netns: Option<NetnsChoice>,
    pub turns: Option<Turns>,
    pub listener: Option<Vec<ListenerOptions>>,
    pub log: Option<PathBuf>,
    pub verbose: Option<bool>,
    #[serde(default, deserialize_with = "puma::tables")]
    pub puma: Option<Vec<PumaControl>>,
    pub puma_token_file: Option<PathBuf>,
    pub slab: Option<Vec<PathBuf>>,
    pub slab_directory: Option<PathBuf>,
    pub inferred_slabs: Option<bool>,
    /// How long the past is kept: `15m`, `0s`.
    #[serde(default, deserialize_with = "span")]
    pub history: Option<Duration>,
    pub listen_tcp: Option<SocketAddr>,
    pub allow_remote: Option<bool>,
    pub textfile: Option<PathBuf>,
    /// How many listeners have series.
    pub metrics_listeners: Option<u32>,
}

/// As people write times: `90s`, `15m`.
fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let span = reach(&text).map_err(D::Error::custom)?;
    Ok(Some(span))
}

/// How long the past is kept.
///
/// # Errors
/// Where that is not a time, or too long a one.
pub fn reach(text: &str) -> Result<Duration, String> {
    let longest = humantime::format_duration(LONGEST_REACH);
    let reach = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a time such as 90s or 15m"))?;
    if reach > LONGEST_REACH {
        return Err(format!("{text:?} is longer than {longest}"));
    }
    Ok(reach)
}

/// What is said of some listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerOptions {
    /// As an operator types it: `:8443`, `127.0.0.1:8443`, `/run/app.sock`.
    pub address: String,
    /// `off`: their traffic has no turns that could be told (HTTP/2, websockets).
    pub turns: ListenerTurns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerTurns {
    On,
    Off,
}

impl Options {
    /// From a TOML file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = settings_file::read(path, "the configuration file", LARGEST);
        let text = text.map_err(|error| ConfigError::File {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            message: in_one_line(&error, text),
        };
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                closest: closest(key, KEYS).unwrap_or(KEYS[0]),
                key: key.clone(),
            });
        }
        toml::from_str(text).map_err(syntax)
    }

    /// These, and from `other` what these leave open.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            socket: self.socket.or(other.socket),
            no_bpf: self.no_bpf.or(other.no_bpf),
            accept_hook: self.accept_hook.or(other.accept_hook),
            sample_hz: self.sample_hz.or(other.sample_hz),
            max_connections: self.max_connections.or(other.max_connections),
            netns: self.netns.or(other.netns),
            turns: self.turns.or(other.turns),
            listener: self.listener.or(other.listener),
            log: self.log.or(other.log),
            verbose: self.verbose.or(other.verbose),
            puma: self.puma.or(other.puma),
            puma_token_file: self.puma_token_file.or(other.puma_token_file),
            slab: self.slab.or(other.slab),
            slab_directory: self.slab_directory.or(other.slab_directory),
            inferred_slabs: self.inferred_slabs.or(other.inferred_slabs),
            history: self.history.or(other.history),
            listen_tcp: self.listen_tcp.or(other.listen_tcp),
            allow_remote: self.allow_remote.or(other.allow_remote),
            textfile: self.textfile.or(other.textfile),
            metrics_listeners: self.metrics_listeners.or(other.metrics_listeners),
        }
    }
}

/// Whether any user may read a file; `false` where that cannot be told.
#[must_use]
pub fn is_readable_by_all(path: &Path) -> bool {
    const OTHERS_READ: u32 = 0o004;
    path.metadata()
        .is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0)
}

/// What TOML says on several lines, with a drawing of the place.
fn in_one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace('\n', "; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else {
        return message;
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
    format!("line {line}, column {column}: {message}")
}

/// Everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub socket: PathBuf,
    pub bpf: bool,
    pub accept_hook: AcceptHook,
    pub sample_hz: u32,
    pub max_connections: u32,
    /// `None` leaves it to what we may do.
    pub netns: Option<NetnsChoice>,
    pub turns: Turns,
    /// Listeners whose turns are not shown.
    pub without_turns: Vec<Selector>,
    pub log: Option<PathBuf>,
    pub verbose: bool,
    /// Control servers of puma that are asked.
    pub puma: Vec<PumaControl>,
    /// Which tokens ask for which server, for pumactl.
    pub puma_token_file: Option<PathBuf>,
    pub slabs: SlabPlaces,
    /// How long the past is kept.
    pub history: Duration,
    pub metrics: MetricsPlaces,
}

impl Settings {
    pub fn decide(options: Options, who: &Who) -> Result<Self, ConfigError> {
        let Options {
            socket,
            no_bpf,
            accept_hook,
            sample_hz,
            max_connections,
            netns,
            turns,
            listener,
            log,
            verbose,
            puma,
            puma_token_file,
            slab,
            slab_directory,
            inferred_slabs,
            history,
            listen_tcp,
            allow_remote,
            textfile,
            metrics_listeners,
        } = options;
        let within = |name, range: std::ops::RangeInclusive<u32>, value: u32| {
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(ConfigError::OutOfRange {
                    name,
                    value,
                    least: *range.start(),
                    most: *range.end(),
                })
            }
        };
        Ok(Self {
            socket: match socket {
                Some(socket) => socket,
                None => who.own_socket().ok_or(ConfigError::NoSocket)?,
            },
            bpf: !no_bpf.unwrap_or(false),
            accept_hook: match accept_hook {
                Some(name) => name.hook().ok_or(ConfigError::NoProgram)?,
                None => AcceptHook::default(),
            },
            sample_hz: within("sample_hz", SAMPLE_HZ, sample_hz.unwrap_or(10))?,
            max_connections: within(
                "max_connections",
                MAX_CONNECTIONS,
                max_connections.unwrap_or(131_072),
            )?,
            netns,
            turns: turns.unwrap_or_default(),
            without_turns: listener
                .into_iter()
                .flatten()
                .filter(|listener| listener.turns == ListenerTurns::Off)
                .map(|listener| match Selector::parse(&listener.address) {
                    Selector::Id(address) => Err(ConfigError::ListenerId { address }),
                    selector => Ok(selector),
                })
                .collect::<Result<_, _>>()?,
            log,
            verbose: verbose.unwrap_or(false),
            puma: puma.unwrap_or_default(),
            puma_token_file,
            slabs: {
                let default = SlabPlaces::default();
                SlabPlaces {
                    files: slab.unwrap_or(default.files),
                    directory: slab_directory.or(default.directory),
                    inferred: inferred_slabs.unwrap_or(default.inferred),
                }
            },
            history: history.unwrap_or(USUAL_REACH),
            metrics: MetricsPlaces {
                tcp: match listen_tcp {
                    Some(address)
                        if !allow_remote.unwrap_or(false)
                            && !address.ip().to_canonical().is_loopback() =>
                    {
                        return Err(ConfigError::Remote { address });
                    }
                    address => address,
                },
                allow_remote: allow_remote.unwrap_or(false),
                textfile,
                listeners: within(
                    "metrics_listeners",
                    METRICS_LISTENERS,
                    metrics_listeners.unwrap_or(USUAL_LISTENERS),
                )?,
            },
        })
    }

    /// Whether any of it is a secret.
    #[must_use]
    pub fn holds_secrets(&self) -> bool {
        self.puma.iter().any(|control| control.token.is_some())
    }
}

/// Who runs this, as far as default paths depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub root: bool,
    pub runtime_directory: Option<OsString>,
}

impl Who {
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            runtime_directory: std::env::var_os("XDG_RUNTIME_DIR"),
        }
    }

    /// Where a daemon of this user serves.
    #[must_use]
    pub fn own_socket(&self) -> Option<PathBuf> {
        if self.root {
            return Some(PathBuf::from(HOST_SOCKET));
        }
        // The specification says to ignore a relative one.
        let directory = PathBuf::from(self.runtime_directory.as_ref()?);
        directory
            .is_absolute()
            .then(|| directory.join("raindrops.sock"))
    }

    /// Where a client of this user looks for a daemon, in order.
    #[must_use]
    pub fn known_sockets(&self) -> Vec<PathBuf> {
        let mut sockets: Vec<PathBuf> = self.own_socket().into_iter().collect();
        if !self.root {
            sockets.push(PathBuf::from(HOST_SOCKET));
        }
        sockets
    }
}

#[cfg(test)]
mod tests;
