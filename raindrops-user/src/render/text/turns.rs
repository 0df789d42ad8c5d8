//! Figures of turns, marked by how far they are to be trusted; the same for listeners and workers.

use super::count;
use crate::{
    render::{
        table::Cell,
        units::{UNKNOWN, micros, short_count},
    },
    view::{Turns, View, Worker, WriteEnd},
};

/// What the words mean, where both tables have them.
pub(crate) const LEGEND: [&str; 4] = [
    "WAITING accepted, data there, no thread at it",
    "CALLING read and not answered: the application is at it",
    "WRITING being answered (of them blocked: the client does not take it)",
    "OLDEST age of the oldest turn",
];
pub(crate) const READING: &str = "READING the rest of a request is waited for";
pub(crate) const LIGHT: &str =
    "<= at most: ends of answers are not seen, so idle connections may be among them";

/// How far figures of turns are to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    /// All open connections are looked at.
    complete: bool,
    /// The end of an answer is seen. Else idle connections count as being written to, and requests
    /// that still arrive as being called.
    sees_ends: bool,
}

impl Trust {
    const FULL: Self = Self {
        complete: true,
        sees_ends: true,
    };

    pub(crate) fn of(turns: &Turns) -> Self {
        Self {
            complete: turns.complete,
            sees_ends: turns.write_end == WriteEnd::Seen,
        }
    }

    /// `sees_ends`: on all listeners.
    pub(crate) fn of_worker(worker: &Worker, sees_ends: bool) -> Self {
        Self {
            complete: worker.turns.as_ref().is_none_or(|turns| turns.complete),
            sees_ends,
        }
    }

    const fn about(self) -> &'static str {
        if self.complete { "" } else { "~" }
    }

    const fn at_most(self) -> &'static str {
        if self.sees_ends { "" } else { "<=" }
    }
}

/// Whether the end of an answer is seen on all listeners.
pub(crate) fn sees_ends(view: &View) -> bool {
    let mut each = view.listeners.iter().filter_map(|it| it.turns.as_ref());
    each.all(|turns| turns.write_end == WriteEnd::Seen)
}

/// Connections of which none may be missing.
pub(crate) fn clients(clients: Option<u64>, trust: Trust) -> Cell {
    marked(clients, trust.about())
}

/// Turns that are waiting or calling.
pub(crate) fn gauge(turns: Option<u64>, trust: Trust) -> Cell {
    let exact = trust == Trust::FULL;
    marked(turns, if exact { "" } else { "~" })
}

/// With those that are blocked in brackets.
pub(crate) fn writing(writing: Option<u64>, blocked: Option<u64>, trust: Trust) -> Cell {
    let Some(writing) = writing else {
        return Cell::new(UNKNOWN);
    };
    let at_most = if writing == 0 { "" } else { trust.at_most() };
    let blocked = blocked.filter(|it| *it > 0);
    let blocked = blocked.map_or_else(String::new, |blocked| format!(" ({blocked})"));
    let about = trust.about();
    Cell::new(format!("{about}{at_most}{writing}{blocked}"))
        .short(format!("{about}{at_most}{}{blocked}", short_count(writing)))
}

pub(crate) fn oldest(age_us: Option<u64>, trust: Trust) -> Cell {
    Cell::new(match age_us {
        Some(age) => format!("{}{}{}", trust.about(), trust.at_most(), micros(age)),
        None => UNKNOWN.to_owned(),
    })
}

fn marked(figure: Option<u64>, mark: &str) -> Cell {
    match figure {
        Some(figure) if !mark.is_empty() => {
            Cell::new(format!("{mark}{figure}")).short(format!("{mark}{}", short_count(figure)))
        }
        figure => count(figure),
    }
}
