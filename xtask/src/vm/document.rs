//! The tables of docs/kernels.md, made from what the virtual machines said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Hook,
    report::{Outcome, Report},
};
use crate::workspace;

const PATH: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- begin: made by `cargo xtask vm --kernel all --write` -->\n";
const END: &str = "<!-- end -->\n";
/// The row that changes with every update of a kernel, without anything else changing.
const VERSION_ROW: &str = "| Debian's version |";

/// A kernel by name, its version, and what its machine said.
pub type Column = (String, String, Report);

/// Puts the tables into the document.
pub fn write(columns: &[Column]) -> Result<()> {
    let (before, _, after) = read()?;
    let path = workspace::root().join(PATH);
    let text = format!("{before}{BEGIN}{}{END}{after}", tables(columns));
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Fails when the document says something else than the machines, versions apart.
pub fn check(columns: &[Column]) -> Result<()> {
    let (_, documented, _) = read()?;
    let without_versions = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with(VERSION_ROW));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let measured = tables(columns);
    if without_versions(&documented) != without_versions(&measured) {
        bail!(
            "{PATH} does not say what was measured; `cargo xtask vm --kernel all --write` \
             would write:\n\n{measured}"
        );
    }
    Ok(())
}

/// What is before the tables, the tables, and what is after them.
fn read() -> Result<(String, String, String)> {
    let path = workspace::root().join(PATH);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (tables, after) = rest.split_once(END)?;
        Some((before.to_owned(), tables.to_owned(), after.to_owned()))
    });
    parts.with_context(|| format!("{PATH} has no place for the tables"))
}

fn tables(columns: &[Column]) -> String {
    let mut text = String::new();
    let names: Vec<&str> = columns.iter().map(|(name, ..)| name.as_str()).collect();
    head(&mut text, "", &names);
    let versions = columns.iter().map(|(_, version, _)| version.clone());
    row(&mut text, "Debian's version", versions);
    let processors = columns.iter().map(|(.., report)| report.processors.clone());
    row(&mut text, "processors, emulated", processors);
    for fact in facts(columns) {
        let values = columns.iter().map(|(.., report)| {
            let known = report.facts.iter().find(|(name, _)| *name == fact);
            known.map_or_else(|| "not run".to_owned(), |(_, values)| by_hook(values))
        });
        row(&mut text, fact, values);
    }
    text.push('\n');

    head(&mut text, "tests passed", &names);
    let counts: Vec<_> = columns.iter().map(|(.., report)| report.counts()).collect();
    let suites: BTreeSet<&String> = counts
        .iter()
        .flat_map(|counts| counts.keys().map(|(suite, _)| suite))
        .collect();
    for suite in suites {
        let cells = counts.iter().map(|counts| {
            let of_suite = counts.iter().filter(|((name, _), _)| name == suite);
            by_hook(
                &of_suite
                    .map(|((_, hook), counts)| (*hook, passed(*counts)))
                    .collect(),
            )
        });
        row(&mut text, suite, cells);
    }
    exceptions(&mut text, columns);
    text
}

fn passed((passed, ran): (usize, usize)) -> String {
    if ran == 0 {
        return "not run".to_owned();
    }
    format!("{passed} of {ran}")
}

/// Names of facts, in the order in which tests state them.
fn facts(columns: &[Column]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (.., report) in columns {
        for (name, _) in &report.facts {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    names
}

/// One value where all hooks agree, else each with the hooks that have it.
fn by_hook(values: &BTreeMap<Hook, String>) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (hook, value) in values {
        match groups.iter_mut().find(|(known, _)| known == value) {
            Some((_, hooks)) => hooks.push(hook.to_string()),
            None => groups.push((value, vec![hook.to_string()])),
        }
    }
    match &groups[..] {
        [(value, _)] => (*value).to_owned(),
        groups => {
            let groups = groups
                .iter()
                .map(|(value, hooks)| format!("{}: {value}", hooks.join(", ")));
            groups.collect::<Vec<_>>().join("; ")
        }
    }
}

fn head(text: &mut String, corner: &str, names: &[&str]) {
    row(text, corner, names.iter().map(|name| (*name).to_owned()));
    text.push_str(&"|---".repeat(names.len() + 1));
    text.push_str("|\n");
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "| {name} |");
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

/// What failed, and what was not run, with the reason.
fn exceptions(text: &mut String, columns: &[Column]) {
    let mut failed = String::new();
    let mut not_run: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (name, _, report) in columns {
        for run in &report.runs {
            if run.outcome == Outcome::Failed {
                let _ = writeln!(failed, "* {name}, {}: `{}`", run.hook, run.test);
            }
        }
        for skipped in report.skipped() {
            not_run.entry(skipped).or_default().push(name);
        }
    }
    if !failed.is_empty() {
        let _ = write!(text, "\nFailed:\n\n{failed}");
    }
    if !not_run.is_empty() {
        text.push_str("\nNot run:\n\n");
    }
    for ((test, reason), kernels) in not_run {
        let where_ = if kernels.len() == columns.len() {
            "everywhere".to_owned()
        } else {
            kernels.join(", ")
        };
        let _ = writeln!(text, "* {where_}: `{test}`: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a cell names hooks only where they differ.
    #[test]
    fn cells_name_hooks_that_differ() {
        let values = |values: &[(Hook, &str)]| {
            let values = values
                .iter()
                .map(|(hook, value)| (*hook, (*value).to_owned()));
            by_hook(&values.collect())
        };
        assert_eq!(
            values(&[(Hook::Auto, "yes"), (Hook::Syscall, "yes")]),
            "yes"
        );
        let differing = [
            (Hook::Auto, "yes"),
            (Hook::Fexit, "yes"),
            (Hook::Syscall, "no"),
        ];
        assert_eq!(values(&differing), "auto, fexit: yes; syscall: no");
    }

    /// Check that the document has a place for the tables.
    #[test]
    fn the_document_has_a_place_for_them() {
        assert!(read().is_ok());
    }
}
