//! How much the daemon sees of turns, as what is compared.

use std::time::Duration;

use anyhow::Result;

use super::{Setting, daemon::Daemon};

/// For so long after the start the programs look for connections that are older than they are, where
/// there are none; meanwhile a read on a socket that is not followed costs more.
pub const LOOKS_FOR_OLDER: Duration = Duration::from_millis(1200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turns {
    Off,
    Light,
    On,
}

impl Turns {
    pub const ALL: [Self; 3] = [Self::Off, Self::Light, Self::On];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Light => "light",
            Self::On => "on",
        }
    }

    /// Starts a daemon that sees so much. `Err` with the reason where it does not.
    pub fn daemon(self, setting: &Setting, arguments: &[&str]) -> Result<Result<Daemon, String>> {
        let arguments = [&["--turns", self.name()], arguments].concat();
        let daemon = Daemon::start(&setting.raindrops, &arguments)?;
        let bpf = daemon.source("bpf")?;
        // `off` with the reason, or the hooks: those of reads and writes, and those of ends.
        let hooks = bpf["detail"]["turns"].as_str();
        let sees = hooks.map(|hooks| match hooks {
            off if off.starts_with("off") => Self::Off,
            both if both.contains('+') => Self::On,
            _ => Self::Light,
        });
        if sees == Some(self) {
            return Ok(Ok(daemon));
        }
        daemon.end()?;
        let reasons = [&bpf["reason"], &bpf["detail"]["refused"]];
        let mut reasons = reasons.iter().filter_map(|reason| reason.as_str());
        let reason = reasons.next().or(hooks).unwrap_or("no reason is given");
        Ok(Err(reason.to_owned()))
    }
}
