//! What is wrong right now, in words, and what this host cannot show.
//!
//! Pure: from one [`View`]. It reads no clock and asks no source, so that the daemon, a single
//! reading and a test come to the same verdicts.

mod group;
mod queue;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::view::{Listener, SourceState, View, rfc3339, rfc3339_option};

/// Name and version of the shape.
pub const SCHEMA: &str = "raindrops.diagnosis/1";

/// Gaps that say only that something is not shown, or was put right. Any other gap makes a shown number wrong.
const HARMLESS: [&str; 4] = [
    "unreadable-processes",
    "other-protocol",
    "drift",
    "namespaces-not-read",
];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub schema: String,
    #[serde(with = "rfc3339")]
    pub taken_at: SystemTime,
    /// The first is the one to act on.
    pub verdicts: Vec<Verdict>,
    pub host: Vec<HostSource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// A public code, never reused for another meaning.
    pub verdict: String,
    pub severity: Severity,
    pub subject: Subject,
    /// Since when; absent where one view cannot tell.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub since: Option<SystemTime>,
    pub text: String,
    pub evidence: BTreeMap<String, u64>,
    pub next: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub listener: Option<String>,
    pub address: Option<String>,
    pub server: Option<String>,
    pub pid: Option<u32>,
}

/// One source, and what would make it whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSource {
    pub source: String,
    pub state: SourceState,
    pub reason: Option<String>,
    pub grant: Option<String>,
    /// Which way serves which part, and what it costs.
    #[serde(default)]
    pub detail: BTreeMap<String, String>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

impl Diagnosis {
    /// The worst severity of any verdict.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.verdicts.iter().map(|verdict| verdict.severity).max()
    }

    /// The same of a view that should have been replaced long ago. That comes first: whatever else
    /// it says may have passed, and what came since is not in it.
    #[must_use]
    pub fn aged(mut self, age: Duration) -> Self {
        let verdict = Verdict {
            verdict: "blind".to_owned(),
            severity: Severity::Critical,
            subject: Subject::default(),
            since: None,
            text: stale(age),
            evidence: BTreeMap::from([("age_ms".to_owned(), millis(age))]),
            next: "see the daemon's log and whether the host thrashes, then restart the daemon"
                .to_owned(),
        };
        self.verdicts.insert(0, verdict);
        self
    }
}

