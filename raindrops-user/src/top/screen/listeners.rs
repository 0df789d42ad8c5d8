//! The table of listeners, and how the chosen one went.

use ratatui::text::Line;

use super::{
    super::state::{Row, State},
    look::Look,
    series, was, window,
};
use crate::{
    render::{
        table::{Cell, Column, Paint, Table},
        text::{
            count, known,
            listeners::{
                active, name, names, netns, overflows, queue, shows_netns, turns_of, wait,
            },
            workers,
        },
        units::plural,
    },
    view::{Listener, View},
};

/// Lines of how the chosen listener went, and rows that must stay beside them.
const SERIES: usize = 4;
const ROWS: usize = 4;

pub(super) fn lines(state: &State, width: usize, room: usize) -> Vec<Line<'static>> {
    let look = state.look;
    let rows = state.rows();
    let Some(view) = state.view() else {
        return vec![look.line("Waiting for the first figures.", Paint::Plain)];
    };
    let mut lines = Vec::new();
    let filter = state.typing.as_ref().unwrap_or(&state.filter);
    if !filter.is_empty() {
        let filter = crate::escape::printable(filter);
        let text = format!(
            "only with \"{filter}\": {} of {}; Esc shows all",
            rows.len(),
            plural(view.listeners.len() as u64, "listener")
        );
        lines.push(look.line(text, Paint::Warn));
    }
    if rows.is_empty() {
        let text = if filter.is_empty() {
            "No listening socket can be seen on this host."
        } else {
            "No listener has this text in its address, server or namespace."
        };
        lines.push(look.line(text, Paint::Plain));
        return lines;
    }
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let chosen = state.chosen(&ids);
    let shows_series = room >= lines.len() + SERIES + ROWS;
    let below = if shows_series { SERIES } else { 0 };
    let table = if state.back_at.is_some() {
        was::table(&rows)
    } else {
        let found: Vec<&Listener> = rows.iter().filter_map(|row| state.find(&row.id)).collect();
        table(state, view, &found, width)
    };
    let layout = table.lay_out(Some(width.saturating_sub(2)));
    let room = room.saturating_sub(lines.len() + below);
    let mut shown = window(look, layout.lines(), chosen, room);
    if shows_series && let Some(row) = chosen.and_then(|at| rows.get(at)) {
        shown.resize(room, Line::default());
        shown.extend(series_of(state, row, width));
    }
    lines.append(&mut shown);
    lines
}

fn series_of(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![series::heading(state, &row.address, width)];
    lines.extend(series::large(state, &row.id, width));
    lines
}

/// Seconds of a line in the table; `None` where there is no room for any.
const fn small(width: usize) -> Option<usize> {
    match width {
        0..140 => None,
        140..180 => Some(10),
        _ => Some(16),
    }
}

pub(super) fn table(state: &State, view: &View, listeners: &[&Listener], width: usize) -> Table {
    let show_netns = shows_netns(view);
    let show_turns = view.listeners.iter().any(|it| it.turns.is_some());
    let bar = if width < 100 { 8 } else { 10 };
    let small = small(width);
    let mut columns = vec![Column::left("LISTENER").cut_to(20, 14)];
    if show_netns {
        columns.push(Column::left("NETNS").cut_to(12, 5));
    }
    columns.extend([
        Column::left("SERVER").cut_to(14, 8),
        Column::left("OF LIMIT"),
        Column::right("QUEUE"),
        Column::right("OVERFLOW").short("OVFL"),
        Column::right("WAIT"),
        Column::right("ACTIVE").rank(3),
    ]);
    if show_turns {
        columns.extend([
            Column::right("WAITING").rank(2),
            Column::right("CALLING"),
            Column::right("WRITING").rank(5),
            Column::right("OLDEST"),
            Column::right("ANSWER").rank(4),
        ]);
    }
    columns.extend([
        Column::right("ACC/S").rank(1),
        Column::right("WORKERS").short("WKRS").rank(6),
    ]);
    if small.is_some() {
        columns.extend([
            Column::left("QUEUED").rank(7),
            Column::left("WAITS").rank(8),
            Column::left("ACCEPTS").rank(9),
        ]);
    }
    let mut table = Table::new(columns);
    let names = names(view);
    for listener in listeners {
        let mut row = vec![name(listener, &names[listener.id.as_str()])];
        if show_netns {
            row.push(netns(view, listener));
        }
        row.extend([
            known(listener.server.value().map(|id| workers::server(view, id))),
            of_limit(state.look, listener, bar),
            queue(listener),
            overflows(listener),
            wait(listener),
            active(listener),
        ]);
        if show_turns {
            row.extend(turns_of(listener, false));
        }
        row.extend([
            known(
                listener
                    .recent
                    .accepts_per_s
                    .map(|rate| format!("{rate:.1}")),
            ),
            count(listener.workers.as_ref().map(|it| it.len() as u64)),
        ]);
        if let Some(seconds) = small {
            row.extend(series::small(state, &listener.id, seconds).map(Cell::new));
        }
        table.push(row);
    }
    table
}

/// Blank where one of the two is not known.
fn of_limit(look: Look, listener: &Listener, width: usize) -> Cell {
    let figures = listener.queue.queued.zip(listener.queue.limit);
    match figures {
        Some((queued, limit)) if limit > 0 => {
            let bar = look.bar(f64::from(queued) / f64::from(limit), width);
            Cell::new(bar).paint(queue(listener).look())
        }
        _ => Cell::new(""),
    }
}
