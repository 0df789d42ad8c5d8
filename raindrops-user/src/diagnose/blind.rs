//! Verdicts on ourselves: numbers that are shown and cannot be trusted.
//!
//! What a host cannot show is no verdict; the state of the sources tells that.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{
    Severity, Subject,
    finding::{Code, Finding},
    words,
};
use crate::view::{Gap, Source, SourceState, View, recent::WINDOW};

/// What depends on a gap after it has stopped growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: it says only that something is not shown, or was put right.
    Harmless,
    /// Totals, by as much and no more. What is shown of now does not, or says that it is not known.
    Totals,
    /// Totals, and `active` and turns while connections are open that were not followed.
    Connections,
    /// What waits and is called, until turns end that had begun by then.
    Turns,
    /// Listeners that are there without a row.
    Listeners,
    /// It is told as long as it makes a number wrong.
    Now,
}

const KINDS: [(&str, Kind); 15] = [
    ("unreadable-processes", Kind::Harmless),
    ("other-protocol", Kind::Harmless),
    ("drift", Kind::Harmless),
    ("namespaces-not-read", Kind::Harmless),
    ("stale-listener", Kind::Totals),
    ("left-to-another", Kind::Totals),
    ("accepts-skipped", Kind::Totals),
    ("workers-full", Kind::Totals),
    ("map-full", Kind::Connections),
    ("no-listener", Kind::Connections),
    ("untracked-accept", Kind::Connections),
    ("unreadable-descriptor", Kind::Connections),
    ("unreadable-socket", Kind::Connections),
    ("seeding-incomplete", Kind::Connections),
    ("threads-full", Kind::Turns),
];

const LISTENERS_FULL: &str = "listeners-full";

/// Gaps that count events one by one. Totals are wrong by as much, and by no more.
const COUNTED: [&str; 6] = [
    "untracked-accept",
    "unreadable-descriptor",
    "unreadable-socket",
    "stale-listener",
    "left-to-another",
    "accepts-skipped",
];

/// One in so many is less than anybody reads off a total.
const ONE_IN: u64 = 1000;

/// Every source is read more often than this where it can be read at all.
const LOST: Duration = Duration::from_secs(15);

pub(super) fn findings(view: &View) -> impl Iterator<Item = Finding> {
    let lost = view.sources.iter().filter_map(lost);
    gaps(view).chain(lost)
}

fn gaps(view: &View) -> impl Iterator<Item = Finding> {
    let gaps = view.gaps.iter();
    gaps.filter(|gap| gap.count > 0 && kind(gap) != Kind::Harmless)
        .map(|gap| finding(view, gap))
}

fn kind(gap: &Gap) -> Kind {
    if gap.what == LISTENERS_FULL {
        return Kind::Listeners;
    }
    let known = KINDS.iter().find(|(what, _)| *what == gap.what);
    // What is not known is not called over.
    known.map_or(Kind::Now, |(_, kind)| *kind)
}

fn finding(view: &View, gap: &Gap) -> Finding {
    let over = is_over(view, gap);
    let severity = if over || is_small(view, gap) {
        Severity::Info
    } else {
        Severity::Warning
    };
    let what = if over {
        format!(
            "totals since {} lack what was missed{}",
            humantime::format_rfc3339_seconds(view.since),
            if kind(gap) == Kind::Connections && has_listeners_elsewhere(view) {
                ", and so may turns and active of unix listeners and in other network namespaces \
                 while the connections are open"
            } else {
                ""
            }
        )
    } else {
        "some numbers cannot be trusted".to_owned()
    };
    Finding {
        code: Code::Blind,
        amount: gap.count,
        severity,
        subject: Subject::default(),
        since: gap.first_at,
        text: format!("{what}: {} ({}{})", gap.text, gap.count, when(gap)),
        evidence: BTreeMap::from([(gap.what.clone(), gap.count)]),
        next: gap.hint.clone(),
    }
}

