//! A listener's whole row, as raindrops shows it and as it must be.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::{fd::AsFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use raindrops_user::view::{Listener, View};
use rustix::{
    fs::fstat,
    net::{
        SocketAddrAny, SocketAddrUnix, getsockname,
        ipproto::MPTCP,
        sockopt::{socket_cookie, socket_protocol},
    },
};

use crate::{kernel, listening::UNIX_BACKLOG, processes};

/// What has happened to a listener's connections, as the one who did it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub seeded: u64,
    pub accepts: u64,
    /// Of these, those that no hook saw.
    pub late_accepts: u64,
    /// Accepted and open, as far as they were seen.
    pub active: u64,
    pub half_closed: u64,
    /// Not followed where the listener is a unix one.
    pub closes: u64,
    pub aborted: u64,
    pub wait_unknown: u64,
    pub lifetime_unknown: u64,
    /// Of a unix listener; the kernel says it of a TCP one.
    pub queued: u32,
    /// Accepted and open at this address for the kernel, and not counted on this listener: no hook
    /// saw it, or it is another listener's.
    pub unseen: u64,
    /// Something is not known, and the row must say so.
    pub incomplete: bool,
}

/// A listener's row. Times are left out: nothing here is about how long something took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `None` of an MPTCP listener: what the kernel lists is another socket behind it.
    id: Option<String>,
    protocol: String,
    address: String,
    inode: u64,
    is_member: bool,
    holders: Option<Vec<u32>>,
    queued: Option<u32>,
    limit: Option<u32>,
    drops: Option<u64>,
    overflows: Option<u64>,
    connections: Option<Connections>,
    /// Accepts by pid, where there are any.
    accepts_by: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Connections {
    seeded: Option<u64>,
    accepts: Option<u64>,
    late_accepts: Option<u64>,
    active: Option<u64>,
    half_closed: Option<u64>,
    closes: Option<u64>,
    aborted: Option<u64>,
    waits: Option<u64>,
    wait_unknown: Option<u64>,
    lifetimes: Option<u64>,
    complete: bool,
}

impl Row {
    /// What a view says of what this row is of.
    #[must_use]
    pub fn shown(&self, view: &View, row: &Listener) -> Self {
        Self {
            id: self.id.as_ref().map(|_| row.id.clone()),
            ..Self::of(view, row)
        }
    }

    fn of(view: &View, row: &Listener) -> Self {
        let is_tcp = row.protocol == "tcp";
        let queue = &row.queue;
        Self {
            id: Some(row.id.clone()),
            protocol: row.protocol.clone(),
            address: row.address.clone(),
            inode: row.inode,
            is_member: row.group.is_some(),
            holders: row.holders.clone(),
            queued: queue.queued,
            limit: queue.limit,
            drops: queue.drops,
            overflows: queue.overflows,
            connections: row.connections.as_ref().map(|it| Connections {
                seeded: it.seeded,
                accepts: it.accepts,
                late_accepts: it.late_accepts,
                active: it.active,
                half_closed: it.half_closed,
                closes: it.closes,
                aborted: it.aborted,
                // Of unix connections they are known on some kernels only.
                waits: it.wait.as_ref().map(|wait| wait.count).filter(|_| is_tcp),
                wait_unknown: it.wait_unknown.filter(|_| is_tcp),
                lifetimes: it.lifetime.as_ref().map(|lifetime| lifetime.count),
                complete: it.complete,
            }),
            accepts_by: view
                .workers
                .iter()
                .flat_map(|worker| worker.listeners.iter().map(move |part| (worker.pid, part)))
                .filter(|(_, part)| part.id == row.id)
                .filter_map(|(pid, part)| Some((pid, part.accepts.filter(|it| *it > 0)?)))
                .collect(),
        }
    }

    /// What must be shown of a listener, of which `figures` are known, and the accepts of each
    /// process; the rest is asked of the kernel. `overflows`: those of its namespace.
    pub fn expected(
        listening: impl AsFd,
        figures: Figures,
        accepts_by: &BTreeMap<u32, u64>,
        overflows: u64,
    ) -> Result<Self> {
        let socket = listening.as_fd();
        let inode = fstat(socket)?.st_ino;
        let cookie = socket_cookie(socket).context("SO_COOKIE")?;
        let is_listed = socket_protocol(socket)? != Some(MPTCP);
        let name = getsockname(socket)?;
        let common = Self {
            id: is_listed
                .then(|| Ok::<_, anyhow::Error>(format!("{}:{cookie}", kernel::netns_inode()?)))
                .transpose()?,
            protocol: "unix".to_owned(),
            address: String::new(),
            inode,
            is_member: false,
            holders: Some(processes::holders(inode)),
            queued: Some(figures.queued),
            limit: Some(UNIX_BACKLOG),
            drops: None,
            overflows: None,
            connections: Some(figures.of_unix()),
            accepts_by: accepts_by.clone(),
        };
        if let Ok(address) = SocketAddr::try_from(name.clone()) {
            let (queued, limit) = kernel::backlog(socket)?;
            let is_member = members(address)? > 1;
            // Of an MPTCP connection the kernel lists the paths.
            if !is_member && is_listed {
                figures.check_with_kernel(address)?;
            }
            return Ok(Self {
                protocol: "tcp".to_owned(),
                address: address.to_string(),
                is_member,
                queued: Some(queued),
                limit: Some(limit),
                drops: Some(u64::from(kernel::drops(socket)?)),
                overflows: Some(overflows),
                connections: Some(figures.of_tcp()),
                ..common
            });
        }
        Ok(Self {
            address: unix_address(&name)?,
            ..common
        })
    }

