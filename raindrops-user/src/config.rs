//! What `raindrops serve` is told: by its command line, by its configuration file, or not at all.
//!
//! The command line wins over the file, the file over the defaults. Reading the file is apart from
//! understanding it, so that a broken one can be reported without touching what runs.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::{
    closest::closest,
    plan::{AcceptHook, netns::NetnsChoice},
};

/// Where the daemon of the whole host serves.
pub const HOST_SOCKET: &str = "/run/raindrops/raindrops.sock";
pub const SAMPLE_HZ: std::ops::RangeInclusive<u32> = 1..=100;
/// Rows of the table of connections. It is preallocated, so an accident must not take the memory.
pub const MAX_CONNECTIONS: std::ops::RangeInclusive<u32> = 1..=16_777_216;

/// Bytes of a configuration file.
const LARGEST: u64 = 1 << 20;

const KEYS: [&str; 8] = [
    "accept_hook",
    "log",
    "max_connections",
    "netns",
    "no_bpf",
    "sample_hz",
    "socket",
    "verbose",
];

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{}: cannot read the configuration file: {error}; check the path and its mode", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: not a regular file; pass a --config FILE that is one", path.display())]
    Kind { path: PathBuf },
    #[error("{}: a configuration file is under 1 MiB; check the path", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}: not a configuration: {message}; correct the file", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{}: unknown key {key:?}; did you mean {closest:?}?", path.display())]
    UnknownKey {
        path: PathBuf,
        key: String,
        closest: &'static str,
    },
    #[error("{name} is {value}: it must be from {least} to {most}")]
    OutOfRange {
        name: &'static str,
        value: u32,
        least: u32,
        most: u32,
    },
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
    pub accept_hook: Option<AcceptHook>,
    pub sample_hz: Option<u32>,
    pub max_connections: Option<u32>,
    pub netns: Option<NetnsChoice>,
    pub log: Option<PathBuf>,
    pub verbose: Option<bool>,
}

impl Options {
    /// From a TOML file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |error| ConfigError::Read {
            path: path.to_owned(),
            error,
        };
        let file = File::options()
            .read(true)
            // A FIFO without a writer would make this wait for one.
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            let path = path.to_owned();
            return Err(ConfigError::Kind { path });
        }
        let mut text = String::new();
        file.take(LARGEST + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > LARGEST {
            let path = path.to_owned();
            return Err(ConfigError::TooLarge { path });
        }
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
            log: self.log.or(other.log),
            verbose: self.verbose.or(other.verbose),
        }
    }
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
    pub log: Option<PathBuf>,
    pub verbose: bool,
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
            log,
            verbose,
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
            accept_hook: accept_hook.unwrap_or_default(),
            sample_hz: within("sample_hz", SAMPLE_HZ, sample_hz.unwrap_or(10))?,
            max_connections: within(
                "max_connections",
                MAX_CONNECTIONS,
                max_connections.unwrap_or(131_072),
            )?,
            netns,
            log,
            verbose: verbose.unwrap_or(false),
        })
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
mod tests {
    use std::path::{Path, PathBuf};

