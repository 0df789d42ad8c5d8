//! The table of listeners, in the text for a person, and what its columns mean.
//!
//! Apart from the workers, because it reads other parts of the view and has columns of its own.

use std::{cmp::Reverse, collections::BTreeMap, io, net::SocketAddr, time::Duration};

use super::{
    SHORTEST, Style, count, known,
    turns::{self, Trust},
    workers,
};
use crate::{
    diagnose::{Severity, Verdict},
    escape::printable,
    render::{
        table::{Cell, Column, Layout, Paint, Table, wrap},
        units::{UNKNOWN, micros, short_count},
    },
    view::{Durations, LimitFrom, Listener, RecentDurations, View},
};

const DROPPING: u8 = 0;
const FULL: u8 = 1;
const FILLING: u8 = 2;
const WAITS_LONG: u8 = 3;
const HAS_DROPPED: u8 = 4;
const WELL: u8 = 5;

/// In the queue, at the 99th percentile of the last seconds: somebody notices.
const LONG_WAIT_US: u64 = 100_000;

pub(super) fn write(
    view: &View,
    verdicts: &[Verdict],
    style: Style,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let table = table(view, verdicts);
    let layout = table.lay_out(style.width);
    layout.write(style.color, out)?;
    let legend = wrap(&legend(view, &layout), style.width, 0);
    writeln!(out, "{}", Paint::Dim.on(&legend, style.color))
}

/// From left to right the way of a connection. Where there is little room, what is happening now
/// stays, and how it came to that goes.
fn table(view: &View, verdicts: &[Verdict]) -> Table {
    let show_netns = shows_netns(view);
    let turns = || view.listeners.iter().filter_map(|it| it.turns.as_ref());
    let show_turns = turns().next().is_some();
    let show_reading = turns().any(|it| it.reading.is_some_and(|it| it > 0));

    // Names of three kinds, all cut, would say less than they.
    let wait_rank = u8::from(show_netns);
    let mut columns = vec![Column::left("LISTENER").cut_to(20, 14)];
    if show_netns {
        columns.push(Column::left("NETNS").cut_to(12, 5));
    }
    columns.extend([
        Column::left("SERVER").cut_to(14, 8),
        Column::right("QUEUE"),
        Column::right("PEAK").rank(6),
        Column::right("OVERFLOW").short("OVFL"),
        Column::right("WAIT").rank(wait_rank),
        Column::right("ACTIVE").rank(4),
    ]);
    if show_turns {
        columns.push(Column::right("WAITING"));
        if show_reading {
            columns.push(Column::right("READING").rank(1));
        }
        columns.extend([
            Column::right("CALLING"),
            Column::right("WRITING").rank(2),
            Column::right("OLDEST"),
            Column::right("ANSWER").rank(3),
        ]);
    }
    columns.extend([
        Column::right("ACCEPTS").rank(7),
        Column::right("ACC/S").rank(8),
        Column::right("WORKERS").short("WKRS").rank(5),
    ]);

    let mut table = Table::new(columns);
    let names = names(view);
    for listener in by_trouble(view, verdicts) {
        let mut row = vec![name(listener, &names[listener.id.as_str()])];
        if show_netns {
            row.push(netns(view, listener));
        }
        row.extend([
            known(listener.server.value().map(|id| workers::server(view, id))),
            queue(listener),
            count(listener.queue.peak.map(u64::from)),
            overflows(listener),
            wait(listener),
            active(listener),
        ]);
        if show_turns {
            row.extend(turns_of(listener, show_reading));
        }
        let recent = &listener.recent;
        row.extend([
            count(listener.connections.as_ref().and_then(|it| it.accepts)),
            known(recent.accepts_per_s.map(|rate| format!("{rate:.1}"))),
            count(listener.workers.as_ref().map(|it| it.len() as u64)),
        ]);
        table.push(row);
    }
    table
}

/// What is done with its connections, in the order of the columns.
pub(crate) fn turns_of(listener: &Listener, show_reading: bool) -> Vec<Cell> {
    let Some(turns) = &listener.turns else {
        return vec![Cell::new(UNKNOWN); if show_reading { 6 } else { 5 }];
    };
    let trust = Trust::of(turns);
    let mut cells = vec![turns::gauge(turns.waiting, trust)];
    if show_reading {
        cells.push(turns::gauge(turns.reading, trust));
    }
    cells.extend([
        turns::gauge(turns.calling, trust),
        turns::writing(turns.writing, turns.blocked, trust),
        turns::oldest(turns.oldest_us, trust),
        quantiles(listener.recent.answer.as_ref(), Some(&turns.answer)),
    ]);
    cells
}

