//! Queues and open connections again and again, without a daemon.
//!
//! Apart from [`super::once`] because it is repeated: processes and slabs are not looked at.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use super::{SamplerError, host, sources, watched::Watched};
use crate::{
    compat::rows::{Name, Row, rows},
    host::Facts,
    ids::Monotonic,
    plan::netns::namespaces,
    source::diag::TcpState,
    view::{
        View,
        merge::{Inputs, merge},
        recent::Marks,
    },
};

/// What one look found.
#[derive(Debug)]
pub struct Look {
    pub view: View,
    /// With the open connections of TCP, too, which the view of a single reading does not have.
    pub rows: Vec<Row>,
}

#[derive(Debug)]
pub struct Looks {
    facts: Facts,
    watched: Watched,
}

impl Looks {
    /// # Errors
    /// When there is nothing to look at.
    pub fn open() -> Result<Self, SamplerError> {
        let facts = Facts::gather(true);
        let namespaces = namespaces(&facts, None).map_err(SamplerError::NotAllowed)?;
        let watched = Watched::open(namespaces)?;
        Ok(Self { facts, watched })
    }

    pub fn look(&mut self) -> Look {
        self.watched.sample_all();
        let wall = SystemTime::now();
        let now = Monotonic::now();
        let sys_ptrace = self.facts.capabilities.sys_ptrace;
        let view = merge(Inputs {
            host: &host(&self.facts),
            sources: vec![
                sources::sock_diag(&self.watched, now),
                sources::netns(&self.watched, now, sys_ptrace),
            ],
            gaps: sources::gaps(&self.watched).collect(),
            now,
            wall,
            since: wall,
            namespaces: &self.watched.for_view(),
            ledger: None,
            bpf: None,
            marks: &Marks::default(),
            proc: None,
            servers: None,
            puma: None,
            exits: &BTreeMap::new(),
            slabs: None,
        });
        let mut rows = rows(&view);
        let mut counts: BTreeMap<Name, u64> = rows
            .iter()
            .filter(|row| row.is_tcp)
            .map(|row| (row.name(), 0))
            .collect();
        let complete = self.watched.open_connections(|connection| {
            if connection.state == TcpState::Established && connection.inode.is_some() {
                let (ip, port) = connection.local;
                count(&mut counts, connection.netns.0, ip, port);
            }
        });
        for row in rows.iter_mut().filter(|row| row.is_tcp) {
            row.active = counts.get(&row.name()).copied().filter(|_| complete);
        }
        Look { view, rows }
    }
}

/// A connection is of the listener with its own address, else of the wildcard, which is where the
/// kernel looks for one.
fn count(counts: &mut BTreeMap<Name, u64>, netns: u32, ip: IpAddr, port: u16) {
    let wildcard = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        // An IPv4 client of a dual-stack listener, too.
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    for ip in [ip, wildcard] {
        let name = Name {
            netns,
            is_tcp: true,
            address: SocketAddr::new(ip, port).to_string(),
        };
        if let Some(count) = counts.get_mut(&name) {
            *count += 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Name, count};

    #[test]
    fn a_connection_is_of_the_nearest_listener() {
        let listeners = ["127.0.0.1:80", "0.0.0.0:80", "[::]:80", "[::]:81"];
        for (ip, port, found) in [
            ("127.0.0.1", 80, "127.0.0.1:80"),
            ("127.0.0.2", 80, "0.0.0.0:80"),
            ("::1", 80, "[::]:80"),
            ("::ffff:127.0.0.1", 81, "[::]:81"),
            ("127.0.0.1", 81, ""),
            ("127.0.0.1", 82, ""),
        ] {
            let name = |address: &str| Name {
                netns: 1,
                is_tcp: true,
                address: address.to_owned(),
            };
            let names = listeners.map(|address| (name(address), 0));
            let mut counts = BTreeMap::from(names);
            count(&mut counts, 1, ip.parse().unwrap(), port);
            count(&mut counts, 2, ip.parse().unwrap(), port);
            let counted: Vec<&str> = counts
                .iter()
                .filter(|(_, count)| **count == 1)
                .map(|(name, _)| name.address.as_str())
                .collect();
            assert_eq!(counted.join(","), found, "{ip} {port}");
        }
    }
}
