//! One listener: where its figures come from, how they went, and its workers.

use std::time::{Duration, SystemTime};

use ratatui::text::Line;

use super::{
    super::state::{Row, State},
    listeners, series, was, window, wrapped,
};
use crate::{
    escape::printable,
    render::{
        table::{Cell, Column, Paint, Table},
        text::{count, known, notes, turns, workers},
        units::{UNKNOWN, clock, duration, micros, percent},
    },
    view::{Durations, LimitFrom, Listener, View, Worker},
};

/// Height from which on there is room for text that goes over two lines.
const ROOMY: usize = 16;
/// Of the part of accepts.
const BAR: usize = 8;

pub(super) fn lines(state: &State, id: &str, width: usize, room: usize) -> Vec<Line<'static>> {
    if let Some(at) = state.back_at {
        return of_past(state, id, at, width);
    }
    let found = state.view().and_then(|view| Some((view, state.find(id)?)));
    let Some((view, listener)) = found else {
        return vec![
            state
                .look
                .line("This listener is gone. Esc goes back.", Paint::Warn),
        ];
    };
    let look = state.look;
    let own = listeners::table(state, view, &[listener], width);
    let mut lines = window(
        look,
        own.lay_out(Some(width.saturating_sub(2))).lines(),
        None,
        2,
    );
    let most = if room >= ROOMY { 2 } else { 1 };
    for text in facts(view, listener) {
        lines.extend(wrapped(look, &printable(&text), Paint::Plain, width, most));
    }
    lines.extend(series::large(state, id, width));
    lines.push(Line::default());
    let found = state.workers();
    if found.is_empty() {
        lines.extend(wrapped(look, &no_workers(listener), Paint::Plain, width, 2));
        return lines;
    }
    let below: Vec<Line<'static>> = notes_of(view, listener, &found)
        .into_iter()
        .flat_map(|(text, paint)| wrapped(look, &text, paint, width, most))
        .take(room / 4)
        .collect();
    let table = table(state, view, listener, &found);
    let chosen = state.chosen_worker().map(|it| it.pid);
    let chosen = found.iter().position(|it| Some(it.pid) == chosen);
    let room = room.saturating_sub(lines.len() + below.len());
    let rows = table.lay_out(Some(width.saturating_sub(2))).lines();
    lines.extend(window(look, rows, chosen, room));
    lines.extend(below);
    lines
}

fn of_past(state: &State, id: &str, at: u64, width: usize) -> Vec<Line<'static>> {
    let look = state.look;
    let Some(figures) = state.past.at(at, id) else {
        return vec![look.line(
            "Nothing is remembered of this listener at that time.",
            Paint::Warn,
        )];
    };
    let address = state.past.name_of(id).map_or(id, |it| it.address.as_str());
    let row = Row {
        id: id.to_owned(),
        address: printable(address),
        was: Some(*figures),
    };
    let table = was::table(std::slice::from_ref(&row));
    let mut lines = window(
        look,
        table.lay_out(Some(width.saturating_sub(2))).lines(),
        None,
        2,
    );
    lines.push(Line::default());
    lines.extend(series::large(state, id, width));
    lines.push(Line::default());
    let text =
        "Workers have no past: only listeners are remembered. Esc shows them as they are now.";
    lines.extend(wrapped(look, text, Paint::Warn, width, 2));
    lines
}

/// Figures with their source and its age, one group in each line.
fn facts(view: &View, listener: &Listener) -> Vec<String> {
    let mut facts = vec![queue(view, listener)];
    let age = |ms: Option<u64>| {
        let age = ms.map(|ms| format!(", {} old", duration(Duration::from_millis(ms))));
        age.unwrap_or_default()
    };
    facts.push(match &listener.connections {
        None => "connections: not known; v tells why".to_owned(),
        Some(it) => format!(
            "connections ({}{}): accepts {}, older than the daemon {}, closes {}, half closed {}, \
             aborted {}; wait {}",
            it.source,
            age(source_age(view, &it.source)),
            figure(it.accepts),
            figure(it.seeded),
            figure(it.closes),
            figure(it.half_closed),
            figure(it.aborted),
            durations(it.wait.as_ref())
        ),
    });
    facts.push(match &listener.turns {
        None => "turns: not known; v tells why".to_owned(),
        Some(it) => format!(
            "turns ({}{}): begun {}, unanswered {}, idle {}; answer {}",
            it.source,
            age(it.age_ms),
            it.total,
            it.unanswered,
            figure(it.idle),
            durations(Some(&it.answer))
        ),
    });
    facts
}

