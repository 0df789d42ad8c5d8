//! What a section found, as Markdown.

use std::fmt::{self, Display, Write as _};

/// One section of the document.
#[derive(Debug)]
pub struct Report {
    pub title: &'static str,
    /// What is measured, how, and what its noise is.
    pub method: String,
    pub tables: Vec<Table>,
    /// What could not be measured, and what else a reader has to know of this run.
    pub notes: Vec<String>,
    pub goals: Vec<Goal>,
}

impl Report {
    pub fn new(title: &'static str, method: impl Into<String>) -> Self {
        Self {
            title,
            method: method.into(),
            tables: Vec::new(),
            notes: Vec::new(),
            goals: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// A number that has a target.
#[derive(Debug)]
pub struct Goal {
    what: String,
    measured: String,
    target: String,
    reached: bool,
}

impl Goal {
    pub fn at_most(what: impl Into<String>, measured: f64, target: f64, unit: &str) -> Self {
        Self {
            what: what.into(),
            measured: format!("{}{unit}", number(measured)),
            target: format!("≤ {}{unit}", number(target)),
            reached: measured <= target,
        }
    }

    pub fn at_least(what: impl Into<String>, measured: f64, target: f64, unit: &str) -> Self {
        Self {
            what: what.into(),
            measured: format!("{}{unit}", number(measured)),
            target: format!("≥ {}{unit}", number(target)),
            reached: measured >= target,
        }
    }

    fn verdict(&self) -> &'static str {
        if self.reached {
            "reached"
        } else {
            "**not reached**"
        }
    }
}

/// Three significant digits, or all before the point.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude >= 100.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        magnitude if magnitude >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// All goals of several reports.
pub fn goals<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Option<Table> {
    let mut table = Table::new(["number", "measured", "target", ""]);
    for goal in reports.into_iter().flat_map(|report| &report.goals) {
        table.row([
            goal.what.as_str(),
            &goal.measured,
            &goal.target,
            goal.verdict(),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("## {}\n\n{}\n", self.title, self.method);
        for table in self.tables.iter().chain(&goals([self])) {
            write!(text, "\n{table}")?;
        }
        for note in &self.notes {
            write!(text, "\n{note}\n")?;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Report, Table};

    /// Check that a goal that was missed is said to be, and numbers keep three digits.
    #[test]
    fn report_as_markdown() {
        let mut table = Table::new(["tool", "ns"]);
        table.row(["ours", "1"]);
        let report = Report {
            title: "Cost",
            method: "How.".to_owned(),
            tables: vec![table],
            notes: vec!["Note.".to_owned()],
            goals: vec![
                Goal::at_most("time", 40.04, 40.0, " µs"),
                Goal::at_least("ratio", 0.9712, 0.97, ""),
            ],
        };
        assert_eq!(
            report.to_string(),
            "## Cost\n\nHow.\n\n| tool | ns |\n|---|---|\n| ours | 1 |\n\n\
             | number | measured | target |  |\n|---|---|---|---|\n\
             | time | 40.0 µs | ≤ 40.0 µs | **not reached** |\n\
             | ratio | 0.971 | ≥ 0.970 | reached |\n\nNote.\n"
        );
    }
}
