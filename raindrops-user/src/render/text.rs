//! The table for a person, who may be reading it at 3 a.m.
//!
//! What is wrong comes first, then listeners with the most troubled on top, then their workers,
//! then what is missing. A figure that is not known is `-`, never zero.

mod workers;

use std::{cmp::Reverse, collections::BTreeMap, io, net::SocketAddr, time::Duration};

use super::{
    table::{Cell, Column, Paint, Table, wrap},
    units::{UNKNOWN, micros, plural, short_count, time},
};
use crate::{
    diagnose::{Severity, Verdict, diagnose},
    escape::printable,
    view::{LimitFrom, Listener, SourceState, View},
};

/// Where the text goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Columns of the terminal; `None` is no limit, and nothing is cut.
    pub width: Option<usize>,
}

/// From this width on there is room for figures that are only nice to have.
const ROOMY: usize = 100;

/// More verdicts would push the table off the screen.
const MOST_VERDICTS: usize = 5;

/// A window that is shorter says nothing: a single reading has no totals and no rates.
const SHORTEST: Duration = Duration::from_secs(1);

pub fn view(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let paragraph = |out: &mut _, text: &str, indent| paragraph(out, text, indent, style);
    let watched = view.taken_at.duration_since(view.since);
    let since = if watched.is_ok_and(|it| it >= SHORTEST) {
        format!("; totals since {}", time(view.since))
    } else {
        String::new()
    };
    paragraph(
        out,
        &format!(
            "{}, Linux {}, {}, at {}{since}",
            printable(&view.host.name),
            printable(&view.host.kernel),
            plural(view.host.cpus as u64, "CPU"),
            time(view.taken_at),
        ),
        2,
    )?;
    verdicts(view, style, out)?;
    writeln!(out)?;
    if view.listeners.is_empty() {
        paragraph(out, "No listening socket can be seen on this host.", 0)?;
    } else {
        listeners(view, style, out)?;
        legend(view, style, out)?;
        workers::write(view, style, out)?;
    }
    missing(view, style, out)
}

/// The line that goes on top of a view which is too old to be trusted.
pub fn stale(age: Duration, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let text = format!(
        "WARNING: {}; see the daemon's log",
        crate::diagnose::stale(age)
    );
    let text = wrap(&text, style.width, 2);
    writeln!(out, "{}", Paint::Bad.on(&text, style.color))
}

fn paragraph(out: &mut impl io::Write, text: &str, indent: usize, style: Style) -> io::Result<()> {
    writeln!(out, "{}", wrap(text, style.width, indent))
}

/// The worst. Blindness is told below, with the other gaps; what is no trouble, only by `doctor`.
fn verdicts(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let is_trouble = |it: &Verdict| it.verdict != "blind" && it.severity >= Severity::Warning;
    let verdicts = diagnose(view).verdicts.into_iter();
    let verdicts: Vec<Verdict> = verdicts.filter(is_trouble).collect();
    for verdict in verdicts.iter().take(MOST_VERDICTS) {
        let paint = match verdict.severity {
            Severity::Critical => Paint::Bad,
            Severity::Warning => Paint::Warn,
            Severity::Info => Paint::Plain,
        };
        let text = wrap(
            &format!("{}: {}", verdict.severity, printable(&verdict.text)),
            style.width,
            2,
        );
        writeln!(out, "{}", paint.on(&text, style.color))?;
    }
    let more = verdicts.len().saturating_sub(MOST_VERDICTS) as u64;
    if more > 0 {
        let text = format!(
            "and {}: see raindrops doctor",
            plural(more, "other verdict")
        );
        paragraph(out, &text, 2, style)?;
    }
    Ok(())
}

fn listeners(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let show_netns = shows_netns(view);
    let show_rate = style.width.is_none_or(|width| width >= ROOMY);

    let mut columns = vec![Column::left("LISTENER").cut_to(24, 14)];
    if show_netns {
        columns.push(Column::left("NETNS").cut_to(12, 5));
    }
    columns.extend([
        Column::left("SERVER").cut_to(16, 8),
        Column::right("QUEUE"),
        Column::right("PEAK"),
        Column::right("OVERFLOW").short("OVFL"),
        Column::right("ACTIVE"),
        Column::right("ACCEPTS"),
    ]);
    if show_rate {
        columns.push(Column::right("ACC/S"));
    }
    columns.extend([
        Column::right("WAIT"),
        Column::right("WORKERS").short("WKRS"),
    ]);

    let mut table = Table::new(columns);
    let names = names(view);
    let mut rows: Vec<&Listener> = view.listeners.iter().collect();
    rows.sort_by_cached_key(|listener| (trouble(listener), place(listener)));
    for listener in rows {
        let mut row = vec![name(listener, &names[listener.id.as_str()])];
        if show_netns {
            row.push(netns(view, listener));
        }
        row.extend([
            known(listener.server.value().map(|id| workers::server(view, id))),
            queue(listener),
            count(listener.queue.peak.map(u64::from)),
            overflows(listener),
            active(listener),
            count(listener.connections.as_ref().and_then(|it| it.accepts)),
        ]);
        if show_rate {
            row.push(known(
                listener
                    .recent
                    .accepts_per_s
                    .map(|rate| format!("{rate:.1}")),
            ));
        }
        row.extend([
            wait(listener),
            count(listener.workers.as_ref().map(|it| it.len() as u64)),
        ]);
        table.push(row);
    }
    table.write(style.width, style.color, out)
}

