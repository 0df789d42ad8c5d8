//! Accepted connections as a table for a person: the oldest turn on top, as they come.

use std::{collections::BTreeMap, io, time::SystemTime};

use super::{
    table::{Cell, Column, Paint, Table, wrap},
    text::Style,
    units::{UNKNOWN, micros, plural, short_count, time},
};
use crate::{
    escape::printable,
    snapshot::connections::Phase,
    view::connections::{Connection, Listing, State, Tcp},
};

/// From this width on there is room for figures that are only nice to have.
pub(crate) const ROOMY: usize = 110;

pub fn text(listing: &Listing, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let many_listeners = listing.listeners.len() > 1;
    let of = match &listing.listeners[..] {
        [] => String::new(),
        [only] => format!(" of {}", only.address),
        several => format!(" of {}", plural(several.len() as u64, "listener")),
    };
    let heading = format!("{}{of}, {}", counted(listing), taken(listing.taken_at));
    paragraph(&heading, Paint::Bold, style, out)?;
    for note in &listing.notes {
        let hint = note.hint.as_ref();
        let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
        let note = format!("{}: {}{hint}", note.what, note.text);
        paragraph(&note, Paint::Warn, style, out)?;
    }
    if listing.connections.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let is_roomy = style.width.is_none_or(|width| width >= ROOMY);
    let table = table(listing, many_listeners, is_roomy);
    table.lay_out(style.width).write(style.color, out)?;
    let mut legend = String::from(
        "FOR in that phase; AGE since established; IN, OUT bytes that arrived, that were \
         acknowledged (where that is not known: read, written by the server); LAST IN since data \
         arrived; RETR timeouts in a row/segments sent again",
    );
    if is_roomy {
        legend
            .push_str("; READ, WRITTEN bytes, by the server; UNREAD, UNACKED bytes in its socket");
    }
    legend.push_str("; - not known");
    paragraph(&legend, Paint::Dim, style, out)
}

fn paragraph(text: &str, paint: Paint, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let text = wrap(&printable(text), style.width, 2);
    writeln!(out, "{}", paint.on(&text, style.color))
}

/// `3 connections`, or how many of them are below.
pub(crate) fn counted(listing: &Listing) -> String {
    let shown = listing.connections.len();
    let at_least = if listing.scan_complete {
        ""
    } else {
        "at least "
    };
    let all = plural(listing.matched as u64, "accepted connection");
    if shown == listing.matched && listing.scan_complete {
        all
    } else {
        format!("{shown} of {at_least}{all}")
    }
}

fn taken(at: SystemTime) -> String {
    format!("at {}", time(at))
}

pub(crate) fn table(listing: &Listing, many_listeners: bool, is_roomy: bool) -> Table {
    let names: BTreeMap<&str, &str> = listing
        .listeners
        .iter()
        .map(|it| (it.id.as_str(), it.address.as_str()))
        .collect();
    let mut columns = Vec::new();
    if many_listeners {
        columns.push(Column::left("LISTENER").cut_to(20, 8));
    }
    columns.extend([
        Column::left("PEER").cut_to(21, 8),
        Column::right("WORKER"),
        Column::left("PHASE"),
        Column::right("FOR"),
        Column::right("AGE"),
        Column::right("IN"),
        Column::right("OUT"),
        Column::right("LAST IN").short("LAST"),
        Column::right("RTT"),
        Column::right("RETR"),
    ]);
    if is_roomy {
        columns.extend([
            Column::right("TURNS"),
            Column::right("READ"),
            Column::right("WRITTEN"),
            Column::right("UNREAD"),
            Column::right("UNACKED"),
        ]);
    }
    let mut table = Table::new(columns);
    for connection in &listing.connections {
        let mut row = Vec::new();
        if many_listeners {
            let id = connection.listener.as_deref();
            let name = id.map(|id| names.get(id).copied().unwrap_or(id));
            row.push(address(name));
        }
        row.extend(usual(connection));
        if is_roomy {
            row.extend(more(connection));
        }
        table.push(row);
    }
    table
}

fn usual(connection: &Connection) -> [Cell; 10] {
    let tcp = connection.tcp.as_ref();
    let of_tcp = |figure: fn(&Tcp) -> Option<u64>| tcp.and_then(figure);
    let retransmits = of_tcp(|it| it.retransmits.map(u64::from));
    let total = of_tcp(|it| it.total_retransmits.map(u64::from));
    [
        address(connection.peer.as_deref()),
        known(connection.worker.map(|pid| pid.to_string())),
        phase(connection),
        duration(connection.phase_age_us),
        duration(connection.age_us),
        count(of_tcp(|it| it.bytes_received).or(connection.bytes_in)),
        count(of_tcp(|it| it.bytes_acked).or(connection.bytes_out)),
        duration(of_tcp(|it| {
            Some(u64::from(it.last_data_received_ms?) * 1000)
        })),
        duration(of_tcp(|it| it.rtt_us.map(u64::from))),
        known(
            retransmits
                .zip(total)
                .map(|(now, all)| format!("{now}/{all}")),
        )
        .paint(match retransmits {
            None | Some(0) => Paint::Plain,
            Some(_) => Paint::Warn,
        }),
    ]
}

fn more(connection: &Connection) -> [Cell; 5] {
    let tcp = connection.tcp.as_ref();
    [
        count(connection.turns),
        count(connection.bytes_in),
        count(connection.bytes_out),
        count(tcp.map(|it| it.unread_bytes.into())),
        count(tcp.map(|it| it.unacked_bytes.into())),
    ]
}

/// What is being done, and whether the client has left.
fn phase(connection: &Connection) -> Cell {
    let word = connection.phase.map(|phase| match phase {
        Phase::Idle => "idle",
        Phase::Waiting => "waiting",
        Phase::Reading => "reading",
        Phase::Calling => "calling",
        Phase::Writing if connection.blocked == Some(true) => "blocked",
        Phase::Writing => "writing",
    });
    match connection.state {
        Some(State::CloseWait) => {
            let (long, short) = match word {
                Some(word) => (format!("{word}, client left"), format!("{word},left")),
                None => ("client left".to_owned(), "left".to_owned()),
            };
            Cell::new(long).short(short).paint(Paint::Warn)
        }
        Some(State::Established) | None => known(word.map(str::to_owned)),
    }
}

/// The port stays where the rest is cut.
fn address(text: Option<&str>) -> Cell {
    let text = printable(text.unwrap_or(UNKNOWN));
    let keep = text.rfind(':').map_or(0, |at| text[at..].chars().count());
    Cell::new(text).keep_end(keep)
}

fn known(text: Option<String>) -> Cell {
    Cell::new(text.unwrap_or_else(|| UNKNOWN.to_owned()))
}

fn duration(us: Option<u64>) -> Cell {
    known(us.map(micros))
}

fn count(count: Option<u64>) -> Cell {
    known(count.map(short_count))
}

#[cfg(test)]
mod tests;
