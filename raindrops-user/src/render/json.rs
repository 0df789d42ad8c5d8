//! The view, and parts of it, as JSON.
//!
//! The shape is that of the types in [`crate::view`]; here is only what is left out and how an
//! answer ends.

use std::io;

use serde::Serialize;

use crate::{
    publish::Audience,
    view::{Connections, Group, Listener, Turns, View, Worker},
};

/// Whether histograms carry their buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    Shown,
    Hidden,
}

/// Any value, and a line end.
pub fn write(value: &impl Serialize, out: &mut impl io::Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

pub fn view(
    view: &View,
    buckets: Buckets,
    audience: Audience,
    out: &mut impl io::Write,
) -> io::Result<()> {
    if (buckets, audience) == (Buckets::Shown, Audience::Trusted) {
        return write(view, out);
    }
    let mut view = view.clone();
    if buckets == Buckets::Hidden {
        view.listeners.iter_mut().for_each(hide_in_listener);
        for Group {
            connections, turns, ..
        } in &mut view.groups
        {
            hide(connections.as_mut(), turns.as_mut());
        }
    }
    if audience == Audience::Others {
        view.workers.iter_mut().for_each(hide_command_line);
    }
    write(&view, out)
}

pub fn workers<'v>(
    workers: impl IntoIterator<Item = &'v Worker>,
    audience: Audience,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut workers: Vec<Worker> = workers.into_iter().cloned().collect();
    if audience == Audience::Others {
        workers.iter_mut().for_each(hide_command_line);
    }
    write(&workers, out)
}

fn hide_command_line(worker: &mut Worker) {
    worker.command_line = None;
}

pub fn listeners<'v>(
    listeners: impl IntoIterator<Item = &'v Listener>,
    buckets: Buckets,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut listeners: Vec<Listener> = listeners.into_iter().cloned().collect();
    if buckets == Buckets::Hidden {
        listeners.iter_mut().for_each(hide_in_listener);
    }
    write(&listeners, out)
}

fn hide_in_listener(listener: &mut Listener) {
    hide(listener.connections.as_mut(), listener.turns.as_mut());
}

fn hide(connections: Option<&mut Connections>, turns: Option<&mut Turns>) {
    if let Some(connections) = connections {
        let Connections { wait, lifetime, .. } = connections;
        for durations in [wait, lifetime].into_iter().flatten() {
            durations.buckets = None;
        }
    }
    if let Some(turns) = turns {
        let Turns {
            read_wait,
            answer,
            write,
            ..
        } = turns;
        for durations in read_wait.iter_mut().chain([answer, write]) {
            durations.buckets = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Audience, Buckets, listeners, view, workers};
    use crate::view::View;

    const VIEW: &str = include_str!("../../tests/data/view.json");

    fn rendered(buckets: Buckets) -> serde_json::Value {
        let mut bytes = Vec::new();
        let example: View = serde_json::from_str(VIEW).unwrap();
        view(&example, buckets, Audience::Trusted, &mut bytes).unwrap();
        assert_eq!(bytes.last(), Some(&b'\n'));
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn with_buckets_the_view_is_what_it_was_made_of() {
        let original: serde_json::Value = serde_json::from_str(VIEW).unwrap();
        assert_eq!(rendered(Buckets::Shown), original);
    }

    #[test]
    fn without_buckets_only_they_are_missing() {
        let mut expected: serde_json::Value = serde_json::from_str(VIEW).unwrap();
        for rows in ["listeners", "groups"] {
            for row in expected[rows].as_array_mut().unwrap() {
                for durations in [
                    "/connections/wait",
                    "/connections/lifetime",
                    "/turns/read_wait",
                    "/turns/answer",
                    "/turns/write",
                ] {
                    if let Some(durations) = row
                        .pointer_mut(durations)
                        .and_then(serde_json::Value::as_object_mut)
                    {
                        durations.remove("buckets");
                    }
                }
            }
        }
        assert_eq!(rendered(Buckets::Hidden), expected);
    }

    #[test]
    fn command_lines_are_for_who_is_trusted() {
        const SECRET: &str = "--password=hunter2";
        let mut example: View = serde_json::from_str(VIEW).unwrap();
        example.workers[0].command_line = Some(format!("app {SECRET}"));
        for (audience, is_told) in [(Audience::Trusted, true), (Audience::Others, false)] {
            for buckets in [Buckets::Shown, Buckets::Hidden] {
                let mut bytes = Vec::new();
                view(&example, buckets, audience, &mut bytes).unwrap();
                workers(&example.workers, audience, &mut bytes).unwrap();
                let text = String::from_utf8(bytes).unwrap();
                let times = text.matches(SECRET).count();
                assert_eq!(
                    times,
                    if is_told { 2 } else { 0 },
                    "{audience:?} {buckets:?}"
                );
            }
        }
    }

    #[test]
    fn part_of_a_view_is_an_array() {
        let view: View = serde_json::from_str(VIEW).unwrap();
        let mut bytes = Vec::new();
        listeners(&view.listeners[5..6], Buckets::Hidden, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(r#"[{"id":"4026531833:32","#), "{text}");
        assert!(text.ends_with("}]\n"), "{text}");
    }
}
