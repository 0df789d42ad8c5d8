//! Adding up what cargo's many test binaries report.
//!
//! To libtest a test that returns early has passed, so the tests append what they skip to a file.

use std::fmt;

/// How the tests ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    /// Adds a line of the form `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub fn add_line(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        let number = |what: &str| -> usize {
            let before = result
                .split(';')
                .find_map(|part| part.trim().strip_suffix(what));
            let number = before.and_then(|text| text.split_whitespace().last()?.parse().ok());
            number.unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
        self.skipped += number("ignored");
    }

    pub fn add_skips(&mut self, skips: &[Skip]) {
        self.passed = self.passed.saturating_sub(skips.len());
        self.skipped += skips.len();
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// A test that did not run, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Skip {
    pub test: String,
    pub reason: String,
}

impl Skip {
    /// From lines `SKIPPED TEST: REASON`.
    pub fn parse_all(text: &str) -> Vec<Self> {
        let mut skips: Vec<Self> = text
            .lines()
            .filter_map(|line| {
                let (test, reason) = line.strip_prefix("SKIPPED ")?.split_once(": ")?;
                Some(Self {
                    test: test.to_owned(),
                    reason: reason.to_owned(),
                })
            })
            .collect();
        skips.sort_by(|left, right| left.test.cmp(&right.test));
        skips.dedup_by(|left, right| left.test == right.test);
        skips
    }

    /// Whether it would have run with more installed; otherwise this host cannot run it.
    pub fn is_avoidable(&self) -> bool {
        !self.reason.starts_with("this host cannot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that results add up, that skipped tests have not passed, and that a test which gave
    /// two reasons was skipped once.
    #[test]
    fn results_add_up() {
        let mut count = Count::default();
        for line in [
            "running 4 tests",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            count.add_line(line);
        }
        let skips = Skip::parse_all(
            "SKIPPED b: this host cannot: not root\nSKIPPED a: not installed: puma\n\
             SKIPPED a: not installed: nginx\n",
        );
        count.add_skips(&skips);
        assert_eq!(count.to_string(), "12 passed, 2 failed, 3 skipped");
        let avoidable: Vec<bool> = skips.iter().map(Skip::is_avoidable).collect();
        assert_eq!(avoidable, [true, false]);
    }
}
