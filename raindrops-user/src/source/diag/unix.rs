//! Unix sockets: what is asked of unix_diag, its answers read from bytes, and which accepted sockets
//! each listener has.
//!
//! Names stay bytes: abstract names and paths need not be UTF-8, and one that is not must not cost
//! the whole message. No I/O.

use std::collections::{BTreeMap, HashMap};

use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_sock_diag::{
    SOCK_SEQPACKET, SOCK_STREAM, SockDiagMessage, TCP_ESTABLISHED, TCP_LISTEN, UNIX_DIAG_NAME,
    UNIX_DIAG_RQLEN, UNIX_DIAG_VFS,
    unix::{ShowFlags, StateFlags, UnixRequest, UnixResponseHeader},
};

use super::{
    dump::Malformed,
    inet::{cookie, read_u32},
};
use crate::{
    address::{Address, UnixName},
    ids::{Cookie, Inode, NetnsId},
    snapshot::{ListenSocket, ListenerKey},
};

/// Length of `struct unix_diag_msg`, which the attributes follow.
const HEADER: usize = 16;

/// Length of an attribute's own header.
const ATTRIBUTE_HEADER: usize = 4;

pub(super) fn request() -> SockDiagMessage {
    SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: StateFlags::LISTEN | StateFlags::ESTABLISHED,
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN,
        cookie: [0; 8],
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnixState {
    Listen,
    Established,
}

/// One unix socket of a kind that can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnixSocket<'a> {
    /// `SOCK_STREAM` or `SOCK_SEQPACKET`.
    pub(super) kind: u8,
    pub(super) state: UnixState,
    /// 0: in a listener's queue.
    pub(super) inode: u32,
    pub(super) cookie: Cookie,
    /// `sun_path`; empty when it has no name.
    pub(super) name: &'a [u8],
    /// Device, as the kernel counts (major << 20 | minor, unlike `st_dev`), and inode of the bound
    /// path.
    pub(super) bound_path: Option<(u32, u32)>,
    /// Of a listener: queued and limit.
    pub(super) queue: Option<(u32, u32)>,
}

/// One message's payload (`struct unix_diag_msg` and attributes,
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/unix_diag.h>); `None` for a
/// datagram socket.
pub(super) fn parse(payload: &[u8]) -> Result<Option<UnixSocket<'_>>, Malformed> {
    let (header, attributes) = payload.split_at_checked(HEADER).ok_or(Malformed)?;
    let header = UnixResponseHeader::parse(header).map_err(|_| Malformed)?;
    if !matches!(header.kind, SOCK_STREAM | SOCK_SEQPACKET) {
        return Ok(None);
    }
    let mut socket = UnixSocket {
        kind: header.kind,
        state: match header.state {
            TCP_LISTEN => UnixState::Listen,
            TCP_ESTABLISHED => UnixState::Established,
            _ => return Err(Malformed),
        },
        inode: header.inode,
        cookie: cookie(header.cookie),
        name: &[],
        bound_path: None,
        queue: None,
    };
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| Malformed)?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        let value = attribute
            .into_inner()
            .get(ATTRIBUTE_HEADER..length)
            .ok_or(Malformed)?;
        let pair = || Some((read_u32(value, 0)?, read_u32(value, 1)?));
        match kind {
            UNIX_DIAG_NAME => socket.name = value,
            // Inode first, in the message.
            UNIX_DIAG_VFS => socket.bound_path = pair().map(|(inode, device)| (device, inode)),
            UNIX_DIAG_RQLEN => socket.queue = pair(),
            _ => {}
        }
    }
    Ok(Some(socket))
}

/// What an accepted socket shares with its listener: it points to the listener's own address. The
/// kind belongs to it because a stream and a seqpacket listener may share an abstract name.
type Identity = (u8, Option<(u32, u32)>);

/// Sockets of one dump, listeners with their accepted sockets.
#[derive(Debug, Default)]
pub(super) struct Tally {
    listeners: BTreeMap<Inode, (Identity, Vec<u8>, ListenSocket)>,
    /// By name inside, so that a socket is looked up without copying its name.
    accepted: HashMap<Identity, HashMap<Vec<u8>, Vec<Inode>>>,
}

/// Listeners, and the accepted sockets of each.
pub(super) type Tallied = (
    BTreeMap<ListenerKey, ListenSocket>,
    BTreeMap<ListenerKey, Vec<Inode>>,
);

impl Tally {
    pub(super) fn add(&mut self, socket: UnixSocket<'_>) {
        let UnixSocket {
            kind,
            state,
            inode,
            cookie,
            name,
            bound_path,
            queue,
        } = socket;
        // Queued, or a listener that is being closed.
        if inode == 0 {
            return;
        }
        let identity = (kind, bound_path);
        match state {
            UnixState::Listen => {
                let socket = ListenSocket {
                    address: Address::Unix(UnixName::from_sun_path(name)),
                    cookie: Some(cookie),
                    queued: queue.map(|(queued, _)| queued),
                    limit: queue.map(|(_, limit)| limit),
                    drops: None,
                    bound_path,
                };
                self.listeners
                    .insert(Inode(inode.into()), (identity, name.to_vec(), socket));
            }
            // A client that did not bind, or a pair.
            UnixState::Established if name.is_empty() => {}
            UnixState::Established => {
                let names = self.accepted.entry(identity).or_default();
                let inode = Inode(inode.into());
                match names.get_mut(name) {
                    Some(sockets) => sockets.push(inode),
                    None => {
                        names.insert(name.to_vec(), vec![inode]);
                    }
                }
            }
        }
    }

    pub(super) fn finish(self, netns: NetnsId) -> Tallied {
        let Self {
            listeners,
            accepted,
        } = self;
        let mut sockets = BTreeMap::new();
        let mut active = BTreeMap::new();
        for (inode, (identity, name, socket)) in listeners {
            let key = ListenerKey { netns, inode };
            if !name.is_empty() {
                let sockets = accepted.get(&identity).and_then(|names| names.get(&name));
                active.insert(key, sockets.cloned().unwrap_or_default());
            }
            sockets.insert(key, socket);
        }
        (sockets, active)
    }
}

#[cfg(test)]
mod tests;
