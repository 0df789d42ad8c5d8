//! The workers of each server, in the text for a person.
//!
//! Apart from the listeners, because it reads other parts of the view and has columns of its own.

use std::{collections::BTreeMap, io};

use super::{
    Style, count, known,
    listeners::by_trouble,
    notes,
    turns::{self, Trust},
};
use crate::{
    diagnose::Verdict,
    escape::printable,
    render::{
        table::{Cell, Column, Layout, Paint, Table, wrap},
        units::{UNKNOWN, micros, percent},
    },
    view::{Class, Server, View, Worker},
};

pub(super) fn write(
    view: &View,
    verdicts: &[Verdict],
    style: Style,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut by_server: BTreeMap<Option<&String>, Vec<&Worker>> = BTreeMap::new();
    for worker in &view.workers {
        by_server
            .entry(worker.server.value())
            .or_default()
            .push(worker);
    }
    let sees_ends = turns::sees_ends(view);
    // In the order of their listeners: who is in trouble comes first here, too.
    let listeners = by_trouble(view, verdicts);
    let place = |id: Option<&String>| {
        let mut servers = listeners.iter().map(|it| it.server.value());
        servers
            .position(|it| id.is_some() && it == id)
            .unwrap_or(usize::MAX)
    };
    let mut by_server: Vec<_> = by_server.into_iter().collect();
    by_server.sort_by_cached_key(|(id, _)| place(*id));
    let tables: Vec<_> = by_server
        .into_iter()
        .map(|(id, mut workers)| {
            workers.sort_by_key(|worker| (worker.index, worker.pid));
            let table = worker_table(&workers, id.is_some(), sees_ends);
            (id, workers, table)
        })
        .collect();
    let layouts = tables.iter().map(|(.., table)| table.lay_out(style.width));
    let layouts: Vec<Layout<'_>> = layouts.collect();
    let legend = legend(view, &layouts);
    for (index, ((id, workers, _), layout)) in tables.iter().zip(&layouts).enumerate() {
        let server = id.and_then(|id| view.servers.iter().find(|it| it.id == *id));
        let heading = id.map_or_else(
            || "no server known".to_owned(),
            |id| heading(view, id, server),
        );
        let heading = wrap(&heading, style.width, 2);
        writeln!(out, "\n{}", Paint::Bold.on(&heading, style.color))?;
        layout.write(style.color, out)?;
        if let Some(puma) = server.and_then(|server| server.puma.value()) {
            writeln!(out, "{}", wrap(&notes::puma(puma), style.width, 2))?;
        }
        for stalled in workers.iter().filter_map(|worker| notes::stalled(worker)) {
            let stalled = wrap(&stalled, style.width, 2);
            writeln!(out, "{}", Paint::Warn.on(&stalled, style.color))?;
        }
        if index == 0 {
            let legend = wrap(&legend, style.width, 0);
            writeln!(out, "{}", Paint::Dim.on(&legend, style.color))?;
        }
    }
    Ok(())
}

/// Its name, what it calls itself, and how unevenly its workers accept.
fn heading(view: &View, id: &str, known: Option<&Server>) -> String {
    let mut heading = server(view, id);
    let title = known.map_or("", |it| it.title.as_str());
    if heading.split(':').next() != Some(title) {
        heading = format!("{heading}  {}", printable(title));
    }
    let skew = known.and_then(|it| it.skew.zip(it.skew_accepts));
    match skew {
        Some((ratio, accepts)) => {
            format!(
                "{}  (skew {ratio:.2} in {accepts} accepts)",
                heading.trim_end()
            )
        }
        None => heading.trim_end().to_owned(),
    }
}

pub(crate) fn server(view: &View, id: &str) -> String {
    printable(&view.server_label(id))
}

/// `is_named`: the heading says what they are.
fn worker_table(workers: &[&Worker], is_named: bool, sees_ends: bool) -> Table {
    let turns = || workers.iter().filter_map(|worker| worker.turns.as_ref());
    let show_turns = turns().next().is_some();
    let show_reading = turns().any(|it| it.reading.is_some_and(|it| it > 0));
    let mut columns = vec![
        Column::right("PID"),
        Column::right("INDEX").short("IDX"),
        Column::left("STATE"),
    ];
    if show_turns {
        columns.extend([Column::right("BUSY"), Column::right("WAITING")]);
        if show_reading {
            columns.push(Column::right("READING"));
        }
        columns.extend([
            Column::right("CALLING"),
            Column::right("WRITING"),
            Column::right("OLDEST"),
            Column::right("CLIENTS").rank(2),
            Column::right("TURNS").rank(4),
        ]);
    }
    let command = Column::left("COMMAND").cut_to(16, 4);
    columns.extend([
        Column::right("SHARE").rank(3),
        Column::right("LAST ACCEPT").short("ACCEPT").rank(1),
        Column::right("ACCEPTS").rank(5),
        Column::right("ACTIVE").rank(6),
        Column::right("WAIT AVG").rank(8),
        Column::right("THREADS").rank(7),
        if is_named { command.rank(9) } else { command },
    ]);
    let mut table = Table::new(columns);
    let accepts: Option<u64> = workers.iter().map(|worker| worker.accepts).sum();
    for worker in workers {
        let share = worker.accepts.zip(accepts.filter(|all| *all > 0));
        let mut row = vec![
            Cell::new(worker.pid.to_string()),
            known(worker.index.map(|index| index.to_string())),
            state(&worker.state, worker.class),
        ];
        if show_turns {
            row.extend(turns_of(worker, show_reading, sees_ends));
        }
        let age = worker.last_accept_age_us.map(micros);
        let wait = worker.wait.as_ref();
        row.extend([
            known(share.map(|(part, all)| percent(part as f64 / all as f64))),
            match age {
                Some(age) => Cell::new(format!("{age} ago")).short(age),
                None => Cell::new(UNKNOWN),
            },
            count(worker.accepts),
            count(worker.active),
            known(
                wait.and_then(|wait| wait.sum_us.checked_div(wait.count))
                    .map(micros),
            ),
            count(worker.threads.map(u64::from)),
            Cell::new(printable(&worker.comm)),
        ]);
        table.push(row);
    }
    table
}

