//! What is painted: a state as lines of text, from top to bottom.
//!
//! The tables are those of `show`, cell by cell, so that a figure has one form and one meaning. Whatever
//! is painted went through [`printable`](crate::escape::printable): names are what others chose.

mod detail;
mod header;
mod listeners;
mod look;
mod series;
mod text;
mod was;
mod worker;

use ratatui::{
    Frame,
    text::{Line, Span},
};

pub use self::look::Look;
use super::state::{Screen, State};
use crate::render::table::Paint;

/// With less, no row of the table would be whole.
const LEAST: (usize, usize) = (60, 12);

pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let lines = if width < LEAST.0 || height < LEAST.1 {
        too_small(width, height)
    } else {
        page(state, width, height)
    };
    for (y, line) in (area.top()..area.bottom()).zip(&lines) {
        frame.buffer_mut().set_line(area.x, y, line, area.width);
    }
}

fn too_small(width: usize, height: usize) -> Vec<Line<'static>> {
    let (least_width, least_height) = LEAST;
    [
        format!("{width}x{height} is too small"),
        "for raindrops top:".to_owned(),
        format!("make it {least_width}x{least_height}"),
        "or more. q quits.".to_owned(),
    ]
    .map(Line::from)
    .into()
}

fn page(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    let mut lines = header::lines(state, width, height);
    let room = height.saturating_sub(lines.len() + 1);
    let mut body = match state.screen() {
        Screen::Listeners => listeners::lines(state, width, room),
        Screen::Listener(id) => detail::lines(state, id, width, room),
        Screen::Worker(whom) => worker::lines(state, whom, width, room),
        Screen::Verdicts => text::verdicts(state, width, room),
        Screen::Help => text::help(state, width, room),
    };
    body.resize(room, Line::default());
    lines.append(&mut body);
    lines.push(header::footer(state, width));
    lines
}

/// Rows of a table below its titles, moved so that the chosen one is in sight.
fn window(
    look: Look,
    rows: Vec<Vec<(String, Paint)>>,
    chosen: Option<usize>,
    room: usize,
) -> Vec<Line<'static>> {
    let mut rows = rows.into_iter();
    let mut lines: Vec<Line<'static>> = Vec::new();
    if let Some(titles) = rows.next().filter(|_| room > 0) {
        lines.push(marked(look, titles, false));
    }
    let room = room.saturating_sub(lines.len());
    let rest = rows.len().saturating_sub(room);
    let first = chosen.unwrap_or(0).saturating_sub(room / 2).min(rest);
    let seen = rows.enumerate().skip(first).take(room);
    lines.extend(seen.map(|(index, row)| marked(look, row, chosen == Some(index))));
    lines
}

/// A row with its mark: a colour alone would say nothing where there is none.
fn marked(look: Look, row: Vec<(String, Paint)>, is_chosen: bool) -> Line<'static> {
    let mark = (if is_chosen { "> " } else { "  " }).to_owned();
    let pieces = [(mark, Paint::Plain)].into_iter().chain(row);
    let spans = pieces.map(|(text, paint)| Span::styled(text, look.style(paint)));
    let line = Line::from(spans.collect::<Vec<_>>());
    if is_chosen {
        line.style(look.chosen())
    } else {
        line
    }
}

/// Text in as many lines as it takes, but no more than `most`; what is left out is marked.
fn wrapped(look: Look, text: &str, paint: Paint, width: usize, most: usize) -> Vec<Line<'static>> {
    let text = crate::render::table::wrap(text, Some(width), 2);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            let kept: String = last.chars().take(width.saturating_sub(3)).collect();
            *last = format!("{} ..", kept.trim_end());
        }
    }
    let lines = lines.into_iter();
    lines.map(|line| look.line(line, paint)).collect()
}
