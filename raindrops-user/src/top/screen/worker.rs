//! One worker, and its connections.

use std::collections::BTreeSet;

use ratatui::text::Line;

use super::{
    super::state::{Listed, State, Whom},
    window, wrapped,
};
use crate::{
    escape::printable,
    render::{
        connections::{self, ROOMY},
        table::Paint,
        text::notes,
        units::{UNKNOWN, clock, duration, micros, time},
    },
    view::{Class, View, Worker, connections::Listing},
};

pub(super) fn lines(state: &State, whom: &Whom, width: usize, room: usize) -> Vec<Line<'static>> {
    let look = state.look;
    if state.back_at.is_some() {
        let text = "Workers and connections have no past: only listeners are remembered. Esc shows \
                    them as they are now.";
        return wrapped(look, text, Paint::Warn, width, 2);
    }
    let found = state.view().and_then(|view| {
        let worker = view.workers.iter().find(|it| whom.is(it))?;
        Some((view, worker))
    });
    let Some((view, worker)) = found else {
        let text = format!(
            "Process {} has ended, or accepts no more. Esc goes back.",
            whom.pid
        );
        return vec![look.line(text, Paint::Warn)];
    };
    let mut lines = Vec::new();
    for (text, paint) in facts(view, worker) {
        lines.extend(wrapped(look, &printable(&text), paint, width, 2));
    }
    lines.push(Line::default());
    let listed = state.listed.as_ref().filter(|it| it.pid == whom.pid);
    let Some(listed) = listed else {
        lines.push(look.line("Asking for its connections.", Paint::Plain));
        return lines;
    };
    match &listed.listing {
        Err(why) => {
            let text = format!("No connections: {}", printable(why));
            lines.extend(wrapped(look, &text, Paint::Warn, width, 3));
        }
        Ok(listing) => {
            let room = room.saturating_sub(lines.len());
            lines.extend(listing_lines(state, listed, listing, width, room));
        }
    }
    lines
}

fn facts(view: &View, worker: &Worker) -> Vec<(String, Paint)> {
    let started = worker.started_at.map_or_else(|| UNKNOWN.to_owned(), time);
    let mut who = format!("{}  {}, started {started}", worker.pid, worker.title);
    for (what, name) in [("unit", &worker.unit), ("container", &worker.container)] {
        if let Some(name) = name.value() {
            who.push_str(&format!(", {what} {name}"));
        }
    }
    let mut facts = vec![(who, Paint::Bold), (doing(view, worker), Paint::Plain)];
    if let Some(stalled) = notes::stalled(worker) {
        facts.push((stalled, Paint::Warn));
    }
    if let Some(slab) = &worker.slab {
        let figures: Vec<String> = slab
            .iter()
            .map(|(name, it)| format!("{name} {it}"))
            .collect();
        facts.push((format!("slab: {}", figures.join(", ")), Paint::Plain));
    }
    facts
}

/// What its threads are at, with the source.
fn doing(view: &View, worker: &Worker) -> String {
    let figure = |it: Option<u64>| it.map_or_else(|| UNKNOWN.to_owned(), |it| it.to_string());
    let class = match worker.class {
        Some(Class::Direct) => "direct",
        Some(Class::Handoff) => "handoff",
        Some(Class::Loop) => "loop",
        Some(Class::Learning) => "learning",
        None => UNKNOWN,
    };
    let state = if worker.state.is_empty() {
        UNKNOWN
    } else {
        &worker.state
    };
    let mut text = format!(
        "state {state} (proc), class {class}, threads {}, descriptors {} of {}, clients {}",
        figure(worker.threads.map(u64::from)),
        figure(worker.fds),
        figure(worker.fd_limit),
        figure(worker.clients),
    );
    let Some(turns) = &worker.turns else {
        text.push_str("; turns: not known");
        return text;
    };
    let age = view.sources.iter().find(|it| it.name == "bpf");
    let age = age
        .and_then(|it| it.age_ms)
        .map(|ms| micros(ms.saturating_mul(1_000)));
    let age = age.map_or_else(String::new, |age| format!(", {age} old"));
    let oldest = turns.oldest_us.map_or_else(|| UNKNOWN.to_owned(), micros);
    text.push_str(&format!("; oldest turn (bpf{age}) {oldest}"));
    if let Some(thread) = turns.oldest_thread {
        text.push_str(&format!(" in thread {thread}"));
    }
    if let Some(place) = &worker.oldest_place {
        text.push_str(&format!(", state {}", place.state));
        if let Some(syscall) = &place.syscall {
            text.push_str(&format!(" in {syscall}()"));
        }
        if let Some(wchan) = &place.wchan {
            text.push_str(&format!(" at {wchan}"));
        }
    }
    text
}

fn listing_lines(
    state: &State,
    listed: &Listed,
    listing: &Listing,
    width: usize,
    room: usize,
) -> Vec<Line<'static>> {
    let look = state.look;
    let age = duration(state.now.running.saturating_sub(listed.at));
    let of: BTreeSet<_> = (listing.connections.iter())
        .map(|it| it.listener.as_deref())
        .collect();
    let name = of.first().filter(|_| of.len() == 1).and_then(|id| {
        let mut names = listing.listeners.iter();
        names.find(|it| Some(it.id.as_str()) == *id)
    });
    let name = name.map_or_else(String::new, |it| format!(" of {}", printable(&it.address)));
    let heading = format!(
        "{}{name}, read at {}, {age} ago",
        connections::counted(listing),
        clock(listing.taken_at)
    );
    let mut lines = vec![look.line(heading, Paint::Bold)];
    for note in &listing.notes {
        let hint = note.hint.as_ref();
        let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
        let text = printable(&format!("{}: {}{hint}", note.what, note.text));
        lines.extend(wrapped(look, &text, Paint::Warn, width, 2));
    }
    if listing.connections.is_empty() {
        return lines;
    }
    let table = connections::table(listing, of.len() > 1, width >= ROOMY);
    let rows = table.lay_out(Some(width.saturating_sub(2))).lines();
    let chosen = state.scroll.min(listing.connections.len() - 1);
    let room = room.saturating_sub(lines.len());
    lines.extend(window(look, rows, Some(chosen), room));
    lines
}
