//! What the tests in a virtual machine said, and what that means.

use std::collections::BTreeMap;

use super::Hook;

/// Programs that are servers under test elsewhere, and not in the virtual machine.
const NOT_IN_THE_MACHINE: &[&str] = &[
    "git", "gunicorn", "nginx", "puma", "rainbows", "ruby", "unicorn",
];
/// What a kernel says of its own defects.
const COMPLAINTS: &[&str] = &["BUG: ", "WARNING: ", "Oops: ", "Kernel panic"];

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

/// One run of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub hook: Hook,
    /// `suite::name`.
    pub test: String,
    pub outcome: Outcome,
    /// What it printed, if it failed.
    pub output: Vec<String>,
}

/// All that one virtual machine said.
#[derive(Debug, Default)]
pub struct Report {
    pub release: String,
    pub processors: String,
    pub runs: Vec<Run>,
    /// In the order of their first mention: name, and value by hook.
    pub facts: Vec<(String, BTreeMap<Hook, String>)>,
    /// What went wrong outside of any test.
    pub troubles: Vec<String>,
    pub is_done: bool,
    current: Option<Run>,
}

impl Report {
    /// Adds a line; returns the run that it ends.
    pub fn add_line(&mut self, line: &str) -> Option<&Run> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, &mut self.current) {
            ("KERNEL", _) => {
                let (release, processors) = rest.split_once(' ').unwrap_or((rest, "?"));
                release.clone_into(&mut self.release);
                processors.clone_into(&mut self.processors);
            }
            ("BEGIN", _) => {
                let (hook, test) = rest.split_once(' ')?;
                self.current = Some(Run {
                    hook: hook.parse().ok()?,
                    test: test.to_owned(),
                    outcome: Outcome::Failed,
                    output: Vec::new(),
                });
            }
            ("|", Some(run)) => run.output.push(rest.to_owned()),
            ("SKIPPED", Some(run)) => {
                let reason = rest.split_once(": ").map_or(rest, |(_, reason)| reason);
                run.outcome = Outcome::Skipped(reason.to_owned());
            }
            ("FACT", Some(run)) => {
                let hook = run.hook;
                if let Some((name, value)) = rest.split_once('\t') {
                    self.add_fact(hook, name, value);
                }
            }
            ("END", Some(run)) => {
                let passed = rest == "0";
                match (&run.outcome, passed) {
                    (Outcome::Skipped(_), true) => {}
                    (_, true) => run.outcome = Outcome::Passed,
                    (_, false) => run.outcome = Outcome::Failed,
                }
                self.runs.extend(self.current.take());
                return self.runs.last();
            }
            ("TROUBLE", _) => self.troubles.push(rest.to_owned()),
            ("DONE", _) => self.is_done = true,
            _ => {}
        }
        None
    }

    fn add_fact(&mut self, hook: Hook, name: &str, value: &str) {
        let known = self.facts.iter_mut().find(|(known, _)| known == name);
        if let Some((_, values)) = known {
            values.insert(hook, value.to_owned());
        } else {
            let values = BTreeMap::from([(hook, value.to_owned())]);
            self.facts.push((name.to_owned(), values));
        }
    }

    /// Looks through what the kernel said.
    pub fn add_console(&mut self, console: &str) {
        let complaints = console
            .lines()
            .filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)));
        self.troubles
            .extend(complaints.map(|line| format!("the kernel says: {}", line.trim())));
    }

    /// Why this machine's run does not count as a success; empty when it does.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = self.troubles.clone();
        if !self.is_done {
            let during = self.current.as_ref();
            let during = during.map_or_else(String::new, |run| format!(" during {}", run.test));
            failures.push(format!("the machine ended before its tests did{during}"));
        }
        for run in &self.runs {
            match &run.outcome {
                Outcome::Passed => {}
                Outcome::Failed => failures.push(format!("{}: {}", run.hook, run.test)),
                Outcome::Skipped(reason) if may_skip(reason) => {}
                Outcome::Skipped(reason) => {
                    failures.push(format!("{}: {} skipped: {reason}", run.hook, run.test));
                }
            }
        }
        failures
    }

    /// By suite and hook: passed, and all that ran.
    pub fn counts(&self) -> BTreeMap<(String, Hook), (usize, usize)> {
        let mut counts = BTreeMap::new();
        for run in &self.runs {
            let suite = run.test.split("::").next().unwrap_or_default();
            let (passed, ran) = counts.entry((suite.to_owned(), run.hook)).or_insert((0, 0));
            *passed += usize::from(run.outcome == Outcome::Passed);
            *ran += usize::from(!matches!(run.outcome, Outcome::Skipped(_)));
        }
        counts
    }

    /// Tests that did not run although BPF was not switched off, with the reason, each once.
    pub fn skipped(&self) -> BTreeMap<&str, &str> {
        let runs = self.runs.iter().filter(|run| run.hook != Hook::None);
        let skipped = runs.filter_map(|run| match &run.outcome {
            Outcome::Skipped(reason) => Some((run.test.as_str(), reason.as_str())),
            Outcome::Passed | Outcome::Failed => None,
        });
        skipped.collect()
    }
}

/// A test may be skipped for a server that is not there, or for what this kernel cannot do.
fn may_skip(reason: &str) -> bool {
    reason.strip_prefix("not installed: ").map_or_else(
        || reason.starts_with("this host cannot: "),
        |program| NOT_IN_THE_MACHINE.contains(&program),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.add_line(line);
        }
        report
    }

    /// Check that outcomes, facts and output are taken from what the machine says, and that a
    /// failure, a skip that is none of the kernel's and a complaint of the kernel are failures.
    #[test]
    fn what_the_machine_says_is_understood() {
        let mut report = report(&[
            "KERNEL 6.1.0 2",
            "BEGIN fexit kernel::loads",
            "FACT memory\tas needed",
            "END 0",
            "BEGIN syscall kernel::loads",
            "| assertion failed",
            "END 101",
            "BEGIN fexit overflow::deferred",
            "SKIPPED overflow::deferred: not installed: unicorn",
            "END 0",
            "BEGIN fexit agreement::agrees",
            "SKIPPED agreement::agrees: not installed: ss",
            "END 0",
            "DONE",
        ]);
        report.add_console("[ 1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/x.c:1\n[ 1.1] fine\n");
        assert_eq!(
            report.failures(),
            [
                "the kernel says: [ 1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/x.c:1",
                "syscall: kernel::loads",
                "fexit: agreement::agrees skipped: not installed: ss",
            ]
        );
        let output = report.runs.iter().flat_map(|run| &run.output);
        assert_eq!(output.collect::<Vec<_>>(), ["assertion failed"]);
        let counts = report.counts();
        assert_eq!(counts[&("kernel".to_owned(), Hook::Fexit)], (1, 1));
        assert_eq!(counts[&("kernel".to_owned(), Hook::Syscall)], (0, 1));
        assert_eq!(report.facts.len(), 1);
    }

    /// Check that a machine that ends in the middle of a test has failed.
    #[test]
    fn a_machine_that_ends_early_has_failed() {
        let report = report(&["KERNEL 6.1.0 2", "BEGIN none kernel::loads"]);
        assert_eq!(
            report.failures(),
            ["the machine ended before its tests did during kernel::loads"]
        );
    }
}
