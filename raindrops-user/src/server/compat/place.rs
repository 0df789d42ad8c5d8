//! Which of older clients' places a path is.

use crate::compat::{
    puma::{self, Command},
    record::Figure,
};

/// Paths that exist, for those who ask for others.
pub const PATHS: [&str; 8] = [
    "/_raindrops",
    "/last_data_recv",
    "/watcher/",
    "/active/LISTENER.txt",
    "/queued/LISTENER.txt",
    "/tail/LISTENER.txt",
    "/reset/LISTENER",
    "/stats",
];

pub enum Place<'a> {
    Middleware,
    LastDataRecv,
    Index,
    Page(Figure, Form, &'a str),
    Tail(&'a str),
    Reset(&'a str),
    /// Watcher has nothing there.
    Nowhere,
    Puma(Command),
}

#[derive(Clone, Copy)]
pub enum Form {
    Text,
    Html,
}

pub fn place(path: &str) -> Option<Place<'_>> {
    match path {
        "/_raindrops" => return Some(Place::Middleware),
        "/last_data_recv" => return Some(Place::LastDataRecv),
        "/watcher/" => return Some(Place::Index),
        _ => {}
    }
    let inner = path
        .strip_prefix("/watcher")
        .filter(|it| it.starts_with('/'));
    watched(inner.unwrap_or(path))
        .or_else(|| inner.map(|_| Place::Nowhere))
        .or_else(|| puma::command(path).map(Place::Puma))
}

fn watched(path: &str) -> Option<Place<'_>> {
    for (prefix, figure) in [("/active/", Figure::Active), ("/queued/", Figure::Queued)] {
        if let Some(rest) = path.strip_prefix(prefix) {
            let text = named(rest, ".txt").map(|name| Place::Page(figure, Form::Text, name));
            let html = || named(rest, ".html").map(|name| Place::Page(figure, Form::Html, name));
            return Some(text.or_else(html).unwrap_or(Place::Nowhere));
        }
    }
    if let Some(rest) = path.strip_prefix("/tail/") {
        return Some(named(rest, ".txt").map_or(Place::Nowhere, Place::Tail));
    }
    let rest = path.strip_prefix("/reset/")?;
    Some(named(rest, "").map_or(Place::Nowhere, Place::Reset))
}

fn named<'a>(rest: &'a str, suffix: &str) -> Option<&'a str> {
    rest.strip_suffix(suffix).filter(|name| !name.is_empty())
}

/// Whether a path is one of theirs.
pub fn is_theirs(path: &str) -> bool {
    place(path).is_some()
}