/// What it does with its connections, in the order of the columns.
pub(crate) fn turns_of(worker: &Worker, show_reading: bool, sees_ends: bool) -> Vec<Cell> {
    let Some(turns) = &worker.turns else {
        return vec![Cell::new(UNKNOWN); if show_reading { 8 } else { 7 }];
    };
    let trust = Trust::of_worker(worker, sees_ends);
    let mut cells = vec![busy(worker), turns::gauge(turns.waiting, trust)];
    if show_reading {
        cells.push(turns::gauge(turns.reading, trust));
    }
    cells.extend([
        turns::gauge(turns.calling, trust),
        turns::writing(turns.writing, turns.blocked, trust),
        turns::oldest(turns.oldest_us, trust),
        turns::clients(worker.clients, trust),
        count(Some(turns.total)),
    ]);
    cells
}

/// Threads in a turn, of those that have been seen to answer.
fn busy(worker: &Worker) -> Cell {
    let busy = worker.threads_busy.map(|busy| busy.to_string());
    known(worker.threads_seen.map(|seen| {
        let busy = busy.as_deref().unwrap_or(UNKNOWN);
        format!("{busy}/{seen}")
    }))
}

/// The letter that `ps` shows, the word for those that explain a silent worker, and how it works.
pub(crate) fn state(letter: &str, class: Option<Class>) -> Cell {
    let (word, paint) = match letter {
        "D" => ("D disk", Paint::Warn),
        "T" | "t" => ("T stopped", Paint::Bad),
        "Z" => ("Z zombie", Paint::Bad),
        "X" => ("X dead", Paint::Bad),
        "" => (UNKNOWN, Paint::Plain),
        letter => (letter, Paint::Plain),
    };
    let word = printable(word);
    let class = match class {
        Some(Class::Direct) => " direct",
        Some(Class::Handoff) => " handoff",
        Some(Class::Loop) => " loop",
        Some(Class::Learning) => " learning",
        None => "",
    };
    let letter = word.split(' ').next().unwrap_or_default();
    let short = if class.is_empty() { &word } else { letter };
    Cell::new(format!("{word}{class}"))
        .short(format!("{short}{class}"))
        .paint(paint)
}

/// Explains what any of the tables shows.
fn legend(view: &View, layouts: &[Layout<'_>]) -> String {
    let mut texts = Vec::new();
    let classes = [
        (Class::Direct, "direct: the thread that reads answers"),
        (Class::Handoff, "handoff: one reads for a pool"),
        (Class::Loop, "loop: one has many connections"),
        (Class::Learning, "learning: not known yet"),
    ];
    let has = |class| view.workers.iter().any(|it| it.class == Some(class));
    let classes = classes.into_iter().filter(|(class, _)| has(*class));
    let classes: Vec<&str> = classes.map(|(_, text)| text).collect();
    if !classes.is_empty() {
        texts.push(format!("STATE {}", classes.join(", ")));
    }
    let columns = [
        ("BUSY", "BUSY threads in a turn/that answer"),
        ("CLIENTS", "CLIENTS accepted and open"),
        ("SHARE", "SHARE of the server's accepts"),
        ("LAST ACCEPT", "LAST ACCEPT how long ago"),
        (
            "ACTIVE",
            "ACTIVE - while some of its connections cannot be told by worker",
        ),
        ("WAIT AVG", "WAIT AVG in the queue, since the start"),
    ];
    let is_shown = |title| layouts.iter().any(|layout| layout.shows(title));
    let columns = columns.iter().filter(|(title, _)| is_shown(title));
    texts.extend(columns.map(|(_, text)| (*text).to_owned()));
    if view.servers.iter().any(|server| server.skew.is_some()) {
        texts.push("skew of recent accepts: 0 even, 1 all by one worker".to_owned());
    }
    texts.join("; ")
}