/// Nothing more has been missed for a while, and what is shown of now is right again.
fn is_over(view: &View, gap: &Gap) -> bool {
    let Some(last) = gap.last_at else {
        return false;
    };
    let Ok(quiet) = view.taken_at.duration_since(last) else {
        return false;
    };
    let mut listeners = view.listeners.iter();
    quiet >= WINDOW
        && match kind(gap) {
            Kind::Harmless | Kind::Totals => true,
            Kind::Connections => gap.compared_at.is_some_and(|compared| compared > last),
            Kind::Turns => listeners.all(|listener| {
                let oldest = listener.turns.as_ref().and_then(|turns| turns.oldest_us);
                oldest.is_none_or(|age| Duration::from_micros(age) < quiet)
            }),
            Kind::Listeners => listeners.all(|listener| {
                let connections = listener.connections.as_ref();
                connections.is_some_and(|it| it.source == "bpf")
            }),
            Kind::Now => false,
        }
}

/// Listeners whose connections are not compared with the kernel's.
fn has_listeners_elsewhere(view: &View) -> bool {
    let mut listeners = view.listeners.iter();
    let first = listeners.clone().next().map(|it| it.netns.inode);
    listeners.any(|it| it.protocol != "tcp" || Some(it.netns.inode) != first)
}

fn when(gap: &Gap) -> String {
    let time = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
    match (gap.first_at.map(time), gap.last_at.map(time)) {
        (Some(first), Some(last)) if first == last => format!(", at {first}"),
        (Some(first), Some(last)) => format!(", from {first} to {last}"),
        (None, _) | (_, None) => String::new(),
    }
}

fn is_small(view: &View, gap: &Gap) -> bool {
    let connections = view
        .listeners
        .iter()
        .filter_map(|it| it.connections.as_ref());
    let accepts: u64 = connections.filter_map(|it| it.accepts).sum();
    COUNTED.contains(&gap.what.as_str()) && gap.count.saturating_mul(ONE_IN) <= accepts
}

