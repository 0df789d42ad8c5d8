//! Which network namespaces are read.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::Deserialize;

use super::Off;
use crate::{
    host::{Capabilities, Facts},
    ids::Pid,
};

/// The namespaces that the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Typed")]
pub enum NetnsChoice {
    All,
    /// Only the daemon's.
    Own,
    /// Only the one of this name.
    Name(String),
    /// Only the one that this process is in when the daemon starts.
    Pid(Pid),
}

/// As a configuration file may have it: a PID need not be quoted.
#[derive(Deserialize)]
#[serde(untagged)]
enum Typed {
    Number(u32),
    Text(String),
}

impl From<Typed> for NetnsChoice {
    fn from(typed: Typed) -> Self {
        match typed {
            Typed::Number(pid) => Self::Pid(Pid(pid)),
            Typed::Text(text) => Self::parse(&text),
        }
    }
}

impl NetnsChoice {
    fn parse(text: &str) -> Self {
        match text {
            "all" => Self::All,
            "own" => Self::Own,
            _ => text
                .parse()
                .map_or_else(|_| Self::Name(text.to_owned()), |pid| Self::Pid(Pid(pid))),
        }
    }
}

impl FromStr for NetnsChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for NetnsChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Own => f.write_str("own"),
            Self::Name(name) => f.write_str(name),
            Self::Pid(pid) => pid.fmt(f),
        }
    }
}

/// The namespaces that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    All,
    /// Only the daemon's, and why not the others where the operator did not ask for that.
    Own(Option<Off>),
    Name(String),
    Pid(Pid),
}

/// Decides which namespaces are read; `wanted` where the operator said.
///
/// # Errors
/// When one namespace was asked for that we may not enter.
pub fn namespaces(facts: &Facts, wanted: Option<NetnsChoice>) -> Result<Namespaces, Off> {
    let Capabilities { sys_admin, .. } = facts.capabilities;
    let not_allowed = || {
        Off::new(
            "entering another network namespace needs the capability CAP_SYS_ADMIN",
            Some("run with sudo, or give the program CAP_SYS_ADMIN and CAP_SYS_PTRACE"),
        )
    };
    match wanted {
        Some(NetnsChoice::Own) => Ok(Namespaces::Own(None)),
        None | Some(NetnsChoice::All) if !sys_admin => Ok(Namespaces::Own(Some(not_allowed()))),
        None | Some(NetnsChoice::All) => Ok(Namespaces::All),
        Some(_) if !sys_admin => Err(not_allowed()),
        Some(NetnsChoice::Name(name)) => Ok(Namespaces::Name(name)),
        Some(NetnsChoice::Pid(pid)) => Ok(Namespaces::Pid(pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::KernelVersion;

    fn facts(sys_admin: bool) -> Facts {
        Facts {
            kernel: KernelVersion::new(6, 18),
            release: String::new(),
            host_name: String::new(),
            boot_id: None,
            cpus: 2,
            types: Err(String::new()),
            capabilities: Capabilities {
                sys_admin,
                ..Capabilities::default()
            },
            netns: None,
            in_initial_pid_namespace: Some(true),
        }
    }

    #[test]
    fn all_are_read_where_that_is_allowed_else_the_own_with_the_reason() {
        for wanted in [None, Some(NetnsChoice::All)] {
            let decided = |sys_admin| namespaces(&facts(sys_admin), wanted.clone());
            assert_eq!(decided(true), Ok(Namespaces::All));
            let Ok(Namespaces::Own(Some(off))) = decided(false) else {
                panic!("{:?}", decided(false));
            };
            assert!(off.reason.contains("CAP_SYS_ADMIN") && off.grant.is_some());
        }
    }

    #[test]
    fn what_was_chosen_is_read_or_refused() {
        for (wanted, expected) in [
            (NetnsChoice::Own, Namespaces::Own(None)),
            (
                NetnsChoice::Name("web".to_owned()),
                Namespaces::Name("web".to_owned()),
            ),
            (NetnsChoice::Pid(Pid(7)), Namespaces::Pid(Pid(7))),
        ] {
            let decided = |sys_admin| namespaces(&facts(sys_admin), Some(wanted.clone()));
            assert_eq!(decided(true), Ok(expected));
            assert_eq!(decided(false).is_ok(), wanted == NetnsChoice::Own);
        }
    }

    #[test]
    fn is_typed_as_it_prints() {
        for (text, wanted) in [
            ("all", NetnsChoice::All),
            ("own", NetnsChoice::Own),
            ("web-1", NetnsChoice::Name("web-1".to_owned())),
            ("17", NetnsChoice::Pid(Pid(17))),
        ] {
            assert_eq!(text.parse(), Ok(wanted.clone()));
            assert_eq!(wanted.to_string(), text);
        }
    }
}
