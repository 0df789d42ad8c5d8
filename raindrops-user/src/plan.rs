//! Which source supplies what on this host, and why not the others: decided from facts, without
//! looking at anything.

pub mod netns;
mod turns;

use raindrops_ebpf::{
    globals::{OFFSETS, OPTIONAL},
    names::program,
};

pub use self::turns::{Turns, TurnsPlan, TurnsWay};
use crate::host::{Capabilities, Facts, KernelVersion};

/// How `accept()` is observed, as the operator asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptHook {
    /// The best that this kernel lets load.
    #[default]
    Auto,
    Fexit,
    Syscall,
    None,
}

/// A way to observe `accept()`, with all the programs that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptWay {
    /// On the kernel's own functions.
    Fexit {
        tcp: &'static str,
        unix: Option<&'static str>,
    },
    /// On the exit of the system calls `accept` and `accept4`.
    Syscall { program: &'static str },
}

/// What to load and attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfPlan {
    pub socket_state: &'static str,
    /// Does what the one before could not; ways to attach it, best first.
    pub socket_state_again: Vec<StateHook>,
    pub data_ready: Option<&'static str>,
    /// Finds what the others have missed.
    pub reconcile: &'static str,
    /// Or why turns are not followed.
    pub turns: Result<TurnsPlan, Off>,
    /// Ways to observe accepts, best first: the next one is tried when one does not load.
    pub accept: Vec<AcceptWay>,
    /// The locked-memory limit must be raised first.
    pub raise_memlock: bool,
    /// Hash maps must get their memory at once.
    pub preallocate: bool,
    /// The kernel tells how much memory a map takes; others tell what it would take when full.
    pub tells_map_memory: bool,
}

/// Where a program that follows connections is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateHook {
    RawTracepoint(&'static str),
    Tracepoint(&'static str),
}

/// Why a source, or a part of one, is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Off {
    pub reason: String,
    /// What would turn it on; `None` when nothing on this host would.
    pub grant: Option<String>,
}

impl Off {
    fn new(reason: impl Into<String>, grant: Option<&str>) -> Self {
        Self {
            reason: reason.into(),
            grant: grant.map(str::to_owned),
        }
    }
}

/// Instructions that return the old value of an atomic change.
const FETCHING_ATOMICS: KernelVersion = KernelVersion::new(5, 12);
/// A raw tracepoint's program is not run within itself on one CPU, since the kernel prevents it.
const NO_RECURSION: KernelVersion = KernelVersion::new(6, 1);
/// Raw tracepoints run with preemption on.
const PREEMPTIBLE_RAW_TRACEPOINTS: KernelVersion = KernelVersion::new(7, 0);
/// Hash maps of tracing programs may allocate as they go; before, the kernel warns in its log.
const ALLOCATION_IN_PROGRAMS: KernelVersion = KernelVersion::new(6, 1);
/// BPF memory is charged to the control group, no longer to the locked-memory limit.
const BPF_MEMORY_IN_CGROUP: KernelVersion = KernelVersion::new(5, 11);
/// Since that change and until this one, `memlock` of a map was its size when full.
const MAP_MEMORY_USAGE: KernelVersion = KernelVersion::new(6, 4);

