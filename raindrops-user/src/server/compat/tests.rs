//! What is decided of a request without a server.

use super::{Form, Place, place, thresholds};
use crate::compat::{puma::Command, record::Figure, tail::Thresholds};

fn told(path: &str) -> String {
    let form = |form| match form {
        Form::Text => "text",
        Form::Html => "html",
    };
    match place(path) {
        Some(Place::Middleware) => "middleware".to_owned(),
        Some(Place::LastDataRecv) => "last_data_recv".to_owned(),
        Some(Place::Index) => "index".to_owned(),
        Some(Place::Page(Figure::Active, it, name)) => format!("active {} {name}", form(it)),
        Some(Place::Page(Figure::Queued, it, name)) => format!("queued {} {name}", form(it)),
        Some(Place::Tail(name)) => format!("tail {name}"),
        Some(Place::Reset(name)) => format!("reset {name}"),
        Some(Place::Nowhere) => "nowhere".to_owned(),
        Some(Place::Puma(Command::Stats)) => "stats".to_owned(),
        Some(Place::Puma(Command::Other)) => "other".to_owned(),
        None => "not theirs".to_owned(),
    }
}

#[test]
fn paths_are_those_of_older_clients() {
    for (path, place) in [
        ("/_raindrops", "middleware"),
        ("/_raindrops/", "not theirs"),
        ("/last_data_recv", "last_data_recv"),
        ("/watcher/", "index"),
        ("/watcher", "not theirs"),
        ("/watchers/x", "not theirs"),
        ("/active/127.0.0.1%3A80.txt", "active text 127.0.0.1%3A80"),
        ("/watcher/active/a.html", "active html a"),
        ("/queued//run/a.sock.txt", "queued text /run/a.sock"),
        ("/watcher/queued/a.html.txt", "queued text a.html"),
        ("/active/.txt", "nowhere"),
        ("/active/a.json", "nowhere"),
        ("/tail/a.txt", "tail a"),
        ("/tail/a", "nowhere"),
        ("/watcher/reset/a.txt", "reset a.txt"),
        ("/reset/", "nowhere"),
        ("/watcher/what", "nowhere"),
        ("/watcher/stats", "nowhere"),
        ("/stats", "stats"),
        ("/a/b/stats", "stats"),
        ("/restart", "other"),
        ("/v1/view", "not theirs"),
        ("/v1/listeners/stats", "not theirs"),
        ("/", "not theirs"),
        ("/metrics", "not theirs"),
    ] {
        assert_eq!(told(path), place, "{path}");
    }
}

#[test]
fn thresholds_are_read_as_ruby_would() {
    for (query, active, queued) in [
        (None, 0, 0),
        (Some("active_min=1&queued_min=2"), 1, 2),
        (Some("queued_min=2x&active_min=x"), 0, 2),
        (Some("active_min"), 0, 0),
        (Some("other=1&active_min=-1"), 0, 0),
        (Some("active_min=99999999999999999999"), u64::MAX, 0),
        (Some("active_min=\u{e9}"), 0, 0),
    ] {
        assert_eq!(
            thresholds(query),
            Thresholds { active, queued },
            "{query:?}"
        );
    }
}