/// Who needs somebody first.
pub(super) fn by_trouble<'a>(view: &'a View, verdicts: &[Verdict]) -> Vec<&'a Listener> {
    let mut rows: Vec<&Listener> = view.listeners.iter().collect();
    rows.sort_by_cached_key(|listener| {
        let severity = Reverse(worst(listener, verdicts));
        (severity, trouble(listener), place(listener))
    });
    rows
}

/// The worst that is said of a listener, or of its server as a whole.
pub(crate) fn worst(listener: &Listener, verdicts: &[Verdict]) -> Option<Severity> {
    let server = listener.server.value();
    let is_of_it = |it: &&Verdict| match (&it.subject.listener, &it.subject.server) {
        (Some(id), _) => *id == listener.id,
        (None, Some(id)) => server == Some(id),
        (None, None) => false,
    };
    let of_it = verdicts.iter().filter(is_of_it).map(|it| it.severity);
    of_it
        .max()
        .filter(|severity| *severity >= Severity::Warning)
}

/// How much a listener needs somebody: the less, the more.
pub(crate) fn trouble(listener: &Listener) -> u8 {
    let queue = &listener.queue;
    let dropping = listener.recent.overflows.is_some_and(|it| it > 0);
    match (queue.queued, queue.limit) {
        _ if dropping => DROPPING,
        (Some(queued), Some(limit)) if queued > limit => FULL,
        (Some(queued), Some(limit)) if u64::from(queued) * 2 > u64::from(limit) => FILLING,
        _ if waits_long(listener) => WAITS_LONG,
        _ if queue.overflows.is_some_and(|it| it > 0) => HAS_DROPPED,
        _ => WELL,
    }
}

fn waits_long(listener: &Listener) -> bool {
    let p99 = listener.recent.wait.as_ref().and_then(|it| it.p99_us);
    p99.is_some_and(|it| it >= LONG_WAIT_US)
}

/// TCP by address and port, then unix by name.
pub(crate) fn place(listener: &Listener) -> (Option<Reverse<()>>, Option<SocketAddr>, &str, &str) {
    let tcp: Option<SocketAddr> = listener.address.parse().ok();
    let after = tcp.is_none().then_some(Reverse(()));
    (after, tcp, &listener.address, &listener.id)
}

/// Addresses by id. Those that share one are numbered in the order of their cookies: a short name
/// that stays while its listeners do.
pub(crate) fn names(view: &View) -> BTreeMap<&str, String> {
    let mut shared: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for listener in &view.listeners {
        let cookie: Option<u64> = listener.cookie.as_ref().and_then(|it| it.parse().ok());
        shared
            .entry((listener.netns.inode, &listener.address))
            .or_default()
            .push((cookie, listener.id.as_str()));
    }
    let mut names = BTreeMap::new();
    for ((_, address), mut members) in shared {
        members.sort_unstable();
        let alone = members.len() == 1;
        for (number, (_, id)) in (1..).zip(members) {
            let address = printable(address);
            names.insert(
                id,
                if alone {
                    address
                } else {
                    format!("{address} #{number}")
                },
            );
        }
    }
    names
}

/// What must stay of a name where the rest is cut: the port, and which member of a group it is.
pub(crate) fn name(listener: &Listener, name: &str) -> Cell {
    let keep = match name.rfind(':') {
        Some(colon) if listener.protocol != "unix" => name[colon..].chars().count(),
        _ => name.rfind(" #").map_or(0, |at| name[at..].chars().count()),
    };
    Cell::new(name).keep_end(keep)
}

/// Whether a listener is of another network namespace than the daemon, or where that is not told,
/// than the others.
pub(crate) fn shows_netns(view: &View) -> bool {
    let own = view.own_netns();
    let mut namespaces = view.listeners.iter().map(|it| it.netns.inode);
    let first = own.or_else(|| namespaces.next());
    namespaces.any(|inode| Some(inode) != first)
}

pub(crate) fn netns(view: &View, listener: &Listener) -> Cell {
    let netns = &listener.netns;
    match netns.name.value() {
        Some(name) => Cell::new(printable(name)),
        None if view.own_netns() == Some(netns.inode) => Cell::new("own"),
        None => Cell::new(netns.label()).keep_end(3),
    }
}

