//! `/_raindrops`: the text of Raindrops::Middleware.
//!
//! A line whose figure is not known is left out: a client that looks for it finds none, and not a 0
//! that nobody has counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::rows::{Row, home, rows};
use crate::view::{Listener, View, slabs::Number};

/// The text of the listeners of one namespace, see [`home`], or of `only`.
#[must_use]
pub fn text(view: &View, only: Option<&[Row]>) -> String {
    let all;
    let shown: Vec<&Row> = match only {
        Some(only) => only.iter().collect(),
        None => {
            all = rows(view);
            let home = home(view);
            let is_home = |row: &&Row| home.is_none_or(|home| row.netns == home);
            let named = all.iter().filter(|row| row.has_plain_name());
            named.filter(is_home).collect()
        }
    };
    let mut out = String::new();
    for (name, figure) in [("calling", Figure::Calling), ("writing", Figure::Writing)] {
        if let Some(number) = total(view, &shown, figure) {
            let _ = writeln!(out, "{name}: {number}");
        }
    }
    for row in shown {
        for (name, number) in [("active", row.active), ("queued", row.queued)] {
            if let Some(number) = number {
                let _ = writeln!(out, "{} {name}: {number}", row.address);
            }
        }
    }
    out
}

#[derive(Clone, Copy)]
enum Figure {
    Calling,
    Writing,
}

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::Writing => "writing",
        }
    }
}

/// Of all servers behind these rows: what a server counts itself in a slab, else what the kernel shows
/// of its listeners. `None` as soon as a part is not known.
fn total(view: &View, shown: &[&Row], figure: Figure) -> Option<u64> {
    let ids: BTreeSet<&str> = shown
        .iter()
        .flat_map(|row| row.ids.iter().map(String::as_str))
        .collect();
    let listeners = view.listeners.iter();
    let listeners = listeners.filter(|it| ids.contains(it.id.as_str()));
    let followed = followed(view);
    let counted = counted(view, figure);
    let mut servers = BTreeSet::new();
    let mut total = None;
    for listener in listeners {
        let part = match server(listener).filter(|it| counted.contains_key(it)) {
            Some(server) if !servers.insert(server) => continue,
            Some(server) => counted[server],
            None => match &listener.turns {
                Some(turns) => match figure {
                    Figure::Calling => turns.calling?,
                    Figure::Writing => turns.writing?,
                },
                None if is_left_out(listener, &followed) => continue,
                None => return None,
            },
        };
        total = Some(total.unwrap_or(0) + part);
    }
    total
}

/// Protocols whose turns are seen: those of unix listeners need a newer kernel.
fn followed(view: &View) -> BTreeSet<&str> {
    let listeners = view.listeners.iter();
    let with_turns = listeners.filter(|it| it.turns.is_some());
    with_turns.map(|it| it.protocol.as_str()).collect()
}

/// Whether the configuration leaves out the turns of a listener that has none. Those that the programs
/// do not have, because their table is full or they are new, have no accepts either: what their
/// servers are at is not known.
fn is_left_out(listener: &Listener, followed: &BTreeSet<&str>) -> bool {
    let connections = listener.connections.as_ref();
    let is_counted = connections.is_some_and(|it| it.accepts.is_some());
    is_counted && followed.contains(listener.protocol.as_str())
}

fn server(listener: &Listener) -> Option<&str> {
    listener.server.value().map(String::as_str)
}