/// A source that counts as working and has not been read for long.
fn lost(source: &Source) -> Option<Finding> {
    let age = Duration::from_millis(source.age_ms?);
    (source.state != SourceState::Off && age >= LOST).then(|| Finding {
        code: Code::Blind,
        amount: words::to_millis(age),
        severity: Severity::Warning,
        subject: Subject::default(),
        since: None,
        text: format!(
            "some numbers cannot be trusted: what {} shows is {} old",
            source.name,
            words::time(age)
        ),
        evidence: BTreeMap::from([("age_ms".to_owned(), words::to_millis(age))]),
        next: "see whether the host thrashes, and the daemon's log".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        diagnose::{
            diagnose,
            fixture::{check, listener_turns, nginx, verdicts},
        },
        view::{Gap, SourceState, View},
    };

    fn gap(view: &mut View, what: &str, count: u64) {
        view.gaps.push(Gap {
            what: what.to_owned(),
            text: "something was not counted".to_owned(),
            count,
            hint: "raise --max-connections".to_owned(),
            ..Gap::default()
        });
    }

    /// It grew last, and connections were then compared with the kernel's, so many seconds ago.
    fn past(view: &mut View, what: &str, last: u64, compared: Option<u64>) {
        gap(view, what, 136);
        let ago = |seconds| view.taken_at - Duration::from_secs(seconds);
        let gap = view.gaps.last_mut().unwrap();
        gap.first_at = Some(ago(last + 60));
        gap.last_at = Some(ago(last));
        gap.compared_at = compared.map(ago);
    }

    #[test]
    fn only_what_makes_a_shown_number_wrong_is_blindness() {
        check(&[
            (
                "the map is full",
                nginx,
                |view| gap(view, "map-full", 136),
                &["warning blind"],
            ),
            (
                "a gap that nothing is known of",
                nginx,
                |view| gap(view, "new-kind", 1),
                &["warning blind"],
            ),
            (
                "a gap that has not occurred",
                nginx,
                |view| gap(view, "map-full", 0),
                &[],
            ),
            (
                "something is not shown",
                nginx,
                |view| gap(view, "other-protocol", 136),
                &[],
            ),
            (
                "one accept in a thousand",
                nginx,
                |view| gap(view, "untracked-accept", 100),
                &["info blind"],
            ),
            (
                "more of them",
                nginx,
                |view| gap(view, "untracked-accept", 101),
                &["warning blind"],
            ),
            (
                "a source that says it is on was lost",
                nginx,
                |view| view.sources[1].age_ms = Some(15_000),
                &["warning blind"],
            ),
            (
                "a source that is read a little late",
                nginx,
                |view| view.sources[1].age_ms = Some(14_000),
                &[],
            ),
            (
                "a source that is off, and says so",
                nginx,
                |view| {
                    view.sources[0].state = SourceState::Off;
                    view.sources[0].age_ms = Some(60_000);
                },
                &[],
            ),
        ]);
    }

    #[test]
    fn what_is_over_is_no_trouble() {
        check(&[
            (
                "connections are missed",
                nginx,
                |view| past(view, "map-full", 9, Some(5)),
                &["warning blind"],
            ),
            (
                "they were, and whether they are gone is not known",
                nginx,
                |view| past(view, "map-full", 10, None),
                &["warning blind"],
            ),
            (
                "they are gone",
                nginx,
                |view| past(view, "map-full", 10, Some(5)),
                &["info blind"],
            ),
            (
                "as many as the kernel has were counted before",
                nginx,
                |view| past(view, "map-full", 10, Some(10)),
                &["warning blind"],
            ),
            (
                "only totals lack it",
                nginx,
                |view| past(view, "accepts-skipped", 10, None),
                &["info blind"],
            ),
            (
                "no turn is as old as that",
                nginx,
                |view| {
                    past(view, "threads-full", 10, None);
                    listener_turns(view).oldest_us = Some(9_000_000);
                },
                &["info blind"],
            ),
            (
                "one is",
                nginx,
                |view| {
                    past(view, "threads-full", 10, None);
                    listener_turns(view).oldest_us = Some(10_000_000);
                },
                &["warning blind"],
            ),
            (
                "every listener has a row",
                nginx,
                |view| past(view, "listeners-full", 10, None),
                &["info blind"],
            ),
            (
                "one has none",
                nginx,
                |view| {
                    past(view, "listeners-full", 10, None);
                    view.listeners[0].connections = None;
                },
                &["warning blind"],
            ),
            (
                "what is told only as long as it is so",
                nginx,
                |view| past(view, "dump-interrupted", 60, Some(5)),
                &["warning blind"],
            ),
        ]);
    }

    #[test]
    fn what_is_over_says_when_it_was() {
        let text = |protocol: &str| {
            let mut view = nginx();
            view.listeners[0].protocol = protocol.to_owned();
            past(&mut view, "map-full", 63, Some(5));
            diagnose(&view).verdicts.swap_remove(0).text
        };
        let (when, which) = (
            "something was not counted (136, from 2026-11-22T01:00:00Z to 2026-11-22T01:01:00Z)",
            "totals since 2026-11-22T00:02:03Z lack what was missed",
        );
        assert_eq!(text("tcp"), format!("{which}: {when}"));
        assert_eq!(
            text("unix"),
            format!(
                "{which}, and so may turns and active of unix listeners and in other network \
                 namespaces while the connections are open: {when}"
            )
        );
    }

    #[test]
    fn what_to_do_is_the_hint() {
        let verdict = verdicts(nginx, |view| gap(view, "map-full", 136)).swap_remove(0);
        assert_eq!(
            (verdict.text.as_str(), verdict.next.as_str()),
            (
                "some numbers cannot be trusted: something was not counted (136)",
                "raise --max-connections"
            )
        );
        assert_eq!(verdict.evidence["map-full"], 136);
    }
}