fn queue(view: &View, listener: &Listener) -> String {
    let queue = &listener.queue;
    let age = queue.age_ms.or_else(|| source_age(view, &queue.source));
    let age = age.map(|ms| format!(", {} old", duration(Duration::from_millis(ms))));
    let mut text = format!("queue ({}{})", queue.source, age.unwrap_or_default());
    let since = |what: &str, since: Option<SystemTime>| {
        since.map(|since| format!("{what} since {}, ", clock(since)))
    };
    text.push_str(": ");
    text.extend(since("FULL", queue.full_since));
    text.extend(since("not empty", queue.waiting_since));
    text.push_str(&format!("peak {}", figure(queue.peak.map(u64::from))));
    if let Some(at) = queue.peak_at {
        text.push_str(&format!(" at {}", clock(at)));
    }
    text.push_str(match queue.limit_from {
        LimitFrom::App => ", limit is the app's backlog",
        LimitFrom::AtSomaxconn => ", limit is net.core.somaxconn",
        LimitFrom::Unknown => ", whose the limit is, is not known",
    });
    let defers = if queue.defer_accept == Some(true) {
        " (TCP_DEFER_ACCEPT: healthy ones too)"
    } else {
        ""
    };
    text.push_str(&format!(", drops {}{defers}", figure(queue.drops)));
    text
}

fn source_age(view: &View, name: &str) -> Option<u64> {
    view.sources.iter().find(|it| it.name == name)?.age_ms
}

fn figure(figure: Option<u64>) -> String {
    figure.map_or_else(|| UNKNOWN.to_owned(), |it| it.to_string())
}

fn durations(it: Option<&Durations>) -> String {
    let us = |us: Option<u64>| us.map_or_else(|| UNKNOWN.to_owned(), micros);
    let (p50, p90, p99, max) = match it {
        None => (None, None, None, None),
        Some(it) => (it.p50_us, it.p90_us, it.p99_us, it.max_us),
    };
    format!(
        "p50 {} p90 {} p99 {} most {}",
        us(p50),
        us(p90),
        us(p99),
        us(max)
    )
}

fn no_workers(listener: &Listener) -> String {
    match (&listener.workers, &listener.holders) {
        (Some(_), _) => "No process is known to accept here.".to_owned(),
        (None, Some(holders)) if !holders.is_empty() => {
            let pids: Vec<String> = holders.iter().map(u32::to_string).collect();
            format!(
                "Who accepts here is not known; it is held by {}.",
                pids.join(", ")
            )
        }
        (None, _) => "Who accepts here is not known; v tells what is missing.".to_owned(),
    }
}

/// What cannot be told in a row.
fn notes_of(view: &View, listener: &Listener, found: &[&Worker]) -> Vec<(String, Paint)> {
    let stalled = found.iter().filter_map(|it| notes::stalled(it));
    let mut all: Vec<(String, Paint)> = stalled.map(|it| (it, Paint::Warn)).collect();
    let server = listener.server.value();
    let server = view.servers.iter().find(|it| Some(&it.id) == server);
    if let Some(puma) = server.and_then(|it| it.puma.value()) {
        all.push((notes::puma(puma), Paint::Plain));
    }
    all
}

fn table(state: &State, view: &View, listener: &Listener, found: &[&Worker]) -> Table {
    let sees_ends = turns::sees_ends(view);
    let show_turns = found.iter().any(|it| it.turns.is_some());
    let show_slab = found.iter().any(|it| slab_calling(it).is_some());
    let mut columns = vec![
        Column::right("PID"),
        Column::right("INDEX").short("IDX"),
        Column::left("STATE"),
        Column::left("SHARE"),
        Column::right("").rank(1),
    ];
    if show_turns {
        columns.extend([
            Column::right("BUSY"),
            Column::right("WAITING").rank(3),
            Column::right("CALLING"),
            Column::right("WRITING").rank(4),
            Column::right("OLDEST"),
            Column::right("CLIENTS").rank(2),
            Column::right("TURNS").rank(6),
        ]);
    }
    if show_slab {
        columns.push(Column::right("SLAB CALLING").short("SLAB"));
    }
    columns.extend([
        Column::right("LAST ACCEPT").short("ACCEPT"),
        Column::right("ACCEPTS").rank(5),
        Column::right("THREADS").rank(7),
        Column::left("COMMAND").cut_to(16, 4).rank(8),
    ]);
    let mut table = Table::new(columns);
    for worker in found {
        let share = worker.listeners.iter().find(|it| it.id == listener.id);
        let share = share.and_then(|it| it.share);
        let mut row = vec![
            Cell::new(worker.pid.to_string()),
            known(worker.index.map(|index| index.to_string())),
            workers::state(&worker.state, worker.class),
            Cell::new(share.map_or_else(String::new, |it| state.look.bar(it, BAR))),
            known(share.map(percent)),
        ];
        if show_turns {
            row.extend(workers::turns_of(worker, false, sees_ends));
        }
        if show_slab {
            row.push(known(slab_calling(worker)));
        }
        let age = worker.last_accept_age_us.map(micros);
        row.extend([
            match age {
                Some(age) => Cell::new(format!("{age} ago")).short(age),
                None => Cell::new(UNKNOWN),
            },
            count(worker.accepts),
            count(worker.threads.map(u64::from)),
            Cell::new(printable(&worker.comm)),
        ]);
        table.push(row);
    }
    table
}

/// What the application itself says that it is at.
fn slab_calling(worker: &Worker) -> Option<String> {
    let number = worker.slab.as_ref()?.get("calling")?;
    Some(number.to_string())
}