pub(crate) fn queue(listener: &Listener) -> Cell {
    let queue = &listener.queue;
    let figure = |it: Option<u32>| it.map_or_else(|| UNKNOWN.to_owned(), |it| it.to_string());
    let mark = if queue.limit_from == LimitFrom::AtSomaxconn {
        "*"
    } else {
        ""
    };
    Cell::new(format!(
        "{}/{}{mark}",
        figure(queue.queued),
        figure(queue.limit)
    ))
    .paint(match trouble(listener) {
        DROPPING | FULL => Paint::Bad,
        FILLING => Paint::Warn,
        _ => Paint::Plain,
    })
}

pub(crate) fn overflows(listener: &Listener) -> Cell {
    let queue = &listener.queue;
    let Some(overflows) = queue.overflows else {
        return Cell::new(UNKNOWN);
    };
    let about = match queue.overflows_exact {
        Some(false) => "~",
        Some(true) | None => "",
    };
    let paint = if trouble(listener) == DROPPING {
        Paint::Bad
    } else if overflows > 0 {
        Paint::Warn
    } else {
        Paint::Plain
    };
    Cell::new(format!("{about}{overflows}"))
        .short(format!("{about}{}", short_count(overflows)))
        .paint(paint)
}

pub(crate) fn active(listener: &Listener) -> Cell {
    let connections = listener.connections.as_ref();
    match connections.and_then(|it| Some((it.active?, it.complete || listener.protocol == "unix")))
    {
        None => Cell::new(UNKNOWN),
        Some((active, true)) => count(Some(active)),
        Some((active, false)) => {
            Cell::new(format!("~{active}")).short(format!("~{}", short_count(active)))
        }
    }
}

/// How long the connections waited in the queue.
pub(crate) fn wait(listener: &Listener) -> Cell {
    let total = listener.connections.as_ref();
    let total = total.and_then(|it| it.wait.as_ref());
    let cell = quantiles(listener.recent.wait.as_ref(), total);
    if waits_long(listener) {
        cell.paint(Paint::Warn)
    } else {
        cell
    }
}

/// Of the last seconds; of all the time, in brackets, when there was nothing in those.
fn quantiles(recent: Option<&RecentDurations>, total: Option<&Durations>) -> Cell {
    let both = |p50: Option<u64>, p99: Option<u64>| {
        let (p50, p99) = (p50?, p99?);
        Some(format!("{}/{}", micros(p50), micros(p99)))
    };
    if let Some(recent) = recent.filter(|it| it.count > 0) {
        return known(both(recent.p50_us, recent.p99_us));
    }
    let total = total.filter(|it| it.count > 0);
    match total.and_then(|it| both(it.p50_us, it.p99_us)) {
        Some(text) => Cell::new(format!("({text})")).paint(Paint::Dim),
        None => Cell::new(UNKNOWN),
    }
}

/// Explains what is shown.
fn legend(view: &View, layout: &Layout<'_>) -> String {
    let any = |wanted: fn(&Listener) -> bool| view.listeners.iter().any(wanted);
    let mut texts = Vec::new();
    if any(|it| it.group.is_some()) {
        texts.push("#n one of several listeners of an address".to_owned());
    }
    if layout.shows("NETNS") {
        texts.push("NETNS network namespace, own: the daemon's".to_owned());
    }
    let mut queue = "QUEUE not yet accepted/limit".to_owned();
    if any(|it| it.queue.limit_from == LimitFrom::AtSomaxconn) {
        queue.push_str(" (* is net.core.somaxconn)");
    }
    texts.push(queue);
    texts.push("OVERFLOW handshake segments dropped by a full queue, retries counted".to_owned());
    if layout.shows("WAITING") {
        texts.extend(turns::LEGEND.map(str::to_owned));
    }
    if layout.shows("READING") {
        texts.push(turns::READING.to_owned());
    }
    if !turns::sees_ends(view) {
        texts.push(turns::LIGHT.to_owned());
    }
    texts.extend(quantiles_legend(view, layout));
    texts.push("~ estimate; - not known or none".to_owned());
    texts.join("; ")
}

/// What quantiles are of, and of which time.
fn quantiles_legend(view: &View, layout: &Layout<'_>) -> Option<String> {
    let columns = [
        ("WAIT", "WAIT in the queue"),
        ("ANSWER", "ANSWER from the first read to the first write"),
    ];
    let shown = columns.iter().filter(|(title, _)| layout.shows(title));
    let shown: Vec<&str> = shown.map(|(_, text)| *text).collect();
    let over = view.listeners.iter().map(|it| it.recent.over_ms).max();
    let over = Duration::from_millis(over.unwrap_or(0));
    let window = if over >= SHORTEST {
        format!(" of the last {} s, or (since the start)", over.as_secs())
    } else {
        String::new()
    };
    (!shown.is_empty()).then(|| format!("{}, p50/p99{window}", shown.join(" and ")))
}
