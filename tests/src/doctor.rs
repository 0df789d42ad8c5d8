//! What `raindrops doctor` says of the host, asked as an operator asks it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use raindrops_user::diagnose::{Diagnosis, Severity, Verdict};

use crate::{
    daemon::{Daemon, raindrops},
    wait,
};

/// Between two questions of many.
const PAUSE: Duration = Duration::from_millis(100);

/// What `doctor` exits with when something is wrong.
const TROUBLE: i32 = 3;

impl Daemon {
    /// What doctor says; its exit code has to say the same.
    pub fn diagnosis(&self) -> Result<Diagnosis> {
        let socket = self.socket().to_string_lossy();
        let output = raindrops(["doctor", "--format", "json", "--socket", &socket])?;
        let diagnosis: Diagnosis = serde_json::from_slice(&output.stdout).with_context(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("doctor, {}: {errors}", output.status)
        })?;
        let expected = if is_trouble(&diagnosis) { TROUBLE } else { 0 };
        ensure!(
            output.status.code() == Some(expected),
            "{}: {diagnosis:#?}",
            output.status
        );
        Ok(diagnosis)
    }

    /// The first diagnosis of which this is true.
    pub fn until_diagnosed(
        &self,
        what: &str,
        is_so: impl Fn(&Diagnosis) -> bool,
    ) -> Result<Diagnosis> {
        let mut last = None;
        let found = wait::until(what, || {
            let diagnosis = self.diagnosis()?;
            let found = is_so(&diagnosis).then(|| diagnosis.clone());
            last = Some(diagnosis);
            Ok(found)
        });
        found.with_context(|| {
            let verdicts = last.map(|last| last.verdicts);
            let view = self.view().and_then(|it| Ok(serde_json::to_string(&it)?));
            format!("last verdicts: {verdicts:#?}; {view:?}")
        })
    }

    /// The first verdict of this kind, a warning or worse, of which this is true.
    pub fn until_verdict(&self, code: &str, is_so: impl Fn(&Verdict) -> bool) -> Result<Verdict> {
        let is_meant = |verdict: &&Verdict| {
            verdict.verdict == code && verdict.severity >= Severity::Warning && is_so(verdict)
        };
        let diagnosis =
            self.until_diagnosed(code, |it| it.verdicts.iter().any(|it| is_meant(&it)))?;
        let verdict = diagnosis.verdicts.iter().find(is_meant);
        verdict.cloned().context("it was there")
    }

    /// Waits until nothing is wrong any more.
    pub fn until_well(&self) -> Result<Diagnosis> {
        self.until_diagnosed("nothing wrong", |it| !is_trouble(it))
    }

    /// Nothing may be wrong now.
    pub fn is_well(&self) -> Result<()> {
        let diagnosis = self.diagnosis()?;
        if is_trouble(&diagnosis) {
            let view = serde_json::to_string(&self.view()?)?;
            bail!("not well: {:#?}; {view}", diagnosis.verdicts);
        }
        Ok(())
    }

    /// Asks again and again; nothing may be wrong at any time.
    pub fn stays_well(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.is_well()?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn is_trouble(diagnosis: &Diagnosis) -> bool {
    diagnosis.worst() >= Some(Severity::Warning)
}

/// The figures of a verdict by these names, those that it has.
#[must_use]
pub fn figures<const N: usize>(verdict: &Verdict, names: [&str; N]) -> [Option<u64>; N] {
    names.map(|name| verdict.evidence.get(name).copied())
}
