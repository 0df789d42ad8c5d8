//! How a listener's figures went, second by second.

use ratatui::text::Line;

use super::{
    super::{
        past::{self, Figures},
        state::State,
    },
    look::Look,
};
use crate::render::{
    table::Paint,
    units::{UNKNOWN, micros},
};

pub(super) struct Series {
    name: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    unit: fn(f64) -> String,
}

pub(super) const ALL: [Series; 3] = [
    Series {
        name: "queued",
        figure: |it| it.peak.max(it.queued).map(f64::from),
        unit: |it| format!("{it:.0}"),
    },
    Series {
        name: "wait p99",
        figure: |it| it.wait_p99_us.map(f64::from),
        unit: |it| micros(it as u64),
    },
    Series {
        name: "accepts/s",
        figure: |it| it.accepts_per_s.map(f64::from),
        unit: |it| format!("{it:.1}"),
    },
];

/// Of the figures on the right: `now 640ms, most 1.9s`.
const FIGURES: usize = 24;
const NAME: usize = 11;

/// The end of what is shown.
fn end(state: &State) -> Option<u64> {
    state
        .back_at
        .or_else(|| {
            let seen = state.held.as_ref()?;
            past::millis(seen.view.taken_at)
        })
        .or_else(|| state.past.last())
}

/// Of one listener, `width` seconds long.
pub(super) fn small(state: &State, id: &str, width: usize) -> [String; 3] {
    let Some(end) = end(state) else {
        return [const { String::new() }; 3];
    };
    ALL.map(|it| {
        state
            .look
            .spark(&state.past.series(id, end, width, it.figure))
    })
}

/// Each on a line of its own, with what it ends with and the most.
pub(super) fn large(state: &State, id: &str, width: usize) -> Vec<Line<'static>> {
    let Some(end) = end(state) else {
        return Vec::new();
    };
    let seconds = width.saturating_sub(NAME + FIGURES);
    let line = |it: Series| {
        let series = state.past.series(id, end, seconds, it.figure);
        let figure = |value: Option<f64>| value.map_or(UNKNOWN.to_owned(), it.unit);
        let last = figure(series.last().copied().flatten());
        let most = figure(series.iter().flatten().copied().reduce(f64::max));
        let spark = state.look.spark(&series);
        let text = format!(
            "  {:NAME$}{spark} {last}, most {most}",
            it.name,
            NAME = NAME - 2
        );
        state.look.line(text, Paint::Plain)
    };
    ALL.map(line).into()
}

/// What the lines are of.
pub(super) fn heading(state: &State, address: &str, width: usize) -> Line<'static> {
    let span = state.past.span().as_secs();
    let seconds = (width.saturating_sub(NAME + FIGURES) as u64).min(span);
    heading_line(state.look, address, seconds)
}

fn heading_line(look: Look, address: &str, seconds: u64) -> Line<'static> {
    let text = format!("{address}, last {seconds} s, one column a second");
    look.line(text, Paint::Bold)
}
