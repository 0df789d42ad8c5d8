//! Listeners as raindrops counts them: one row for each address of a namespace.
//!
//! raindrops knows names, not sockets. So members of a SO_REUSEPORT group, and an older socket whose
//! path a newer one has taken, are one row; a figure that one of them lacks is one that the row lacks.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::address::expanded;
use crate::{
    escape::escaped,
    view::{Listener, View},
};

/// What one row is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Inode of the namespace.
    pub netns: u32,
    /// A unix socket may be called like a TCP address.
    pub is_tcp: bool,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub netns: u32,
    /// As the view prints it.
    pub address: String,
    pub is_tcp: bool,
    /// Of its sockets, at least one.
    pub ids: Vec<String>,
    pub active: Option<u64>,
    pub queued: Option<u64>,
}

impl Row {
    #[must_use]
    pub fn name(&self) -> Name {
        Name {
            netns: self.netns,
            is_tcp: self.is_tcp,
            address: self.address.clone(),
        }
    }

    #[must_use]
    pub fn is_called(&self, name: &Name) -> bool {
        let Name {
            netns,
            is_tcp,
            address,
        } = name;
        (self.netns, self.is_tcp, &self.address) == (*netns, *is_tcp, address)
    }

    /// Whether raindrops for Ruby could name it: it drops abstract names.
    #[must_use]
    pub fn has_plain_name(&self) -> bool {
        self.is_tcp || self.address.starts_with('/')
    }
}

/// TCP before unix, in the order of the view.
#[must_use]
pub fn rows(view: &View) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut places: BTreeMap<Name, usize> = BTreeMap::new();
    for listener in &view.listeners {
        let row = row(listener);
        let name = row.name();
        match places.get(&name) {
            None => {
                places.insert(name, rows.len());
                rows.push(row);
            }
            Some(place) => {
                let sum = &mut rows[*place];
                sum.ids.extend(row.ids);
                sum.active = sum.active.zip(row.active).map(|(a, b)| a + b);
                sum.queued = sum.queued.zip(row.queued).map(|(a, b)| a + b);
            }
        }
    }
    rows.sort_by_key(|row| !row.is_tcp);
    rows
}

fn row(listener: &Listener) -> Row {
    let connections = listener.connections.as_ref();
    Row {
        netns: listener.netns.inode,
        address: listener.address.clone(),
        is_tcp: listener.protocol == "tcp",
        ids: vec![listener.id.clone()],
        active: connections.and_then(|it| it.active),
        queued: listener.queue.queued.map(u64::from),
    }
}

/// The namespace that raindrops in the daemon's place would see: its own; where the view has nothing of
/// that but of exactly one other, that one.
#[must_use]
pub fn home(view: &View) -> Option<u32> {
    let seen: BTreeSet<u32> = view.listeners.iter().map(|it| it.netns.inode).collect();
    let own = view.own_netns();
    match own {
        Some(own) if seen.contains(&own) => Some(own),
        _ if seen.len() == 1 => seen.first().copied(),
        _ => own,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    #[error("no listener is called {name:?}")]
    Unknown { name: String },
    #[error("listeners of several network namespaces are called {name:?}")]
    Ambiguous {
        name: String,
        /// One of each.
        ids: Vec<String>,
    },
}

/// The row that is meant by an id, or by an address as one gives it to unicorn.
pub fn find<'r>(rows: &'r [Row], typed: &str) -> Result<&'r Row, RowError> {
    if let Some(row) = rows.iter().find(|row| row.ids.iter().any(|id| id == typed)) {
        return Ok(row);
    }
    let name = || typed.chars().take(128).collect::<String>();
    let raw = escaped(typed.as_bytes());
    let expanded = expanded(typed);
    let candidates = [typed, &raw, &expanded];
    for candidate in candidates {
        let mut found: Vec<&Row> = rows.iter().filter(|it| it.address == candidate).collect();
        // Whoever types a TCP address does not mean a unix socket that was called like it.
        if found.iter().any(|row| row.is_tcp) {
            found.retain(|row| row.is_tcp);
        }
        match found[..] {
            [] => {}
            [row] => return Ok(row),
            [..] => {
                let ids = found.iter().map(|row| row.ids[0].clone()).collect();
                return Err(RowError::Ambiguous { name: name(), ids });
            }
        }
    }
    Err(RowError::Unknown { name: name() })
}

/// What rows are called where those of all namespaces are shown: by their addresses, or by an id where
/// an address means several.
#[derive(Debug)]
pub struct Titles<'r>(BTreeMap<&'r str, Alike>);

/// Rows of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Alike {
    tcp: usize,
    all: usize,
}

impl<'r> Titles<'r> {
    #[must_use]
    pub fn of(rows: &'r [Row]) -> Self {
        let mut alike: BTreeMap<&str, Alike> = BTreeMap::new();
        for row in rows {
            let alike = alike.entry(&row.address).or_default();
            alike.tcp += usize::from(row.is_tcp);
            alike.all += 1;
        }
        Self(alike)
    }

