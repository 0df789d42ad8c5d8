//! What the view says of each source: on or off, why, which way, at what cost.

mod netns;
mod slabs;

use std::{collections::BTreeMap, time::Duration};

pub use self::{netns::netns, slabs::slabs};
use super::{programs::Programs, watched::Watched};
use crate::{
    ids::Monotonic,
    plan::Off,
    reconcile::FoundLater,
    render::units::{megabytes, plural},
    snapshot::{BpfSnapshot, ProcSnapshot, QueueSource},
    source::bpf::Hooks,
    view::{Gap, Source, SourceState, durations::millis},
};

/// A look at the processes that takes longer than this is reported.
const SLOW_LOOK: Duration = Duration::from_secs(2);

/// Any program on a system call's tracepoint slows down all system calls of the host. Measured by
/// `cargo xtask bench c` with getppid on Linux 6.18: 33 ns (29 to 36) more than 113 in one run, 50 (-1
/// to 78) more than 232 in another, 66 (-10 to 114) more than 281 in a third.
const SYSCALL_COST: &str = "its accept hook makes every system call of this host slower, by 30 to 70 ns where it was measured";

/// What `--turns on` adds to it. Measured in the same way: 6 ns more than with the accept hook alone in
/// one run, 16 in another; how many there are made no difference.
const ENDS_COST: &str = "its hooks on poll, ppoll, epoll_ctl and epoll_wait, which tell the end of answers, add 5 to 20 ns to that, which --turns light saves";

/// The same where no other system call is hooked.
const ENDS_ALONE_COST: &str = "its hooks on poll, ppoll, epoll_ctl and epoll_wait, which tell the end of answers, make every system call of this host slower, by about as much as an accept hook on system calls would, 30 to 70 ns where that was measured; --turns light saves this";

/// `compared`: when active connections were last compared with the kernel's, or why not.
pub fn bpf(
    programs: &Programs,
    snapshot: Option<&BpfSnapshot>,
    compared: Option<String>,
    now: Monotonic,
) -> Source {
    let running = match programs {
        Programs::Off(off) => return bpf_off(off),
        Programs::On(running) => running,
    };
    let hooks = running.hooks();
    let mut detail = BTreeMap::from([
        ("lifecycle".to_owned(), hooks.lifecycle.to_owned()),
        ("accept".to_owned(), hooks.accept.to_owned()),
        ("listener".to_owned(), hooks.listener.to_owned()),
        ("turns".to_owned(), way_of_turns(hooks)),
    ]);
    if !hooks.refused.is_empty() {
        detail.insert("refused".to_owned(), hooks.refused.join("; "));
    }
    detail.extend(compared.map(|compared| ("cross_check".to_owned(), compared)));
    detail.extend(found_later(programs.found_later()));
    if let Some(bytes) = hooks.memory {
        detail.insert("map_bytes".to_owned(), bytes.to_string());
    }
    let costs = costs(hooks);
    if !costs.is_empty() {
        detail.insert("cost".to_owned(), costs.join("; "));
    }
    Source {
        name: "bpf".to_owned(),
        state: SourceState::On,
        detail,
        reason: None,
        grant: None,
        age_ms: snapshot.map(|snapshot| millis(now.since(snapshot.taken))),
    }
}

/// How turns are followed; where that is not as it was asked for, why, and what would change that.
fn way_of_turns(hooks: &Hooks) -> String {
    let mut refused = hooks.refused.iter();
    match &hooks.turns {
        Ok(way) => match refused.find_map(|it| it.strip_prefix("turns: ")) {
            Some(reason) => format!("{way}; ends of answers are not seen: {reason}"),
            None => (*way).to_owned(),
        },
        Err(Off {
            reason,
            grant: None,
        }) => format!("off: {reason}"),
        Err(Off {
            reason,
            grant: Some(grant),
        }) => format!("off: {reason}; to turn them on: {grant}"),
    }
}

