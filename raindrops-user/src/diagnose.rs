//! What is wrong right now, in words, and what this host cannot show.
//!
//! Pure: from one [`View`]. It reads no clock and asks no source, so that the daemon, a single
//! reading and a test come to the same verdicts. docs/diagnosis.md describes each for operators.
//!
//! One file for each kind of trouble; `scene` is what they share, `finding` ranks what they found.

mod acceptor;
mod balance;
mod blind;
mod clients;
mod finding;
#[cfg(test)]
mod fixture;
mod group;
mod pool;
mod process;
mod queue;
mod saturation;
mod scene;
mod stuck;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use self::{
    finding::{Code, Finding, ranked},
    scene::Scene,
};
use crate::view::{SourceState, View, rfc3339, rfc3339_option};

/// Name and version of the shape.
pub const SCHEMA: &str = "raindrops.diagnosis/1";

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
        let finding = Finding {
            code: Code::Blind,
            amount: 0,
            severity: Severity::Critical,
            subject: Subject::default(),
            since: None,
            text: stale(age),
            evidence: BTreeMap::from([("age_ms".to_owned(), words::to_millis(age))]),
            next: "see the daemon's log and whether the host thrashes, then restart the daemon"
                .to_owned(),
        };
        self.verdicts.insert(0, finding.into());
        self
    }
}

/// What is wrong with a view of this age.
#[must_use]
pub fn stale(age: Duration) -> String {
    format!("figures are {} s old: the sampler hangs", age.as_secs())
}

/// Verdicts on a view, ranked, and the state of its sources.
#[must_use]
pub fn diagnose(view: &View) -> Diagnosis {
    let scene = Scene::new(view);
    let stuck = stuck::workers(&scene);
    let mut findings = stuck::findings(&scene, &stuck);
    findings.extend(process::crash_loops(&scene));
    findings.extend(process::fd_limit(&scene));
    findings.extend(acceptor::findings(&scene, &stuck));
    findings.extend(group::starved_members(&scene));
    findings.extend(clients::gone::findings(&scene));
    findings.extend(clients::slow(&scene));
    findings.extend(balance::findings(&scene));
    findings.extend(saturation::findings(&scene, &stuck));
    findings.extend(pool::findings(&scene));
    findings.extend(queue::findings(view));
    findings.extend(blind::findings(view));
    let verdicts = ranked(findings);
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
