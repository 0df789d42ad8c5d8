//! LISTENER as an operator types it, and the listeners of a view that it means.
//!
//! Pure: it sees a [`View`] and text, so that the command line, the socket and later clients agree
//! on what `:8080` is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use thiserror::Error;

use crate::{
    closest::closest,
    escape::escaped,
    ids::{Inode, NetnsId},
    snapshot::ListenerKey,
    view::{Listener, View, connections::Place},
};

/// How many existing listeners an error names.
const NAMED: usize = 20;
/// Bytes of their names, which can be long.
const NAMES_LENGTH: usize = 600;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectError {
    #[error("no listener matches {typed:?}: this host has no listener that can be seen")]
    NoListeners { typed: String },
    #[error("no listener matches {typed:?}; the closest is {closest} (listening: {existing})")]
    Unknown {
        typed: String,
        closest: String,
        /// A bounded list, for people.
        existing: String,
    },
}

/// What an operator typed, understood without looking at any view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `NETNS:COOKIE`.
    Id(String),
    /// `:8080` and `8080`: any address.
    Port(u16),
    /// `*:80`: the wildcard addresses.
    Wildcard(u16),
    /// `localhost:80`: the loopback addresses.
    Loopback(u16),
    Tcp(SocketAddr),
    /// A unix name in its printed form, or any text that must match an address literally.
    Literal(String),
}

impl Selector {
    #[must_use]
    pub fn parse(typed: &str) -> Self {
        if let Ok(port) = typed.parse() {
            return Self::Port(port);
        }
        if let Ok(address) = typed.parse() {
            return Self::Tcp(address);
        }
        if let Some((host, port)) = typed.rsplit_once(':')
            && let Ok(number) = port.parse::<u16>()
        {
            match host {
                "" => return Self::Port(number),
                "*" => return Self::Wildcard(number),
                "localhost" => return Self::Loopback(number),
                _ => {}
            }
        }
        if let Some((netns, cookie)) = typed.split_once(':')
            && netns.parse::<u32>().is_ok()
            && cookie.parse::<u64>().is_ok()
        {
            return Self::Id(typed.to_owned());
        }
        Self::Literal(typed.strip_prefix("unix:").unwrap_or(typed).to_owned())
    }

    /// Whether it means the listener with this id and this printed address.
    #[must_use]
    pub fn matches(&self, id: &str, address: &str) -> bool {
        match self {
            Self::Id(typed) => id == typed,
            _ => self.matches_address(address),
        }
    }

    /// Whether it means the listener with this printed address, whichever its id is.
    #[must_use]
    pub fn matches_address(&self, address: &str) -> bool {
        let tcp = || address.parse::<SocketAddr>().ok();
        match self {
            Self::Id(_) => false,
            Self::Port(port) => tcp().is_some_and(|address| address.port() == *port),
            Self::Wildcard(port) => {
                tcp().is_some_and(|it| it.port() == *port && it.ip().is_unspecified())
            }
            Self::Loopback(port) => tcp().is_some_and(|it| {
                it.port() == *port
                    && match it.ip() {
                        IpAddr::V4(ip) => ip.is_loopback(),
                        IpAddr::V6(ip) => ip.is_loopback(),
                    }
            }),
            Self::Tcp(typed) => tcp().is_some_and(|it| it == *typed),
            // Both as printed, and as the bytes were before they were escaped for printing.
            Self::Literal(text) => address == *text || address == escaped(text.as_bytes()),
        }
    }

    const fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) | Self::Wildcard(port) | Self::Loopback(port) => Some(*port),
            Self::Tcp(address) => Some(address.port()),
            Self::Id(_) | Self::Literal(_) => None,
        }
    }
}

/// The listeners that `typed` means; at least one.
pub fn listeners<'v>(view: &'v View, typed: &str) -> Result<Vec<&'v Listener>, SelectError> {
    let selector = Selector::parse(typed);
    let found: Vec<&Listener> = view
        .listeners
        .iter()
        .filter(|listener| selector.matches(&listener.id, &listener.address))
        .collect();
    if found.is_empty() {
        Err(unknown(view, &selector, typed))
    } else {
        Ok(found)
    }
}

