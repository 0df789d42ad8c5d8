//! Verdicts on ourselves: numbers that are shown and cannot be trusted.
//!
//! What a host cannot show is no verdict; the state of the sources tells that.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Severity, Subject,
    finding::{Code, Finding},
    words,
};
use crate::view::{Gap, Source, SourceState, View};

/// Gaps that say only that something is not shown, or was put right. Any other gap makes a shown
/// number wrong.
const HARMLESS: [&str; 4] = [
    "unreadable-processes",
    "other-protocol",
    "drift",
    "namespaces-not-read",
];

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
    gaps.filter(|gap| gap.count > 0 && !HARMLESS.contains(&gap.what.as_str()))
        .map(|gap| Finding {
            code: Code::Blind,
            amount: gap.count,
            severity: if is_small(view, gap) {
                Severity::Info
            } else {
                Severity::Warning
            },
            subject: Subject::default(),
            since: None,
            text: format!(
                "some numbers cannot be trusted: {} ({})",
                gap.text, gap.count
            ),
            evidence: BTreeMap::from([(gap.what.clone(), gap.count)]),
            next: gap.hint.clone(),
        })
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
    use crate::{
        diagnose::fixture::{check, nginx, verdicts},
        view::{Gap, SourceState, View},
    };

    fn gap(view: &mut View, what: &str, count: u64) {
        view.gaps.push(Gap {
            what: what.to_owned(),
            text: "something was not counted".to_owned(),
            count,
            hint: "raise --max-connections".to_owned(),
        });
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
