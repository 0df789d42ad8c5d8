//! How turns are followed on this host, or why they are not.
//!
//! Apart from the rest of the plan because all the rest does without them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use raindrops_ebpf::names::program;
use serde::Deserialize;

use super::{Off, PREEMPTIBLE_RAW_TRACEPOINTS};
use crate::host::{KernelTypes, KernelVersion};

/// Programs may go over all entries of a map.
const LOOPS_OVER_MAPS: KernelVersion = KernelVersion::new(5, 13);

/// How much is seen of turns, as the operator asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turns {
    #[default]
    On,
    /// Without the hooks on system calls that tell the end of an answer.
    Light,
    Off,
}

impl Turns {
    pub const NAMES: [&str; 3] = ["on", "light", "off"];
}

impl FromStr for Turns {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "light" => Ok(Self::Light),
            "off" => Ok(Self::Off),
            _ => Err("on, light or off"),
        }
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

/// How turns are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnsPlan {
    pub way: TurnsWay,
    /// The system calls that tell the end of an answer are hooked, too.
    pub sees_ends: bool,
}

impl TurnsPlan {
    /// Whether turns of unix connections are followed.
    #[must_use]
    pub fn sees_unix(&self) -> bool {
        !matches!(self.way, TurnsWay::Functions(_))
    }
}

/// A way to observe reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnsWay {
    /// On the tracepoints that are made for it, of all kinds of sockets.
    RawTracepoints,
    /// The same where programs on raw ones can be preempted, and the kernel skips others meanwhile.
    Tracepoints,
    /// On the exits of the kernel's own functions for IP sockets, by the programs of their names. Unix
    /// sockets have others.
    Functions(Vec<&'static str>),
}

/// # Errors
/// When they are not followed, with the reason.
pub(super) fn plan(
    kernel: KernelVersion,
    types: &KernelTypes,
    wanted: Turns,
) -> Result<TurnsPlan, Off> {
    if wanted == Turns::Off {
        return Err(Off::new(
            "switched off by --turns off",
            Some("start without --turns off"),
        ));
    }
    if kernel < LOOPS_OVER_MAPS {
        return Err(Off::new(
            "this kernel's programs cannot go over all connections",
            Some("Linux 5.13"),
        ));
    }
    let way = if types.has_turn_tracepoints && kernel >= PREEMPTIBLE_RAW_TRACEPOINTS {
        TurnsWay::Tracepoints
    } else if types.has_turn_tracepoints {
        TurnsWay::RawTracepoints
    } else {
        TurnsWay::Functions(transfers(&types.transfer_parameters)?)
    };
    Ok(TurnsPlan {
        way,
        sees_ends: wanted == Turns::On,
    })
}

/// The functions through which all that is read from IP sockets and written to them goes. Where one has
/// not the parameters that its program expects, something would be read in the place of its result, and
/// not every kernel refuses that.
fn transfers(parameters: &BTreeMap<&'static str, u32>) -> Result<Vec<&'static str>, Off> {
    let unlike = |function: &str| {
        Off::new(
            format!(
                "this kernel lacks the tracepoints sock_recv_length and sock_send_length, and its \
                 {function} is not the one that would serve instead"
            ),
            Some("Linux 6.3"),
        )
    };
    let mut functions = Vec::new();
    for (function, expected) in [
        (program::INET_RECVMSG, 4),
        (program::INET6_RECVMSG, 4),
        (program::INET_SENDMSG, 3),
        (program::INET6_SENDMSG, 3),
        (program::INET_SENDPAGE, 5),
    ] {
        match parameters.get(function) {
            Some(found) if *found == expected => functions.push(function),
            // Since Linux 6.5 pages go the way of other data.
            None if function == program::INET_SENDPAGE => {}
            _ => return Err(unlike(function)),
        }
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        AcceptHook, bpf,
        tests::{facts, transfer_parameters},
    };

    #[test]
    fn turns_can_be_chosen() {
        let turns =
            |wanted| bpf(&facts((6, 18)), true, AcceptHook::Auto, wanted).map(|it| it.turns);
        let way = TurnsWay::RawTracepoints;
        let on = |sees_ends| {
            Ok(Ok(TurnsPlan {
                way: way.clone(),
                sees_ends,
            }))
        };
        assert_eq!(turns(Turns::On), on(true));
        assert_eq!(turns(Turns::Light), on(false));
        let off = turns(Turns::Off).unwrap().unwrap_err();
        assert!(off.reason.contains("--turns off"));
        for (text, wanted) in Turns::NAMES
            .iter()
            .zip([Turns::On, Turns::Light, Turns::Off])
        {
            assert_eq!(text.parse(), Ok(wanted));
            assert_eq!(wanted.to_string(), *text);
        }
    }

    #[test]
    fn turns_are_off_where_a_function_is_not_as_expected() {
        let turns = |function, parameters| {
            let mut all = transfer_parameters();
            match parameters {
                Some(parameters) => all.insert(function, parameters),
                None => all.remove(function),
            };
            transfers(&all).map_err(|off| off.reason)
        };
        let without_pages = turns("inet_sendpage", None);
        assert_eq!(without_pages.map(|functions| functions.len()), Ok(4));
        for (function, parameters) in [
            ("inet6_recvmsg", None),
            ("inet_recvmsg", Some(5)),
            ("inet_sendpage", Some(6)),
        ] {
            let reason = turns(function, parameters).unwrap_err();
            assert!(
                reason.contains(&format!("its {function} is not")),
                "{reason}"
            );
        }
    }
}