/// The view of only those listeners, their groups, workers and servers. Sources and gaps stay:
/// they say how far the rest can be trusted.
pub fn narrow(view: &View, typed: &[String]) -> Result<View, SelectError> {
    let mut ids = BTreeSet::new();
    for typed in typed {
        for listener in listeners(view, typed)? {
            ids.insert(listener.id.clone());
        }
    }
    let mut narrow = view.clone();
    narrow
        .listeners
        .retain(|listener| ids.contains(&listener.id));
    narrow
        .groups
        .retain(|group| group.members.iter().any(|member| ids.contains(member)));
    let pids: BTreeSet<u32> = narrow
        .listeners
        .iter()
        .flat_map(|listener| listener.workers.iter().flatten().copied())
        .collect();
    narrow.workers.retain(|worker| {
        pids.contains(&worker.pid) || worker.listeners.iter().any(|part| ids.contains(&part.id))
    });
    let servers: BTreeSet<&String> = narrow
        .listeners
        .iter()
        .filter_map(|listener| listener.server.value())
        .chain(
            narrow
                .workers
                .iter()
                .filter_map(|worker| worker.server.value()),
        )
        .collect();
    narrow.servers.retain(|server| servers.contains(&server.id));
    Ok(narrow)
}

/// Every listener, those that any of `typed` means marked as wanted; all of them where nothing was
/// typed.
pub fn places(view: &View, typed: &[String]) -> Result<Vec<Place>, SelectError> {
    let mut wanted = BTreeSet::new();
    for typed in typed {
        wanted.extend(listeners(view, typed)?.into_iter().map(|it| &it.id));
    }
    let place = |listener: &Listener| Place {
        key: ListenerKey {
            netns: NetnsId(listener.netns.inode),
            inode: Inode(listener.inode),
        },
        id: listener.id.clone(),
        address: listener.address.clone(),
        tcp: listener
            .address
            .parse::<SocketAddr>()
            .ok()
            .map(|it| (it.ip(), it.port())),
        is_wanted: typed.is_empty() || wanted.contains(&listener.id),
    };
    Ok(view.listeners.iter().map(place).collect())
}

fn unknown(view: &View, selector: &Selector, typed: &str) -> SelectError {
    let typed: String = typed.chars().take(128).collect();
    let same_port = selector.port().and_then(|port| {
        let at_port = Selector::Port(port);
        view.listeners
            .iter()
            .find(|listener| at_port.matches_address(&listener.address))
            .map(|listener| listener.address.as_str())
    });
    let name = |listener: &Listener| match selector {
        Selector::Id(_) => listener.id.clone(),
        Selector::Port(_) | Selector::Wildcard(_) | Selector::Loopback(_) => listener
            .address
            .parse::<SocketAddr>()
            .map_or_else(|_| listener.address.clone(), |it| format!(":{}", it.port())),
        Selector::Tcp(_) | Selector::Literal(_) => listener.address.clone(),
    };
    let names: Vec<String> = view.listeners.iter().map(name).collect();
    let shown = |name: &str| {
        let index = names.iter().position(|it| it == name)?;
        let listener = &view.listeners[index];
        Some(match selector {
            Selector::Id(_) => listener.id.as_str(),
            _ => listener.address.as_str(),
        })
    };
    let nearest = || closest(&typed, names.iter().map(String::as_str)).and_then(shown);
    match same_port.or_else(nearest) {
        None => SelectError::NoListeners { typed },
        Some(closest) => SelectError::Unknown {
            closest: closest.to_owned(),
            existing: some_of(view.listeners.iter().map(|it| it.address.as_str())),
            typed,
        },
    }
}