    #[must_use]
    pub fn title(&self, row: &'r Row) -> &'r str {
        let alike = self.0.get(row.address.as_str());
        // A TCP row has its address before a unix one that is called like it, see `find`.
        let is_ambiguous = alike.is_some_and(|it| if row.is_tcp { it.tcp } else { it.all } > 1);
        if is_ambiguous {
            &row.ids[0]
        } else {
            &row.address
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, RowError, Titles, find, home, rows};
    use crate::view::View;

    fn view() -> View {
        serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
    }

    #[test]
    fn a_unix_socket_that_is_called_like_a_tcp_address_is_a_row_of_its_own() {
        let mut view = view();
        let tcp = view
            .listeners
            .iter()
            .find(|it| it.address == "127.0.0.1:18080");
        let tcp = tcp.unwrap().clone();
        let mut unix = tcp.clone();
        unix.id = "1:2".to_owned();
        unix.protocol = "unix".to_owned();
        unix.queue.queued = Some(7);
        view.listeners.push(unix);
        let rows = rows(&view);
        let queued = tcp.queue.queued.map(u64::from);
        assert_eq!(find(&rows, "127.0.0.1:18080").unwrap().queued, queued);
        assert_eq!(find(&rows, "1:2").unwrap().queued, Some(7));
    }

    #[test]
    fn members_of_a_group_are_one_row() {
        let rows = rows(&view());
        let told: Vec<(&str, Option<u64>, Option<u64>)> = rows
            .iter()
            .map(|row| (row.address.as_str(), row.active, row.queued))
            .collect();
        assert_eq!(
            told[..4],
            [
                ("127.0.0.1:18080", Some(2), Some(9)),
                ("0.0.0.0:80", Some(78), Some(0)),
                ("[::]:80", Some(0), Some(0)),
                ("/run/app.sock", Some(3), Some(0)),
            ]
        );
        assert_eq!(rows[1].ids, ["4026531833:21", "4026531833:22"]);
    }

    #[test]
    fn a_sum_of_which_a_part_is_unknown_is_unknown() {
        let mut view = view();
        view.listeners[2].connections = None;
        view.listeners[1].queue.queued = None;
        let rows = rows(&view);
        assert_eq!((rows[1].active, rows[1].queued), (None, None));
    }

    #[test]
    fn a_row_is_found_by_id_and_as_unicorn_would_name_it() {
        let rows = rows(&view());
        for (typed, address) in [
            ("4026531833:22", "0.0.0.0:80"),
            ("80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            (":80", "0.0.0.0:80"),
            ("[::]:80", "[::]:80"),
            ("localhost:18080", "127.0.0.1:18080"),
            ("127.1:18080", "127.0.0.1:18080"),
            ("/run/app.sock", "/run/app.sock"),
            ("unix:/run//app.sock", "/run/app.sock"),
            ("@control", "@control"),
        ] {
            assert_eq!(find(&rows, typed).unwrap().address, address, "{typed}");
        }
        for typed in ["", "18080", "/run/ap.sock", "\0", "4026531833:99"] {
            let unknown = Err(RowError::Unknown {
                name: typed.to_owned(),
            });
            assert_eq!(find(&rows, typed), unknown);
        }
    }

    #[test]
    fn an_address_of_two_namespaces_needs_an_id() {
        let mut view = view();
        let mut other = view.listeners[0].clone();
        other.netns.inode = 7;
        other.id = "7:1".to_owned();
        view.listeners.push(other);
        let rows = rows(&view);
        let ambiguous = Err(RowError::Ambiguous {
            name: "127.0.0.1:18080".to_owned(),
            ids: vec!["4026531833:17".to_owned(), "7:1".to_owned()],
        });
        assert_eq!(find(&rows, "127.0.0.1:18080"), ambiguous);
        let titles = Titles::of(&rows);
        let names: Vec<&str> = rows.iter().map(|row| titles.title(row)).collect();
        assert_eq!(names[0], "4026531833:17");
        assert!(names.contains(&"7:1") && names.contains(&"[::]:80"));
        assert_eq!(find(&rows, "7:1").map(|row| row.netns), Ok(7));
    }

    #[test]
    fn home_is_the_namespace_of_the_daemon() {
        let mut view = view();
        assert_eq!(home(&view), Some(4_026_531_833));
        let mut other = view.listeners[0].clone();
        other.netns.inode = 7;
        view.listeners.push(other);
        let netns = view.sources.iter_mut().find(|it| it.name == "netns");
        let own = netns.map(|it| it.detail.insert("own".to_owned(), "7".to_owned()));
        if own.is_some() {
            assert_eq!(home(&view), Some(7));
        }
    }

    #[test]
    fn abstract_names_are_none_of_raindrops() {
        let rows = rows(&view());
        let plain: Vec<&Row> = rows.iter().filter(|it| it.has_plain_name()).collect();
        assert_eq!(plain.len(), rows.len() - 1);
    }
}
