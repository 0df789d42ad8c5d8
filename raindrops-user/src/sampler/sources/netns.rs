//! Which network namespaces are read, why not others, and what that costs.

use std::{collections::BTreeMap, time::Duration};

use super::millis;
use crate::{
    ids::Monotonic,
    plan::netns::Namespaces,
    render::units::plural,
    sampler::{
        foreign::{Aim, Report},
        watched::Watched,
    },
    view::{Gap, Source, SourceState},
};

/// A reading that is older than this has not been replaced in time.
const OLD: Duration = Duration::from_secs(15);

const PTRACE: &str = "run with sudo, or give the program CAP_SYS_PTRACE";

/// What is wrong, and what would help.
struct Trouble {
    state: SourceState,
    reason: String,
    grant: Option<String>,
}

impl Trouble {
    fn degraded(reason: impl Into<String>, grant: Option<&str>) -> Self {
        Self {
            state: SourceState::Degraded,
            reason: reason.into(),
            grant: grant.map(str::to_owned),
        }
    }
}

pub fn netns(watched: &Watched, now: Monotonic, may_read_others: bool) -> Source {
    let report = watched.report.as_deref();
    let trouble = trouble(watched, report, now).or_else(|| not_read(report?, may_read_others));
    let (state, reason, grant) = match trouble {
        Some(trouble) => (trouble.state, Some(trouble.reason), trouble.grant),
        None => (SourceState::On, None, None),
    };
    let is_alone = *watched.foreign.aim() == Aim::Nothing;
    Source {
        name: "netns".to_owned(),
        state,
        detail: detail(watched, report),
        reason,
        grant,
        age_ms: report
            .filter(|_| !is_alone)
            .map(|report| millis(now.since(report.taken))),
    }
}

fn detail(watched: &Watched, report: Option<&Report>) -> BTreeMap<String, String> {
    let read = match watched.foreign.aim() {
        Aim::Nothing => "own".to_owned(),
        Aim::All => "all".to_owned(),
        Aim::Name(name) => name.clone(),
        Aim::One(netns) => netns.to_string(),
    };
    let mut detail = BTreeMap::from([
        ("read".to_owned(), read),
        ("own".to_owned(), watched.foreign.own().to_string()),
    ]);
    let Some(report) = report.filter(|_| *watched.foreign.aim() != Aim::Nothing) else {
        return detail;
    };
    let others = report.namespaces.len();
    detail.insert("others".to_owned(), others.to_string());
    if !report.refused.is_empty() {
        detail.insert("refused".to_owned(), report.refused.len().to_string());
    }
    if report.strays > 0 {
        detail.insert("not_namespaces".to_owned(), report.strays.to_string());
    }
    let looking = format!(
        "looking where {} are took {} us",
        plural(report.cost.processes as u64, "process"),
        report.cost.looking.as_micros()
    );
    let cost = match u32::try_from(others) {
        Ok(1..) => format!(
            "reading {} took {} us of processor time each; {looking}",
            plural(others as u64, "other namespace"),
            (report.cost.reading / others as u32).as_micros()
        ),
        _ => looking,
    };
    detail.insert("cost".to_owned(), cost);
    detail
}

/// What keeps the others from being read at all.
fn trouble(watched: &Watched, report: Option<&Report>, now: Monotonic) -> Option<Trouble> {
    if let Namespaces::Own(not_others) = &watched.namespaces {
        return not_others.as_ref().map(|off| {
            let reason = format!("only the own namespace is read: {}", off.reason);
            Trouble::degraded(reason, off.grant.as_deref())
        });
    }
    let restart = Some("restart the daemon, whose log says why");
    if watched.foreign.has_ended() {
        return Some(Trouble::degraded(
            "other namespaces are read no more: the thread that read them has ended",
            restart,
        ));
    }
    let Some(report) = report else {
        return Some(Trouble::degraded(
            "other namespaces have not been read yet",
            None,
        ));
    };
    let age = now.since(report.taken);
    if age > OLD {
        let reason = format!("other namespaces were read last {} s ago", age.as_secs());
        return Some(Trouble::degraded(reason, restart));
    }
    report.is_missing.then(|| Trouble {
        state: SourceState::Off,
        reason: "the namespace that was asked for is gone".to_owned(),
        grant: Some("restart the daemon with another --netns".to_owned()),
    })
}

/// What keeps some of them from being read.
fn not_read(report: &Report, may_read_others: bool) -> Option<Trouble> {
    let many = |count: usize| plural(count as u64, "namespace");
    if let Some(why) = report.refused.values().next() {
        let reason = format!("{} not read: {why}", many(report.refused.len()));
        let grant = (!may_read_others).then_some(PTRACE);
        return Some(Trouble::degraded(reason, grant));
    }
    let failures: Vec<&String> = report
        .namespaces
        .values()
        .filter_map(|it| {
            it.health
                .tcp
                .as_ref()
                .err()
                .or(it.health.unix.as_ref().err())
        })
        .collect();
    if let [why, ..] = failures[..] {
        let reason = format!("{} not read in full: {why}", many(failures.len()));
        return Some(Trouble::degraded(reason, None));
    }
    (report.unreadable > 0).then(|| {
        let processes = plural(report.unreadable as u64, "process");
        let those = format!("{processes} may not be looked at: namespaces may be missing");
        if may_read_others {
            let reason = format!("{those}; the kernel protects them from us all the same");
            Trouble::degraded(reason, None)
        } else {
            Trouble::degraded(those, Some(PTRACE))
        }
    })
}

/// Namespaces beyond those that are read.
pub(super) fn beyond(watched: &Watched) -> Option<Gap> {
    let report = watched.report.as_deref()?;
    (report.beyond > 0).then(|| Gap {
        what: "namespaces-not-read".to_owned(),
        text: format!(
            "network namespaces not read: there are more than {}",
            report.namespaces.len()
        ),
        count: report.beyond as u64,
        hint: "start a daemon with --netns NAME for one that matters".to_owned(),
        ..Gap::default()
    })
}