/// Decides how BPF is used.
///
/// # Errors
/// When it cannot be, with the reason.
pub fn bpf(facts: &Facts, enabled: bool, hook: AcceptHook, wanted: Turns) -> Result<BpfPlan, Off> {
    if !enabled {
        return Err(Off::new(
            "switched off by --no-bpf",
            Some("start without --no-bpf"),
        ));
    }
    if hook == AcceptHook::None {
        return Err(Off::new(
            "switched off by --accept-hook none",
            Some("start without --accept-hook none"),
        ));
    }
    let Capabilities {
        bpf,
        perfmon,
        sys_admin,
        ..
    } = facts.capabilities;
    if !(sys_admin || bpf && perfmon) {
        return Err(Off::new(
            "needs the capabilities CAP_BPF and CAP_PERFMON",
            Some("run with sudo, or give the program CAP_BPF and CAP_PERFMON"),
        ));
    }
    if facts.in_initial_pid_namespace == Some(false) {
        return Err(Off::new(
            "this is not the host's pid namespace, so the programs' pids would name nothing here",
            Some("run on the host, or in a container with the host's pid namespace (--pid=host)"),
        ));
    }
    let types = facts.types.as_ref().map_err(|error| {
        Off::new(
            format!("the kernel's type information cannot be read: {error}"),
            Some("a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
        )
    })?;
    let missing: Vec<_> = OFFSETS
        .iter()
        .filter(|(global, _)| !types.offsets.contains_key(global) && !OPTIONAL.contains(global))
        .map(|(_, path)| *path)
        .collect();
    if !missing.is_empty() {
        return Err(Off::new(
            format!("this kernel's types lack {}", missing.join(", ")),
            None,
        ));
    }
    let ordered = facts.kernel >= FETCHING_ATOMICS;
    let mut accept = Vec::new();
    if hook != AcceptHook::Syscall
        && let Some(tcp) = tcp_accept(types.inet_csk_accept_parameters, ordered)
    {
        let unix = types.has_unix_accept.then_some(program::UNIX_ACCEPT);
        accept.push(AcceptWay::Fexit { tcp, unix });
    }
    if hook != AcceptHook::Fexit {
        let program = if ordered {
            program::ACCEPT_EXIT
        } else {
            program::ACCEPT_EXIT_PLAIN
        };
        accept.push(AcceptWay::Syscall { program });
    }
    if accept.is_empty() {
        return Err(Off::new(
            "this kernel does not describe inet_csk_accept, which --accept-hook fexit needs",
            Some("start with --accept-hook auto"),
        ));
    }
    Ok(BpfPlan {
        socket_state: if ordered {
            program::SOCKET_STATE
        } else {
            program::SOCKET_STATE_PLAIN
        },
        socket_state_again: state_again(facts.kernel),
        reconcile: if ordered {
            program::RECONCILE
        } else {
            program::RECONCILE_PLAIN
        },
        data_ready: types.has_sk_data_ready.then_some(program::DATA_READY),
        turns: turns::plan(facts.kernel, types, wanted),
        accept,
        raise_memlock: facts.kernel < BPF_MEMORY_IN_CGROUP,
        preallocate: facts.kernel < ALLOCATION_IN_PROGRAMS,
        tells_map_memory: facts.kernel < BPF_MEMORY_IN_CGROUP || facts.kernel >= MAP_MEMORY_USAGE,
    })
}

fn state_again(kernel: KernelVersion) -> Vec<StateHook> {
    let raw = StateHook::RawTracepoint(program::SOCKET_STATE_AGAIN);
    if kernel >= PREEMPTIBLE_RAW_TRACEPOINTS {
        vec![StateHook::Tracepoint(program::SOCKET_STATE_AGAIN_TP), raw]
    } else if kernel >= NO_RECURSION {
        vec![raw]
    } else {
        Vec::new()
    }
}

/// The result of a function follows its parameters. A wrong count is not refused by every kernel,
/// so an unknown one means that this way is not taken.
const fn tcp_accept(parameters: Option<u32>, ordered: bool) -> Option<&'static str> {
    match (parameters, ordered) {
        (Some(2), true) => Some(program::TCP_ACCEPT_2),
        (Some(4), true) => Some(program::TCP_ACCEPT_4),
        (Some(4), false) => Some(program::TCP_ACCEPT_4_PLAIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::KernelTypes;

    pub(super) fn facts(version: (u32, u32)) -> Facts {
        let recent = version >= (6, 3);
        Facts {
            kernel: KernelVersion::new(version.0, version.1),
            release: String::new(),
            host_name: String::new(),
            boot_id: None,
            cpus: 2,
            types: Ok(KernelTypes {
                offsets: OFFSETS.iter().map(|(name, _)| (*name, 8)).collect(),
                has_sk_data_ready: recent,
                inet_csk_accept_parameters: Some(if version >= (6, 10) { 2 } else { 4 }),
                has_unix_accept: true,
                has_turn_tracepoints: recent,
                transfer_parameters: transfer_parameters(),
            }),
            capabilities: Capabilities {
                bpf: true,
                perfmon: true,
                ..Capabilities::default()
            },
            netns: None,
            in_initial_pid_namespace: Some(true),
        }
    }

    pub(super) fn transfer_parameters() -> BTreeMap<&'static str, u32> {
        BTreeMap::from([
            ("inet_recvmsg", 4),
            ("inet6_recvmsg", 4),
            ("inet_sendmsg", 3),
            ("inet6_sendmsg", 3),
            ("inet_sendpage", 5),
        ])
    }

    #[test]
    fn every_kernel_gets_the_programs_that_it_can_load() {
        let fexit = |tcp| AcceptWay::Fexit {
            tcp,
            unix: Some("unix_accept"),
        };
        let syscall = |program| AcceptWay::Syscall { program };
        let raw = StateHook::RawTracepoint("socket_state_again");
        for (version, state, again, ready, accept, is_old) in [
            (
                (5, 10),
                "socket_state_plain",
                vec![],
                None,
                vec![fexit("tcp_accept_4_plain"), syscall("accept_exit_plain")],
                true,
            ),
            (
                (6, 1),
                "socket_state",
                vec![raw],
                None,
                vec![fexit("tcp_accept_4"), syscall("accept_exit")],
                false,
            ),
            (
                (6, 18),
                "socket_state",
                vec![raw],
                Some("data_ready"),
                vec![fexit("tcp_accept_2"), syscall("accept_exit")],
                false,
            ),
            (
                (7, 2),
                "socket_state",
                vec![StateHook::Tracepoint("socket_state_again_tp"), raw],
                Some("data_ready"),
                vec![fexit("tcp_accept_2"), syscall("accept_exit")],
                false,
            ),
        ] {
            assert_eq!(
                bpf(&facts(version), true, AcceptHook::Auto, Turns::On),
                Ok(BpfPlan {
                    socket_state: state,
                    socket_state_again: again,
                    data_ready: ready,
                    reconcile: if is_old {
                        "reconcile_plain"
                    } else {
                        "reconcile"
                    },
                    turns: match version {
                        (5, 10) => Err(Off::new(
                            "this kernel's programs cannot go over all connections",
                            Some("Linux 5.13"),
                        )),
                        (6, 1) => Ok(TurnsPlan {
                            way: TurnsWay::Functions(vec![
                                "inet_recvmsg",
                                "inet6_recvmsg",
                                "inet_sendmsg",
                                "inet6_sendmsg",
                                "inet_sendpage",
                            ]),
                            sees_ends: true,
                        }),
                        (6, 18) => Ok(TurnsPlan {
                            way: TurnsWay::RawTracepoints,
                            sees_ends: true,
                        }),
                        _ => Ok(TurnsPlan {
                            way: TurnsWay::Tracepoints,
                            sees_ends: true,
                        }),
                    },
                    accept,
                    raise_memlock: is_old,
                    preallocate: is_old,
                    tells_map_memory: version != (6, 1),
                }),
                "{version:?}"
            );
        }
    }

    #[test]
    fn the_accept_hook_can_be_chosen() {
        let ways = |hook| bpf(&facts((6, 18)), true, hook, Turns::On).map(|plan| plan.accept);
        assert_eq!(
            ways(AcceptHook::Syscall),
            Ok(vec![AcceptWay::Syscall {
                program: "accept_exit"
            }])
        );
        assert!(matches!(
            ways(AcceptHook::Fexit).as_deref(),
            Ok([AcceptWay::Fexit { .. }])
        ));
        assert!(ways(AcceptHook::None).is_err());
    }

    #[test]
    fn a_function_with_an_unexpected_number_of_parameters_is_not_hooked() {
        let mut facts = facts((9, 0));
        facts.types.as_mut().unwrap().inet_csk_accept_parameters = Some(3);
        let plan = bpf(&facts, true, AcceptHook::Auto, Turns::On).unwrap();
        assert_eq!(
            plan.accept,
            [AcceptWay::Syscall {
                program: "accept_exit"
            }]
        );
        assert!(bpf(&facts, true, AcceptHook::Fexit, Turns::On).is_err());
    }

    #[test]
    fn what_is_missing_is_named_with_what_would_grant_it() {
        let reason = |change: fn(&mut Facts)| {
            let mut facts = facts((6, 18));
            change(&mut facts);
            bpf(&facts, true, AcceptHook::Auto, Turns::On).unwrap_err()
        };
        let unprivileged = reason(|facts| facts.capabilities = Capabilities::default());
        assert!(unprivileged.reason.contains("CAP_BPF") && unprivileged.grant.is_some());
        let no_types = reason(|facts| facts.types = Err("not found".to_owned()));
        assert!(no_types.reason.contains("not found"));
        let in_container = reason(|facts| facts.in_initial_pid_namespace = Some(false));
        assert!(in_container.grant.unwrap().contains("--pid=host"));
        let other_kernel = reason(|facts| {
            facts.types.as_mut().unwrap().offsets.remove("SOCK_COOKIE");
        });
        assert!(other_kernel.reason.contains("sock_common.skc_cookie"));
        assert!(
            bpf(&facts((6, 18)), false, AcceptHook::Auto, Turns::On)
                .unwrap_err()
                .reason
                .contains("--no-bpf")
        );
    }
}