/// How much a listener needs somebody: the less, the more.
fn trouble(listener: &Listener) -> u8 {
    let queue = &listener.queue;
    let dropping = listener.recent.overflows.is_some_and(|it| it > 0);
    match (queue.queued, queue.limit) {
        _ if dropping => 0,
        (Some(queued), Some(limit)) if queued > limit => 1,
        (Some(queued), Some(limit)) if u64::from(queued) * 2 > u64::from(limit) => 2,
        _ if queue.overflows.is_some_and(|it| it > 0) => 3,
        _ => 4,
    }
}

/// TCP by address and port, then unix by name.
fn place(listener: &Listener) -> (Option<Reverse<()>>, Option<SocketAddr>, &str, &str) {
    let tcp: Option<SocketAddr> = listener.address.parse().ok();
    let after = tcp.is_none().then_some(Reverse(()));
    (after, tcp, &listener.address, &listener.id)
}

/// Addresses by id. Those that share one are numbered in the order of their cookies: a short name
/// that stays while its listeners do.
fn names(view: &View) -> BTreeMap<&str, String> {
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
fn name(listener: &Listener, name: &str) -> Cell {
    let keep = match name.rfind(':') {
        Some(colon) if listener.protocol != "unix" => name[colon..].chars().count(),
        _ => name.rfind(" #").map_or(0, |at| name[at..].chars().count()),
    };
    Cell::new(name).keep_end(keep)
}

fn known(text: Option<String>) -> Cell {
    Cell::new(text.unwrap_or_else(|| UNKNOWN.to_owned()))
}

fn count(count: Option<u64>) -> Cell {
    match count {
        None => Cell::new(UNKNOWN),
        Some(count) => Cell::new(count.to_string()).short(short_count(count)),
    }
}

/// Whether a listener is of another network namespace than the daemon, or where that is not told,
/// than the others.
fn shows_netns(view: &View) -> bool {
    let own = view.own_netns();
    let mut namespaces = view.listeners.iter().map(|it| it.netns.inode);
    let first = own.or_else(|| namespaces.next());
    namespaces.any(|inode| Some(inode) != first)
}

fn netns(view: &View, listener: &Listener) -> Cell {
    let netns = &listener.netns;
    match netns.name.value() {
        Some(name) => Cell::new(printable(name)),
        None if view.own_netns() == Some(netns.inode) => Cell::new("own"),
        None => Cell::new(netns.label()).keep_end(3),
    }
}

fn queue(listener: &Listener) -> Cell {
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
        0 | 1 => Paint::Bad,
        2 => Paint::Warn,
        _ => Paint::Plain,
    })
}

fn overflows(listener: &Listener) -> Cell {
    let queue = &listener.queue;
    let Some(overflows) = queue.overflows else {
        return Cell::new(UNKNOWN);
    };
    let about = match queue.overflows_exact {
        Some(false) => "~",
        Some(true) | None => "",
    };
    let paint = if trouble(listener) == 0 {
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

fn active(listener: &Listener) -> Cell {
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

/// Of the last seconds; of all the time, in brackets, when nothing was accepted in those.
fn wait(listener: &Listener) -> Cell {
    let quantiles = |p50: Option<u64>, p99: Option<u64>| {
        let (p50, p99) = (p50?, p99?);
        Some(format!("{}/{}", micros(p50), micros(p99)))
    };
    let recent = listener.recent.wait.as_ref().filter(|it| it.count > 0);
    if let Some(recent) = recent {
        return known(quantiles(recent.p50_us, recent.p99_us));
    }
    let total = listener
        .connections
        .as_ref()
        .and_then(|it| it.wait.as_ref())
        .filter(|it| it.count > 0);
    match total.and_then(|it| quantiles(it.p50_us, it.p99_us)) {
        Some(text) => Cell::new(format!("({text})")).paint(Paint::Dim),
        None => Cell::new(UNKNOWN),
    }
}

fn legend(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let any = |wanted: fn(&Listener) -> bool| view.listeners.iter().any(wanted);
    let mut text = String::new();
    if any(|it| it.group.is_some()) {
        text.push_str("#n one of several listeners of an address; ");
    }
    if shows_netns(view) {
        text.push_str("NETNS network namespace, own: the daemon's; ");
    }
    text.push_str("QUEUE waiting to be accepted/limit");
    if any(|it| it.queue.limit_from == LimitFrom::AtSomaxconn) {
        text.push_str(" (* is net.core.somaxconn)");
    }
    text.push_str(
        "; OVERFLOW handshake segments dropped by a full queue, retries counted; WAIT in the \
         queue, p50/p99",
    );
    let over = view.listeners.iter().map(|it| it.recent.over_ms).max();
    let over = Duration::from_millis(over.unwrap_or(0));
    if over >= SHORTEST {
        text.push_str(&format!(
            " of the last {} s, or (since the start)",
            over.as_secs()
        ));
    }
    text.push_str("; ~ estimate; - not known or none");
    let text = wrap(&text, style.width, 0);
    writeln!(out, "{}", Paint::Dim.on(&text, style.color))
}

fn missing(view: &View, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let mut lines: Vec<String> = view
        .gaps
        .iter()
        .map(|gap| format!("{} ({}); {}", gap.text, gap.count, gap.hint))
        .collect();
    for source in &view.sources {
        let state = match source.state {
            SourceState::On => continue,
            SourceState::Degraded => "is degraded",
            SourceState::Off => "is off",
        };
        let mut line = format!("{} {state}", source.name);
        if let Some(reason) = &source.reason {
            line.push_str(&format!(": {reason}"));
        }
        if let Some(grant) = &source.grant {
            line.push_str(&format!("; to turn it on: {grant}"));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", Paint::Bold.on("Missing", style.color))?;
    for line in lines {
        paragraph(out, &format!("- {}", printable(&line)), 2, style)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
