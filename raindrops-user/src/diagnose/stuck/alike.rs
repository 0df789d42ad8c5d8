//! How many of the workers that are stuck are told one by one.
//!
//! When a file server hangs, all workers of a server sit in the same sleep. The few that have been
//! there for longest tell as much as all of them, and leave other verdicts in sight.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Stuck, finding, nobody_is_left, subject};
use crate::diagnose::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::Scene,
    words,
};

/// Of one server, by one cause.
const NAMED: usize = 3;

pub(super) fn findings(scene: &Scene<'_>, all: &BTreeMap<u32, Stuck<'_>>) -> Vec<Finding> {
    let mut groups: BTreeMap<_, Vec<&Stuck<'_>>> = BTreeMap::new();
    for (pid, one) in all {
        let server = one.worker.server.value();
        let alone = server.is_none().then_some(*pid);
        let key = (server, alone, one.cause.name());
        groups.entry(key).or_default().push(one);
    }
    let mut findings = Vec::new();
    for ((_, _, cause), mut group) in groups {
        group.sort_by_key(|one| Reverse(one.cause.lasted()));
        let (named, rest) = group.split_at(NAMED.min(group.len()));
        let named = named.iter();
        findings.extend(named.map(|one| finding(scene, one, nobody_is_left(scene, one, all))));
        findings.extend(more(scene, all, cause, rest));
    }
    findings
}

/// The others, without their names. It has no amount, and so comes after those that are named.
fn more(
    scene: &Scene<'_>,
    all: &BTreeMap<u32, Stuck<'_>>,
    cause: &str,
    rest: &[&Stuck<'_>],
) -> Option<Finding> {
    let first = rest.first()?;
    let lasted = first.cause.lasted();
    let count = rest.len();
    let server = first.worker.server.value();
    let longest = lasted.map_or(String::new(), |lasted| {
        format!(", the longest for {}", words::time(lasted))
    });
    Some(Finding {
        code: Code::StuckWorker,
        amount: 0,
        // All or none of them: that is a matter of the whole server.
        severity: if nobody_is_left(scene, first, all) {
            Severity::Critical
        } else {
            Severity::Warning
        },
        subject: common_subject(scene, rest),
        since: lasted.and_then(|lasted| words::began(scene.view, lasted)),
        text: format!(
            "{} {} {cause} as well{longest}",
            words::workers(scene.view, count, server),
            if count == 1 { "is" } else { "are" },
        ),
        evidence: evidence([
            ("stuck_workers", Some(count as u64)),
            ("stuck_ms", lasted.map(words::to_millis)),
        ]),
        next: "see those that are named: it is likely the same for all of them".to_owned(),
    })
}

/// Their server, and the listener if it is the same for all.
fn common_subject(scene: &Scene<'_>, rest: &[&Stuck<'_>]) -> Subject {
    let of = |one: &Stuck<'_>| Subject {
        pid: None,
        ..subject(scene, one.worker, &one.work)
    };
    let first = of(rest[0]);
    if rest.iter().all(|one| of(one) == first) {
        first
    } else {
        Subject {
            server: first.server,
            ..Subject::default()
        }
    }
}