    use super::{AcceptHook, KEYS, NetnsChoice, Options, Settings, Who};

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(Path::new("r.toml"), text).map_err(|error| error.to_string())
    }

    fn who(root: bool, directory: Option<&str>) -> Who {
        Who {
            root,
            runtime_directory: directory.map(Into::into),
        }
    }

    #[test]
    fn every_key_is_read() {
        let all = "socket = '/a'\nno_bpf = true\naccept_hook = 'fexit'\nsample_hz = 20\n\
                   max_connections = 1000\nnetns = 'web'\nlog = '/l'\nverbose = true\n";
        let expected = Options {
            socket: Some("/a".into()),
            no_bpf: Some(true),
            accept_hook: Some(AcceptHook::Fexit),
            sample_hz: Some(20),
            max_connections: Some(1000),
            netns: Some(NetnsChoice::Name("web".to_owned())),
            log: Some("/l".into()),
            verbose: Some(true),
        };
        assert_eq!(parse(all), Ok(expected));
        assert_eq!(all.lines().count(), KEYS.len());
        assert_eq!(parse(""), Ok(Options::default()));
    }

    #[test]
    fn a_namespace_is_a_word_or_a_process() {
        let netns = |text| parse(text).unwrap().netns;
        assert_eq!(netns("netns = 'all'"), Some(NetnsChoice::All));
        assert_eq!(netns("netns = 17"), netns("netns = '17'"));
        assert!(parse("netns = true").is_err());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            (
                "sampel_hz = 1",
                "r.toml: unknown key \"sampel_hz\"; did you mean \"sample_hz\"?",
            ),
            (
                "no-bpf = true",
                "r.toml: unknown key \"no-bpf\"; did you mean \"no_bpf\"?",
            ),
            (
                "sample_hz = 'x'",
                "invalid type: string \"x\", expected u32",
            ),
            (
                "accept_hook = 'x'",
                "unknown variant `x`, expected one of `auto`",
            ),
            (
                "sample_hz =",
                "r.toml: not a configuration: line 1, column 12: ",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = Options::read("/nonexistent".as_ref())
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent: cannot read"), "{error}");
    }

    #[test]
    fn only_a_regular_file_is_read_and_not_without_end() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let directory = tempfile::tempdir().unwrap();
        let (fifo, large) = (
            directory.path().join("fifo"),
            directory.path().join("large"),
        );
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::fs::write(&large, " ".repeat((1 << 20) + 1)).unwrap();
        for (path, message) in [
            (fifo.as_path(), "not a regular file"),
            (directory.path(), "not a regular file"),
            (Path::new("/dev/zero"), "not a regular file"),
            (&large, "under 1 MiB"),
        ] {
            let error = Options::read(path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_defaults() {
        let line = Options {
            sample_hz: Some(50),
            ..Options::default()
        };
        let file = parse("sample_hz = 20\nlog = '/l'").unwrap();
        let settings = Settings::decide(line.or(file), &who(true, None)).unwrap();
        let expected = Settings {
            socket: "/run/raindrops/raindrops.sock".into(),
            bpf: true,
            accept_hook: AcceptHook::Auto,
            sample_hz: 50,
            max_connections: 131_072,
            netns: None,
            log: Some("/l".into()),
            verbose: false,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn figures_must_be_in_range() {
        for (text, message) in [
            ("sample_hz = 0", "sample_hz is 0: it must be from 1 to 100"),
            (
                "sample_hz = 101",
                "sample_hz is 101: it must be from 1 to 100",
            ),
            (
                "max_connections = 0",
                "max_connections is 0: it must be from 1 to 16777216",
            ),
        ] {
            let error = Settings::decide(parse(text).unwrap(), &who(true, None)).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn sockets_depend_on_who_runs_it() {
        let host = || PathBuf::from("/run/raindrops/raindrops.sock");
        let own = PathBuf::from("/run/user/7/raindrops.sock");
        assert_eq!(who(true, Some("/run/user/0")).known_sockets(), [host()]);
        let user = who(false, Some("/run/user/7"));
        assert_eq!(user.own_socket(), Some(own.clone()));
        assert_eq!(user.known_sockets(), [own, host()]);
        for nobody in [who(false, None), who(false, Some("run"))] {
            let error = Settings::decide(Options::default(), &nobody).unwrap_err();
            assert!(error.to_string().contains("pass --socket PATH"), "{error}");
            assert_eq!(nobody.known_sockets(), [host()]);
        }
    }

    #[test]
    fn hooks_print_as_they_are_typed() {
        for name in AcceptHook::NAMES {
            assert_eq!(name.parse::<AcceptHook>().unwrap().to_string(), name);
        }
    }
}
