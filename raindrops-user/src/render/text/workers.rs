//! The workers of each server, in the text for a person.
//!
//! Apart from the listeners, because it reads other parts of the view and has columns of its own.

use std::{collections::BTreeMap, io};

use super::{Style, count, known};
use crate::{
    escape::printable,
    render::{
        table::{Cell, Column, Paint, Table, wrap},
        units::{UNKNOWN, micros, percent},
    },
    view::{View, Worker},
};

const LEGEND: &str = "SHARE of the server's accepts; ACTIVE - while some of its connections cannot \
                      be told by worker; WAIT AVG in the queue, since the start";

pub(super) fn write(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let mut by_server: BTreeMap<Option<&String>, Vec<&Worker>> = BTreeMap::new();
    for worker in &view.workers {
        by_server
            .entry(worker.server.value())
            .or_default()
            .push(worker);
    }
    let mut explained = false;
    for (id, mut workers) in by_server {
        workers.sort_by_key(|worker| (worker.index, worker.pid));
        let heading = id.map_or_else(
            || "no server known".to_owned(),
            |id| {
                let name = server(view, id);
                let title = view.servers.iter().find(|it| it.id == *id);
                let title = title.map_or("", |it| it.title.as_str());
                if name.split(':').next() == Some(title) {
                    return name;
                }
                format!("{name}  {}", printable(title))
            },
        );
        let heading = wrap(heading.trim_end(), style.width, 2);
        writeln!(out, "\n{}", Paint::Bold.on(&heading, style.color))?;
        worker_table(&workers).write(style.width, style.color, out)?;
        if !std::mem::replace(&mut explained, true) {
            let legend = wrap(LEGEND, style.width, 0);
            writeln!(out, "{}", Paint::Dim.on(&legend, style.color))?;
        }
    }
    Ok(())
}

pub(super) fn server(view: &View, id: &str) -> String {
    printable(&view.server_label(id))
}

fn worker_table(workers: &[&Worker]) -> Table {
    let mut table = Table::new(vec![
        Column::right("PID"),
        Column::right("INDEX"),
        Column::left("STATE"),
        Column::right("THREADS"),
        Column::right("ACCEPTS"),
        Column::right("SHARE"),
        Column::right("ACTIVE"),
        Column::right("LAST ACCEPT"),
        Column::right("WAIT AVG"),
        Column::left("COMMAND").cut_to(16, 4),
    ]);
    let accepts: Option<u64> = workers.iter().map(|worker| worker.accepts).sum();
    for worker in workers {
        let share = worker.accepts.zip(accepts.filter(|all| *all > 0));
        table.push(vec![
            Cell::new(worker.pid.to_string()),
            known(worker.index.map(|index| index.to_string())),
            state(&worker.state),
            count(worker.threads.map(u64::from)),
            count(worker.accepts),
            known(share.map(|(part, all)| percent(part as f64 / all as f64))),
            count(worker.active),
            known(
                worker
                    .last_accept_age_us
                    .map(|age| format!("{} ago", micros(age))),
            ),
            known(
                worker
                    .wait
                    .as_ref()
                    .and_then(|wait| wait.sum_us.checked_div(wait.count))
                    .map(micros),
            ),
            Cell::new(printable(&worker.comm)),
        ]);
    }
    table
}

/// The letter that `ps` shows, and the word for those that explain a silent worker.
fn state(letter: &str) -> Cell {
    match letter {
        "D" => Cell::new("D disk").paint(Paint::Warn),
        "T" | "t" => Cell::new("T stopped").paint(Paint::Bad),
        "Z" => Cell::new("Z zombie").paint(Paint::Bad),
        "X" => Cell::new("X dead").paint(Paint::Bad),
        "" => Cell::new(UNKNOWN),
        letter => Cell::new(printable(letter)),
    }
}
