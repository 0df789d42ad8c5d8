//! Screens that are text: all verdicts, and help.

use ratatui::text::Line;

use super::super::{keys::HELP, state::State};
use crate::render::{
    diagnosis,
    table::{Paint, wrap},
    text::{Style, turns},
};

pub(super) fn verdicts(state: &State, width: usize, room: usize) -> Vec<Line<'static>> {
    let Some(seen) = state.seen() else {
        return vec![
            state
                .look
                .line("Waiting for the first figures.", Paint::Plain),
        ];
    };
    let style = Style {
        color: false,
        width: Some(width),
    };
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = diagnosis::text(&seen.diagnosis, style, &mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let gaps = seen.view.gaps.iter();
    for gap in gaps.map(|gap| format!("gap: {} ({}); {}", gap.text, gap.count, gap.hint)) {
        text.push_str(&wrap(&crate::escape::printable(&gap), Some(width), 2));
        text.push('\n');
    }
    scrolled(state, &text, room)
}

pub(super) fn help(state: &State, width: usize, room: usize) -> Vec<Line<'static>> {
    let mut text = String::new();
    for (keys, what) in HELP {
        text.push_str(&wrap(&format!("{keys:16} {what}"), Some(width), 17));
        text.push('\n');
    }
    let words = [
        "QUEUE not yet accepted/limit (* is net.core.somaxconn); OF LIMIT the same as a bar",
        "OVERFLOW handshake segments dropped by a full queue, retries counted",
        "WAIT in the queue and ANSWER from the first read to the first write, p50/p99 of the last \
         seconds, or (since the start)",
    ];
    let words = words.into_iter().chain(turns::LEGEND).chain([
        turns::LIGHT,
        "SHARE of the listener's accepts; BUSY threads in a turn/that answer",
        "lines of bars are a second each, queued the most seen in it: blank is not known, the lowest \
         is zero",
        "sort trouble: worst verdict, dropping, full, long waits; of workers, stalled, oldest turn",
        "~ estimate; - not known or none; times are UTC",
    ]);
    text.push('\n');
    text.push_str(&wrap(&words.collect::<Vec<_>>().join("; "), Some(width), 0));
    scrolled(state, &text, room)
}

/// From the line that was moved to, but never past the end.
fn scrolled(state: &State, text: &str, room: usize) -> Vec<Line<'static>> {
    let lines: Vec<&str> = text.lines().collect();
    let first = state.scroll.min(lines.len().saturating_sub(room));
    let seen = lines.into_iter().skip(first).take(room);
    seen.map(|line| state.look.line(line, Paint::Plain))
        .collect()
}
