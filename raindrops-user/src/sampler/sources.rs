//! What the view says of each source: on or off, why, which way, at what cost.

mod netns;

use std::{collections::BTreeMap, time::Duration};

pub use self::netns::netns;
use super::{programs::Programs, watched::Watched};
use crate::{
    ids::Monotonic,
    plan::Off,
    reconcile::FoundLater,
    render::units::{megabytes, plural},
    snapshot::{BpfSnapshot, ProcSnapshot, QueueSource},
    view::{Gap, Source, SourceState},
};

/// A look at the processes that takes longer than this is reported.
const SLOW_LOOK: Duration = Duration::from_secs(2);

/// Any program on a system call's tracepoint slows down all system calls of the host. Measured by
/// `cargo xtask bench c` with getppid on Linux 6.18: 33 ns (29 to 36) more than 113 in one run, 50 (-1
/// to 78) more than 232 in another.
const SYSCALL_COST: &str = "its accept hook makes every system call of this host slower, by 30 to 50 ns where it was measured";

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
        (
            "turns".to_owned(),
            match &hooks.turns {
                Ok(way) => (*way).to_owned(),
                Err(off) => format!("off: {}", off.reason),
            },
        ),
    ]);
    if !hooks.refused.is_empty() {
        detail.insert("refused".to_owned(), hooks.refused.join("; "));
    }
    detail.extend(compared.map(|compared| ("cross_check".to_owned(), compared)));
    detail.extend(found_later(programs.found_later()));
    let mut costs = Vec::new();
    if hooks.accept == "syscall" {
        costs.push(SYSCALL_COST.to_owned());
    }
    if let Some(bytes) = hooks.memory {
        detail.insert("map_bytes".to_owned(), bytes.to_string());
        costs.push(format!(
            "its maps take {} of kernel memory",
            megabytes(bytes)
        ));
    }
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
    });
    interrupted.into_iter().chain(netns::beyond(watched))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
