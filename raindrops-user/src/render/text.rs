//! The table for a person, who may be reading it at 3 a.m.
//!
//! What is wrong comes first, then listeners with the most troubled on top, then their workers,
//! then what is missing. A figure that is not known is `-`, never zero.

pub(crate) mod listeners;
pub(crate) mod notes;
mod slabs;
pub(crate) mod turns;
pub(crate) mod workers;

use std::{io, time::Duration};

use super::{
    diagnosis::without_turns,
    table::{Cell, Paint, wrap},
    units::{UNKNOWN, plural, short_count, time},
};
use crate::{
    diagnose::{Severity, Verdict, diagnose},
    escape::printable,
    view::{SourceState, View, slabs::Slab},
};

/// Where the text goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Columns of the terminal; `None` is no limit, and nothing is cut.
    pub width: Option<usize>,
}

/// More verdicts would push the table off the screen.
const MOST_VERDICTS: usize = 5;

/// A window that is shorter says nothing: a single reading has no totals and no rates.
const SHORTEST: Duration = Duration::from_secs(1);

pub fn view(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let paragraph = |out: &mut _, text: &str, indent| paragraph(out, text, indent, style);
    let watched = view.taken_at.duration_since(view.since);
    let since = if watched.is_ok_and(|it| it >= SHORTEST) {
        format!("; totals since {}", time(view.since))
    } else {
        String::new()
    };
    paragraph(
        out,
        &format!(
            "{}, Linux {}, {}, at {}{since}",
            printable(&view.host.name),
            printable(&view.host.kernel),
            plural(view.host.cpus as u64, "CPU"),
            time(view.taken_at),
        ),
        2,
    )?;
    let found = diagnose(view).verdicts;
    verdicts(&found, style, out)?;
    writeln!(out)?;
    if view.listeners.is_empty() {
        paragraph(out, "No listening socket can be seen on this host.", 0)?;
    } else {
        listeners::write(view, &found, style, out)?;
        workers::write(view, &found, style, out)?;
    }
    slabs::write(view, style, out)?;
    missing(view, style, out)
}

/// One slab alone, with rates since an earlier reading of it, where there is one.
pub fn slab(
    slab: &Slab,
    before: Option<(&Slab, Duration)>,
    style: Style,
    out: &mut impl io::Write,
) -> io::Result<()> {
    slabs::write_one(slab, None, before, style, out)
}

/// The line that goes on top of a view which is too old to be trusted.
pub fn stale(age: Duration, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let text = format!(
        "WARNING: {}; see the daemon's log",
        crate::diagnose::stale(age)
    );
    let text = wrap(&text, style.width, 2);
    writeln!(out, "{}", Paint::Bad.on(&text, style.color))
}

fn paragraph(out: &mut impl io::Write, text: &str, indent: usize, style: Style) -> io::Result<()> {
    writeln!(out, "{}", wrap(text, style.width, indent))
}

pub(crate) const fn paint(severity: Severity) -> Paint {
    match severity {
        Severity::Critical => Paint::Bad,
        Severity::Warning => Paint::Warn,
        Severity::Info => Paint::Plain,
    }
}

pub(crate) fn is_trouble(verdict: &Verdict) -> bool {
    verdict.verdict != "blind" && verdict.severity >= Severity::Warning
}

/// The worst. Blindness is told below, with the other gaps; what is no trouble, only by `doctor`.
fn verdicts(found: &[Verdict], style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let verdicts: Vec<&Verdict> = found.iter().filter(|it| is_trouble(it)).collect();
    for verdict in verdicts.iter().take(MOST_VERDICTS) {
        let paint = paint(verdict.severity);
        let text = wrap(
            &format!("{}: {}", verdict.severity, printable(&verdict.text)),
            style.width,
            2,
        );
        writeln!(out, "{}", paint.on(&text, style.color))?;
    }
    let more = verdicts.len().saturating_sub(MOST_VERDICTS) as u64;
    if more > 0 {
        let text = format!(
            "and {}: see raindrops doctor",
            plural(more, "other verdict")
        );
        paragraph(out, &text, 2, style)?;
    }
    Ok(())
}

pub(crate) fn known(text: Option<String>) -> Cell {
    Cell::new(text.unwrap_or_else(|| UNKNOWN.to_owned()))
}

pub(crate) fn count(count: Option<u64>) -> Cell {
    match count {
        None => Cell::new(UNKNOWN),
        Some(count) => Cell::new(count.to_string()).short(short_count(count)),
    }
}

fn missing(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let mut lines: Vec<String> = view
        .gaps
        .iter()
        .map(|gap| format!("{} ({}); {}", gap.text, gap.count, gap.hint))
        .collect();
    for source in &view.sources {
        lines.extend(without_turns(&source.detail));
        let state = match source.state {
            SourceState::On => continue,
            SourceState::Degraded => "is degraded",
            SourceState::Off => "is off",
        };
        let mut line = format!("{} {state}", source.name);
        if let Some(reason) = &source.reason {
            line.push_str(&format!(": {reason}"));
        }
        if let Some(grant) = &source.grant {
            line.push_str(&format!("; to turn it on: {grant}"));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", Paint::Bold.on("Missing", style.color))?;
    for line in lines {
        paragraph(out, &format!("- {}", printable(&line)), 2, style)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