/// What the programs cost the host.
fn costs(hooks: &Hooks) -> Vec<String> {
    let hooks_accept = hooks.accept == "syscall";
    let hooks_ends = hooks
        .turns
        .as_ref()
        .is_ok_and(|way| way.ends_with("+syscalls"));
    let tax = match (hooks_accept, hooks_ends) {
        (true, true) => &[SYSCALL_COST, ENDS_COST][..],
        (true, false) => &[SYSCALL_COST],
        (false, true) => &[ENDS_ALONE_COST],
        (false, false) => &[],
    };
    let memory = hooks.memory.map(|bytes| {
        let bytes = megabytes(bytes);
        format!("its maps take {bytes} of kernel memory")
    });
    let tax = tax.iter().map(|text| (*text).to_owned());
    tax.chain(memory).collect()
}

/// Events that the programs did not see, in words.
fn found_later(found: FoundLater) -> Option<(String, String)> {
    let FoundLater {
        accepts,
        half_closes,
        ends,
    } = found;
    let kinds = [
        (accepts, "accept"),
        (half_closes, "half-close"),
        (ends, "end"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count > 0);
    let kinds: Vec<_> = kinds.map(|(count, kind)| plural(*count, kind)).collect();
    let events = plural(found.total(), "event");
    (!kinds.is_empty()).then(|| {
        let text = format!(
            "{events} that the programs did not see, found later: {}",
            kinds.join(", ")
        );
        ("found_later".to_owned(), text)
    })
}

/// Older connections that were not learnt.
pub fn not_seeded(programs: &Programs) -> Option<Gap> {
    let Programs::On(running) = programs else {
        return None;
    };
    (!running.seeded_completely).then(|| Gap {
        what: "seeding-incomplete".to_owned(),
        text: "connections older than the daemon were not all learnt: active may be too low"
            .to_owned(),
        count: 1,
        hint: "restart the daemon when the host is calmer".to_owned(),
        ..Gap::default()
    })
}

pub fn bpf_off(off: &Off) -> Source {
    Source {
        name: "bpf".to_owned(),
        state: SourceState::Off,
        detail: BTreeMap::new(),
        reason: Some(off.reason.clone()),
        grant: off.grant.clone(),
        age_ms: None,
    }
}

pub fn sock_diag(watched: &Watched, now: Monotonic) -> Source {
    let mut source = Source {
        name: "sock_diag".to_owned(),
        state: SourceState::Off,
        detail: BTreeMap::new(),
        reason: None,
        grant: None,
        age_ms: watched.age(now).map(millis),
    };
    let Some(health) = watched.health() else {
        source.reason = Some("there is no network namespace to read".to_owned());
        return source;
    };
    let way = |way: &Result<QueueSource, String>| match way {
        Ok(QueueSource::SockDiag) => "sock_diag".to_owned(),
        Ok(QueueSource::ProcNet) => "proc_net, once a second, without limits".to_owned(),
        Err(error) => format!("none: {error}"),
    };
    let all = |wanted: fn(&Result<QueueSource, String>) -> bool| {
        [&health.tcp, &health.unix].into_iter().all(wanted)
    };
    if all(|way| *way == Ok(QueueSource::SockDiag)) {
        source.state = SourceState::On;
    } else if !all(Result::is_err) {
        source.state = SourceState::Degraded;
    }
    source.detail = [
        ("tcp".to_owned(), way(&health.tcp)),
        ("unix".to_owned(), way(&health.unix)),
    ]
    .into();
    source.reason = health.reason;
    source.grant = health.grant;
    source
}

pub fn processes(
    snapshot: Option<&ProcSnapshot>,
    busy_since: Option<Monotonic>,
    now: Monotonic,
    may_read_others: bool,
) -> Source {
    let mut source = Source {
        name: "proc".to_owned(),
        state: SourceState::On,
        detail: BTreeMap::new(),
        reason: None,
        grant: None,
        age_ms: snapshot.map(|snapshot| millis(now.since(snapshot.taken))),
    };
    let slow = busy_since
        .map(|since| now.since(since))
        .filter(|busy| *busy > SLOW_LOOK);
    let quarantined = snapshot.map_or(0, |snapshot| snapshot.quarantined.len());
    let unreadable = snapshot.map_or(0, |snapshot| snapshot.unreadable);
    if snapshot.is_none() {
        source.state = SourceState::Off;
        source.reason = Some("no look at the processes has finished yet".to_owned());
    } else if let Some(busy) = slow {
        source.state = SourceState::Degraded;
        let seconds = busy.as_secs();
        source.reason = Some(format!(
            "a look at the processes has taken {seconds} s so far"
        ));
    } else if quarantined != 0 {
        source.state = SourceState::Degraded;
        source.reason = Some(format!(
            "{} took over a second to read; left alone for a minute",
            plural(quarantined as u64, "process")
        ));
    } else if unreadable != 0 {
        source.state = SourceState::Degraded;
        let those = format!(
            "descriptors of {} may not be read: holders and workers may be missing",
            plural(unreadable as u64, "process")
        );
        if may_read_others {
            source.reason = Some(format!(
                "{those}; the kernel protects them from us all the same"
            ));
        } else {
            source.reason = Some(those);
            source.grant = Some("run with sudo, or give the program CAP_SYS_PTRACE".to_owned());
        }
    }
    source
}

/// What the readings of queues lack.
pub fn gaps(watched: &Watched) -> impl Iterator<Item = Gap> {
    let interrupted = watched.was_interrupted().then(|| Gap {
        what: "dump-interrupted".to_owned(),
        text: "listeners may be missing: sockets changed while the kernel listed them".to_owned(),
        count: 1,
        hint: "passes by itself".to_owned(),
        ..Gap::default()
    });
    interrupted.into_iter().chain(netns::beyond(watched))
}

#[cfg(test)]
mod tests {
    use super::{ENDS_ALONE_COST, ENDS_COST, SYSCALL_COST, costs, way_of_turns};
    use crate::{plan::Off, source::bpf::Hooks};

    fn hooks(accept: &'static str, turns: Result<&'static str, Off>) -> Hooks {
        Hooks {
            lifecycle: "raw_tp",
            accept,
            listener: "sk_data_ready",
            turns,
            refused: Vec::new(),
            memory: None,
        }
    }

    fn off(grant: Option<&str>) -> Result<&'static str, Off> {
        Err(Off {
            reason: "no hook".to_owned(),
            grant: grant.map(str::to_owned),
        })
    }

    #[test]
    fn every_hook_on_a_system_call_states_its_price() {
        for (accept, turns, expected) in [
            ("syscall", off(None), &[SYSCALL_COST][..]),
            ("syscall", Ok("raw_tp"), &[SYSCALL_COST]),
            ("syscall", Ok("raw_tp+syscalls"), &[SYSCALL_COST, ENDS_COST]),
            ("fexit", Ok("raw_tp+syscalls"), &[ENDS_ALONE_COST]),
            ("fexit", Ok("fexit+syscalls"), &[ENDS_ALONE_COST]),
            ("fexit", Ok("tracepoint+syscalls"), &[ENDS_ALONE_COST]),
            ("fexit", Ok("raw_tp"), &[]),
        ] {
            assert_eq!(
                costs(&hooks(accept, turns.clone())),
                expected,
                "{accept} {turns:?}"
            );
        }
    }

    #[test]
    fn without_turns_the_reason_and_the_remedy_are_told() {
        for (turns, expected) in [
            (Ok("raw_tp"), "raw_tp"),
            (off(None), "off: no hook"),
            (
                off(Some("Linux 6.3")),
                "off: no hook; to turn them on: Linux 6.3",
            ),
        ] {
            assert_eq!(way_of_turns(&hooks("fexit", turns)), expected);
        }
        let mut partly = hooks("fexit", Ok("raw_tp"));
        partly.refused = vec!["fexit: no".to_owned(), "turns: no room".to_owned()];
        assert_eq!(
            way_of_turns(&partly),
            "raw_tp; ends of answers are not seen: no room"
        );
    }
}