/// What is wrong with a view of this age.
#[must_use]
pub fn stale(age: Duration) -> String {
    format!("figures are {} s old: the sampler hangs", age.as_secs())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Verdicts on a view, ranked, and the state of its sources.
#[must_use]
pub fn diagnose(view: &View) -> Diagnosis {
    let mut verdicts: Vec<Verdict> = view
        .listeners
        .iter()
        .filter_map(|listener| {
            queue::dropping(view, listener).or_else(|| queue::full(view, listener))
        })
        .collect();
    verdicts.extend(group::starved_members(view));
    verdicts.extend(blind(view));
    verdicts.sort_by_key(|verdict| {
        let amount = verdict.evidence.values().copied().max();
        (Reverse(verdict.severity), Reverse(amount))
    });
    Diagnosis {
        schema: SCHEMA.to_owned(),
        taken_at: view.taken_at,
        verdicts,
        host: view
            .sources
            .iter()
            .map(|source| HostSource {
                source: source.name.clone(),
                state: source.state,
                reason: source.reason.clone(),
                grant: source.grant.clone(),
                detail: source.detail.clone(),
            })
            .collect(),
    }
}

fn blind(view: &View) -> impl Iterator<Item = Verdict> {
    view.gaps
        .iter()
        .filter(|gap| gap.count > 0 && !HARMLESS.contains(&gap.what.as_str()))
        .map(|gap| Verdict {
            verdict: "blind".to_owned(),
            severity: Severity::Warning,
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

/// Where it listens, with the network namespace where that is not the daemon's own.
fn place(view: &View, listener: &Listener) -> String {
    match view.other_netns(listener) {
        Some(netns) => format!(
            "{} in network namespace {}",
            listener.address,
            netns.label()
        ),
        None => listener.address.clone(),
    }
}

fn subject(listener: &Listener) -> Subject {
    Subject {
        listener: Some(listener.id.clone()),
        address: Some(listener.address.clone()),
        server: listener.server.value().cloned(),
        pid: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Diagnosis, Severity, diagnose};
    use crate::view::View;

    fn view() -> View {
        serde_json::from_str(include_str!("../tests/data/view.json")).unwrap()
    }

    #[test]
    fn a_listener_that_drops_comes_first() {
        let diagnosis = diagnose(&view());
        let verdict = &diagnosis.verdicts[0];
        assert_eq!(
            serde_json::to_value(verdict).unwrap(),
            serde_json::json!({
                "verdict": "queue-dropping",
                "severity": "critical",
                "subject": {
                    "listener": "4026531833:17", "address": "127.0.0.1:18080",
                    "server": "unicorn:14387", "pid": null
                },
                "text": "127.0.0.1:18080 dropped 32 connection attempts (retries counted) in the \
                         last 10 s, 153 since 2026-11-22T00:00:00Z: its queue of 8 (the app's \
                         listen backlog) was full",
                "evidence": {
                    "queued": 9, "limit": 8, "peak": 9, "overflows": 153, "recent_overflows": 32
                },
                "next": "see whether its workers are stuck or too few; then raise the app's \
                         listen backlog (unicorn: listen …, backlog: N) or add workers"
            })
        );
        assert_eq!(diagnosis.worst(), Some(Severity::Critical));
    }

    #[test]
    fn recent_overflows_have_a_window_of_their_own_and_never_exceed_the_total() {
        let mut view = view();
        let listener = &mut view.listeners[0];
        listener.recent.over_ms = 10_900;
        listener.recent.overflows = Some(386);
        listener.recent.overflows_over_ms = 9_400;
        listener.queue.overflows = Some(357);
        let verdict = &diagnose(&view).verdicts[0];
        let found = "dropped 357 connection attempts (retries counted) in the last 10 s, 357 since";
        assert!(verdict.text.contains(found), "{}", verdict.text);
        assert_eq!(verdict.evidence["recent_overflows"], 357);
    }

    #[test]
    fn past_overflows_are_no_verdict_but_a_full_queue_is() {
        let mut view = view();
        view.gaps.clear();
        view.listeners[0].recent.overflows = Some(0);
        let codes = |diagnosis: &Diagnosis| -> Vec<String> {
            diagnosis
                .verdicts
                .iter()
                .map(|verdict| verdict.verdict.clone())
                .collect()
        };
        assert_eq!(codes(&diagnose(&view)), ["queue-full"]);

        view.listeners[0].queue.queued = Some(8);
        assert_eq!(diagnose(&view).worst(), None);
    }

    #[test]
    fn a_gap_is_blindness_only_where_a_number_is_wrong() {
        let mut view = view();
        view.listeners.clear();
        let diagnosis = diagnose(&view);
        assert_eq!(diagnosis.verdicts.len(), 1);
        assert_eq!(diagnosis.verdicts[0].verdict, "blind");
        assert_eq!(diagnosis.verdicts[0].next, "raise --max-connections");

        view.gaps[0].what = super::HARMLESS[0].to_owned();
        assert_eq!(diagnose(&view).verdicts, []);
    }

    #[test]
    fn an_old_view_is_blindness_before_all_else() {
        let fresh = diagnose(&view());
        let aged = fresh.clone().aged(Duration::from_millis(14_500));
        assert_eq!(aged.verdicts[1..], fresh.verdicts);
        assert_eq!(aged.verdicts[0].verdict, "blind");
        assert_eq!(
            aged.verdicts[0].text,
            "figures are 14 s old: the sampler hangs"
        );
        assert_eq!(aged.worst(), Some(Severity::Critical));
    }

    #[test]
    fn the_host_part_lists_every_source() {
        let diagnosis = diagnose(&view());
        let names: Vec<_> = diagnosis.host.iter().map(|it| it.source.as_str()).collect();
        assert_eq!(names, ["bpf", "sock_diag", "proc"]);
        let json = serde_json::to_string(&diagnosis).unwrap();
        assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
    }
}
