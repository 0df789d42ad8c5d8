//! One thing that is wrong, before it is ranked and published as a [`Verdict`].

use std::{cmp::Reverse, collections::BTreeMap, time::SystemTime};

use super::{Severity, Subject, Verdict};

/// What is wrong. In the order in which they are told: what to act on before what follows from it,
/// and what one process does before what all of them do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    StuckWorker,
    WorkerCrashLoop,
    NoAcceptor,
    FdLimit,
    WorkerAtLimit,
    MemberStarved,
    HalfClosedPileup,
    SlowClients,
    Skew,
    WorkersSaturated,
    PoolShortage,
    QueueDropping,
    QueueFull,
    Blind,
}

impl Code {
    /// Public, and never reused for another meaning.
    const fn name(self) -> &'static str {
        match self {
            Self::StuckWorker => "stuck-worker",
            Self::WorkerCrashLoop => "worker-crash-loop",
            Self::NoAcceptor => "no-acceptor",
            Self::FdLimit => "fd-limit",
            Self::WorkerAtLimit => "worker-at-limit",
            Self::MemberStarved => "member-starved",
            Self::HalfClosedPileup => "half-closed-pileup",
            Self::SlowClients => "slow-clients",
            Self::Skew => "skew",
            Self::WorkersSaturated => "workers-saturated",
            Self::PoolShortage => "pool-shortage",
            Self::QueueDropping => "queue-dropping",
            Self::QueueFull => "queue-full",
            Self::Blind => "blind",
        }
    }

    /// Whether it can be why a queue drops. The others are a danger, a consequence, or about
    /// ourselves.
    const fn explains_drops(self) -> bool {
        match self {
            Self::StuckWorker
            | Self::WorkerCrashLoop
            | Self::NoAcceptor
            | Self::WorkerAtLimit
            | Self::MemberStarved
            | Self::HalfClosedPileup
            | Self::SlowClients
            | Self::Skew
            | Self::WorkersSaturated => true,
            Self::FdLimit
            | Self::PoolShortage
            | Self::QueueDropping
            | Self::QueueFull
            | Self::Blind => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub code: Code,
    /// How much of it there is, to rank those of the same code.
    pub amount: u64,
    pub severity: Severity,
    pub subject: Subject,
    pub since: Option<SystemTime>,
    pub text: String,
    pub evidence: BTreeMap<String, u64>,
    pub next: String,
}

impl Finding {
    /// Whether this may be why `dropping` drops: it is about the same listener, or about no
    /// particular one of the same server.
    fn may_explain(&self, dropping: &Subject) -> bool {
        self.code.explains_drops()
            && self.severity == Severity::Warning
            && match &self.subject.listener {
                Some(listener) => dropping.listener.as_ref() == Some(listener),
                None => self.subject.server.is_some() && self.subject.server == dropping.server,
            }
    }
}

impl From<Finding> for Verdict {
    fn from(finding: Finding) -> Self {
        let Finding {
            code,
            amount: _,
            severity,
            subject,
            since,
            text,
            evidence,
            next,
        } = finding;
        Self {
            verdict: code.name().to_owned(),
            severity,
            subject,
            since,
            text,
            evidence,
            next,
        }
    }
}

/// The first is the one to act on. A warning that explains why connections are dropped is as
/// critical as the drops, and so comes before them.
pub(super) fn ranked(mut findings: Vec<Finding>) -> Vec<Verdict> {
    let dropping: Vec<Subject> = findings
        .iter()
        .filter(|finding| finding.code == Code::QueueDropping)
        .map(|finding| finding.subject.clone())
        .collect();
    for finding in &mut findings {
        if dropping.iter().any(|subject| finding.may_explain(subject)) {
            finding.severity = Severity::Critical;
        }
    }
    findings.sort_by_key(|finding| {
        (
            Reverse(finding.severity),
            finding.code,
            Reverse(finding.amount),
        )
    });
    findings.into_iter().map(Verdict::from).collect()
}

/// Figures behind a verdict; those that are not known are left out.
pub(super) fn evidence<const N: usize>(figures: [(&str, Option<u64>); N]) -> BTreeMap<String, u64> {
    figures
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: Code, severity: Severity, listener: Option<&str>, server: &str) -> Finding {
        Finding {
            code,
            amount: 0,
            severity,
            subject: Subject {
                listener: listener.map(str::to_owned),
                server: Some(server.to_owned()),
                ..Subject::default()
            },
            since: None,
            text: String::new(),
            evidence: BTreeMap::new(),
            next: String::new(),
        }
    }

    #[test]
    fn what_explains_drops_is_as_critical_as_they_are() {
        use Severity::{Critical, Info, Warning};
        let dropping = || finding(Code::QueueDropping, Critical, Some("1:17"), "puma:1");
        for (other, expected) in [
            (
                finding(Code::StuckWorker, Warning, Some("1:17"), "puma:1"),
                ["critical stuck-worker", "critical queue-dropping"],
            ),
            (
                finding(Code::StuckWorker, Warning, None, "puma:1"),
                ["critical stuck-worker", "critical queue-dropping"],
            ),
            (
                finding(Code::StuckWorker, Warning, Some("1:18"), "puma:1"),
                ["critical queue-dropping", "warning stuck-worker"],
            ),
            (
                finding(Code::StuckWorker, Warning, None, "nginx:1"),
                ["critical queue-dropping", "warning stuck-worker"],
            ),
            (
                finding(Code::SlowClients, Info, Some("1:17"), "puma:1"),
                ["critical queue-dropping", "info slow-clients"],
            ),
            (
                finding(Code::FdLimit, Warning, None, "puma:1"),
                ["critical queue-dropping", "warning fd-limit"],
            ),
        ] {
            let what = format!("{other:?}");
            let verdicts = ranked(vec![other, dropping()]);
            let found: Vec<_> = verdicts
                .iter()
                .map(|it| format!("{} {}", it.severity, it.verdict))
                .collect();
            assert_eq!(found, expected, "{what}");
        }
    }
}