/// What servers count in slabs, declared or recognised. A level below zero is a mistake of who counts,
/// and no number of calls.
fn counted(view: &View, figure: Figure) -> BTreeMap<&str, u64> {
    let mut counted: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for slab in &view.slabs {
        let is_gauge = |field: &&crate::view::slabs::Field| {
            field.name == figure.name() && field.kind == "gauge"
        };
        let (Some(server), Some(_)) = (&slab.server, slab.fields.iter().find(is_gauge)) else {
            continue;
        };
        let number = match slab.counters.get(figure.name()) {
            Some(Number::Count(count)) => Some(*count),
            Some(Number::Level(_)) | None => None,
        };
        let sum = counted.entry(server).or_insert(Some(0));
        *sum = sum.zip(number).map(|(sum, number)| sum + number);
    }
    counted
        .into_iter()
        .filter_map(|(server, sum)| Some((server, sum?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::{
        compat::rows::{find, rows},
        fact::Fact,
        view::{
            View,
            slabs::{Field, Number},
        },
    };

    /// Without the one that the programs do not have.
    fn view() -> View {
        let mut view = whole_view();
        view.listeners.truncate(6);
        view
    }

    fn whole_view() -> View {
        serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
    }

    fn first_lines(view: &View) -> String {
        let text = text(view, None);
        let lines = text.lines().take_while(|it| !it.contains(" active"));
        lines.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn the_text_is_that_of_raindrops() {
        assert_eq!(
            text(&view(), None),
            "calling: 5\nwriting: 6\n\
             127.0.0.1:18080 active: 2\n127.0.0.1:18080 queued: 9\n\
             0.0.0.0:80 active: 78\n0.0.0.0:80 queued: 0\n\
             [::]:80 active: 0\n[::]:80 queued: 0\n\
             /run/app.sock active: 3\n/run/app.sock queued: 0\n"
        );
    }

    #[test]
    fn what_a_server_counts_itself_goes_before_what_the_kernel_shows() {
        let mut view = view();
        let slab = &mut view.slabs[0];
        slab.counters
            .insert("calling".to_owned(), Number::Count(40));
        assert_eq!(first_lines(&view), "calling: 44,writing: 6");
        let field = Field {
            name: "writing".to_owned(),
            kind: "gauge".to_owned(),
            unit: None,
        };
        view.slabs[0].fields.push(field);
        view.slabs[0]
            .counters
            .insert("writing".to_owned(), Number::Count(7));
        assert_eq!(first_lines(&view), "calling: 44,writing: 13");
    }

    #[test]
    fn a_sum_of_which_a_part_is_unknown_is_absent() {
        let mut view = view();
        view.listeners[0].turns.as_mut().unwrap().calling = None;
        assert_eq!(first_lines(&view), "writing: 6");
        let mut view = self::view();
        for listener in &mut view.listeners {
            listener.turns = None;
        }
        assert_eq!(first_lines(&view), "");
    }

    #[test]
    fn what_the_configuration_leaves_out_is_told_from_what_is_missing() {
        const LEFT_OUT: &str = "calling: 4,writing: 6";
        let first_lines_after = |change: fn(&mut View)| {
            let mut view = view();
            view.listeners[0].turns = None;
            change(&mut view);
            first_lines(&view)
        };
        assert_eq!(first_lines_after(|_| {}), LEFT_OUT);
        let missing: [fn(&mut View); 3] = [
            |view| view.listeners[0].connections = None,
            |view| {
                let connections = view.listeners[0].connections.as_mut().unwrap();
                connections.accepts = None;
            },
            // Of no unix listener turns are seen: this kernel does not tell of them.
            |view| {
                view.listeners[4].server = Fact::Nothing;
                view.listeners[4].turns = None;
            },
        ];
        for change in missing {
            let lines = first_lines_after(change);
            assert!(!lines.contains("ing: "), "{lines}");
        }
        assert_eq!(first_lines(&whole_view()), "");
    }

    #[test]
    fn a_figure_that_is_not_known_has_no_line() {
        let mut view = view();
        view.listeners.truncate(1);
        view.listeners[0].connections = None;
        view.listeners[0].turns = None;
        assert_eq!(text(&view, None), "127.0.0.1:18080 queued: 9\n");
    }

    #[test]
    fn one_listener_can_be_asked_for() {
        let view = view();
        let rows = rows(&view);
        let only = [find(&rows, "@control").unwrap().clone()];
        let text = text(&view, Some(&only));
        assert_eq!(text, "@control queued: 0\n");
    }
}