/// The first names without repetition, and how many more there are.
pub fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut text = String::new();
    for (named, name) in names.iter().enumerate() {
        let is_long = text.len() + name.len() > NAMES_LENGTH;
        if named == NAMED || (is_long && named > 0) {
            text.push_str(&format!(" and {} more", names.len() - named));
            break;
        }
        text.push_str(if named == 0 { "" } else { ", " });
        text.push_str(name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{SelectError, listeners, narrow, some_of};
    use crate::view::View;

    fn view() -> View {
        serde_json::from_str(include_str!("../tests/data/view.json")).unwrap()
    }

    #[test]
    fn an_operator_may_type_any_of_these() {
        let view = view();
        for (typed, cookies) in [
            (":18080", &["17"][..]),
            ("18080", &["17"]),
            ("127.0.0.1:18080", &["17"]),
            ("localhost:18080", &["17"]),
            (":80", &["21", "22", "23"]),
            ("*:80", &["21", "22", "23"]),
            ("0.0.0.0:80", &["21", "22"]),
            ("[::]:80", &["23"]),
            ("4026531833:17", &["17"]),
            ("/run/app.sock", &["31"]),
            ("unix:/run/app.sock", &["31"]),
            ("@control", &["32"]),
            ("unix:@control", &["32"]),
        ] {
            let found: Vec<_> = listeners(&view, typed)
                .unwrap_or_else(|error| panic!("{typed}: {error}"))
                .into_iter()
                .map(|listener| listener.cookie.clone().unwrap())
                .collect();
            assert_eq!(found, cookies, "{typed}");
        }
    }

    #[test]
    fn an_address_means_the_listeners_of_all_namespaces_and_an_id_one() {
        let mut view = view();
        let mut other = view.listeners[0].clone();
        other.netns.inode += 1;
        other.id = format!("{}:99", other.netns.inode);
        view.listeners.push(other);
        let ids = |typed| -> Vec<&str> {
            let found = listeners(&view, typed).unwrap();
            found.iter().map(|listener| listener.id.as_str()).collect()
        };
        assert_eq!(ids(":18080"), ["4026531833:17", "4026531834:99"]);
        assert_eq!(ids("4026531834:99"), ["4026531834:99"]);
    }

    #[test]
    fn an_unknown_listener_names_the_closest() {
        let view = view();
        for (typed, expected) in [
            (":18081", "127.0.0.1:18080"),
            ("10.0.0.1:80", "0.0.0.0:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("*:18080", "127.0.0.1:18080"),
            ("/run/ap.sock", "/run/app.sock"),
            ("@contrl", "@control"),
            ("4026531833:18", "4026531833:17"),
            ("controls\u{1b}", "@control"),
        ] {
            match listeners(&view, typed) {
                Err(SelectError::Unknown { closest, .. }) => {
                    assert_eq!(closest, expected, "{typed:?}");
                }
                other => panic!("{typed}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_host_without_listeners_says_so() {
        let mut view = view();
        view.listeners.clear();
        assert_eq!(
            listeners(&view, ":80").unwrap_err().to_string(),
            "no listener matches \":80\": this host has no listener that can be seen"
        );
    }

    #[test]
    fn names_are_listed_once_and_not_without_end() {
        assert_eq!(some_of(["b", "a", "b"]), "a, b");
        let many: Vec<String> = (10..40).map(|number| number.to_string()).collect();
        let text = some_of(many.iter().map(String::as_str));
        assert!(text.ends_with("28, 29 and 10 more"), "{text}");
        let long: Vec<String> = (10..40)
            .map(|number| number.to_string().repeat(100))
            .collect();
        let text = some_of(long.iter().map(String::as_str));
        assert_eq!(text, format!("{}, {} and 28 more", long[0], long[1]));
        let text = some_of([&*"x".repeat(1_000), "y"]);
        assert!(text.ends_with("x and 1 more"), "{text}");
    }

    #[test]
    fn a_narrow_view_keeps_what_belongs_to_its_listeners() {
        let narrow = narrow(&view(), &[":80".to_owned()]).unwrap();
        let ids: Vec<_> = narrow.listeners.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["4026531833:21", "4026531833:22", "4026531833:23"]);
        assert_eq!(narrow.groups.len(), 1);
        let pids: Vec<_> = narrow.workers.iter().map(|it| it.pid).collect();
        assert_eq!(pids, [2101, 2102]);
        let servers: Vec<_> = narrow.servers.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(servers, ["nginx:2100"]);
        assert_eq!(narrow.gaps, view().gaps);
    }
}