    /// The row where accepts are not watched at all.
    #[must_use]
    pub fn without_connections(self) -> Self {
        // Those of a unix listener are counted by another source.
        let connections = self
            .connections
            .filter(|_| self.protocol == "unix")
            .map(|it| Connections {
                accepts: None,
                late_accepts: None,
                complete: false,
                ..it
            });
        Self {
            connections,
            accepts_by: BTreeMap::new(),
            ..self
        }
    }
}

impl Figures {
    /// Nothing has happened.
    pub const NONE: Self = Self {
        seeded: 0,
        accepts: 0,
        late_accepts: 0,
        active: 0,
        half_closed: 0,
        closes: 0,
        aborted: 0,
        wait_unknown: 0,
        lifetime_unknown: 0,
        queued: 0,
        unseen: 0,
        incomplete: false,
    };

    /// Connections that were accepted and are open.
    #[must_use]
    pub const fn open(count: u64) -> Self {
        Self {
            accepts: count,
            active: count,
            ..Self::NONE
        }
    }

    /// Connections that were accepted and have ended.
    #[must_use]
    pub const fn closed(count: u64) -> Self {
        Self {
            accepts: count,
            closes: count,
            ..Self::NONE
        }
    }

    /// The test itself must not be wrong about what it did.
    fn check_with_kernel(self, address: SocketAddr) -> Result<()> {
        let open = kernel::accepted_in(address, kernel::state::ESTABLISHED)?;
        ensure!(
            open == self.active + self.unseen,
            "the kernel has {open} open connections, not {self:?}"
        );
        let half_closed = kernel::accepted_in(address, kernel::state::CLOSE_WAIT)?;
        ensure!(
            half_closed == self.half_closed,
            "the kernel has {half_closed} half-closed connections, not {self:?}"
        );
        Ok(())
    }

    fn of_tcp(self) -> Connections {
        Connections {
            seeded: Some(self.seeded),
            accepts: Some(self.accepts),
            late_accepts: Some(self.late_accepts),
            active: Some(self.active),
            half_closed: Some(self.half_closed),
            closes: Some(self.closes),
            aborted: Some(self.aborted),
            waits: Some(self.accepts - self.late_accepts - self.wait_unknown),
            wait_unknown: Some(self.wait_unknown),
            lifetimes: Some(self.closes - self.lifetime_unknown),
            complete: !self.incomplete,
        }
    }

    /// Nothing tells of the end of a unix connection; how many are open is counted by sock_diag.
    fn of_unix(self) -> Connections {
        Connections {
            seeded: None,
            accepts: Some(self.accepts),
            late_accepts: Some(self.late_accepts),
            active: Some(self.active),
            half_closed: None,
            closes: None,
            aborted: None,
            waits: None,
            wait_unknown: None,
            lifetimes: None,
            complete: !self.incomplete,
        }
    }
}

/// How many listeners share an address by SO_REUSEPORT.
fn members(address: SocketAddr) -> Result<usize> {
    let sockets = kernel::tcp_sockets()?;
    let there = sockets
        .iter()
        .filter(|socket| socket.state == kernel::state::LISTEN && socket.local == address);
    Ok(there.count())
}

/// A unix name as raindrops writes it.
fn unix_address(name: &SocketAddrAny) -> Result<String> {
    let name = SocketAddrUnix::try_from(name.clone()).context("neither TCP nor unix")?;
    if let Some(path) = name.path() {
        return Ok(escaped(path.to_bytes()));
    }
    match name.abstract_name() {
        Some(name) => Ok(format!("@{}", escaped(name))),
        None => bail!("a listener without a name"),
    }
}

/// Bytes that are no printable ASCII as `\xNN`. Good for names without blanks and backslashes,
/// which raindrops writes otherwise.
fn escaped(bytes: &[u8]) -> String {
    let character = |byte: &u8| match byte {
        b'!'..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(character).collect()
}

/// How raindrops writes a path.
#[must_use]
pub fn shown_path(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}
