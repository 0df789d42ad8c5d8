//! TCP: what is asked of inet_diag, and its answers read from bytes.
//!
//! Pure functions over one message's payload (`struct inet_diag_msg` and attributes,
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/inet_diag.h>); no I/O.

pub(super) mod filter;
mod info;

use std::net::IpAddr;

use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, INET_DIAG_INFO, INET_DIAG_SKMEMINFO, IPPROTO_TCP, SockDiagMessage,
    TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_LISTEN,
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};

use super::dump::Malformed;
use crate::{
    address::Address,
    ids::{Cookie, Inode, NetnsId},
    snapshot::{ListenSocket, connections::KernelConnection},
};

/// Length of `struct inet_diag_msg`, which the attributes follow.
const HEADER: usize = 72;

/// Index of `SK_MEMINFO_DROPS` among the `u32`s of `INET_DIAG_SKMEMINFO`; since Linux 4.7.
const DROPS: usize = 8;

/// What lies on top of TCP, which the kernel tells the privileged; since Linux 5.5.
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_ULP_INFO_NAME: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// State of a TCP socket, by the numbers of `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcpState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

impl TcpState {
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

/// One TCP connection, of either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConnection {
    pub netns: NetnsId,
    pub cookie: Cookie,
    /// `None` while no process holds it: not accepted yet, or closed and finishing by itself.
    pub inode: Option<Inode>,
    pub state: TcpState,
    /// As the socket has it: an IPv4 client of a dual-stack listener shows as `::ffff:a.b.c.d`.
    pub local: (IpAddr, u16),
    pub remote: (IpAddr, u16),
    /// One of the paths of an MPTCP connection. Only where the kernel was asked for it.
    pub is_path: bool,
}

/// Type of the request from before there were families in it, and of its answers. It is answered
/// for IPv4 and IPv6 at once (`inet_diag_dump_compat`), so the table of listeners is walked once.
pub(super) const TCPDIAG_GETSOCK: u16 = 18;

/// `struct inet_diag_req` for all listeners, IPv4 and IPv6.
pub(super) fn all_listeners_request() -> [u8; 60] {
    request_of_any_family(StateFlags::LISTEN, ExtensionFlags::SKMEMINFO)
}

/// `struct inet_diag_req` for all connections that a server has or may accept, IPv4 and IPv6.
pub(super) fn all_accepted_request() -> [u8; 60] {
    request_of_any_family(ACCEPTED, ExtensionFlags::INFO)
}

/// States of accepted connections that the server has not closed.
const ACCEPTED: StateFlags = StateFlags::ESTABLISHED.union(StateFlags::CLOSE_WAIT);

fn request_of_any_family(states: StateFlags, extensions: ExtensionFlags) -> [u8; 60] {
    const EXTENSIONS: usize = 3;
    const STATES: usize = 52;

    let mut request = [0; 60];
    request[EXTENSIONS] = extensions.bits();
    request[STATES..STATES + 4].copy_from_slice(&states.bits().to_ne_bytes());
    request
}

pub(super) fn accepted_request(family: Family) -> SockDiagMessage {
    request(family, ACCEPTED, ExtensionFlags::INFO)
}

pub(super) fn listeners_request(family: Family) -> SockDiagMessage {
    request(family, StateFlags::LISTEN, ExtensionFlags::SKMEMINFO)
}

/// All states in which a connection is open for somebody. FIN_WAIT2 also shows the sockets that the
/// kernel has already shrunk to time-wait ones; they have no inode.
pub(super) fn connections_request(family: Family) -> SockDiagMessage {
    let states = StateFlags::all()
        - StateFlags::LISTEN
        - StateFlags::TIME_WAIT
        - StateFlags::SYN_RECV
        - StateFlags::CLOSE;
    request(family, states, ExtensionFlags::empty())
}

/// Only what `active` counts, and sockets that wait to be accepted: those have no inode.
///
/// `with_paths`: the kernel must tell which of them are paths of MPTCP connections. It does so only
/// together with much else, under each socket's lock.
pub(super) fn established_request(family: Family, with_paths: bool) -> SockDiagMessage {
    let extensions = if with_paths {
        ExtensionFlags::INFO
    } else {
        ExtensionFlags::empty()
    };
    request(family, StateFlags::ESTABLISHED, extensions)
}

fn request(family: Family, states: StateFlags, extensions: ExtensionFlags) -> SockDiagMessage {
    let (family, socket_id) = match family {
        Family::V4 => (AF_INET, SocketId::new_v4()),
        Family::V6 => (AF_INET6, SocketId::new_v6()),
    };
    SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions,
        states,
        socket_id,
    })
}

/// A listening socket; `None` for one that no process holds, which is being closed.
pub(super) fn parse_listener(payload: &[u8]) -> Result<Option<(Inode, ListenSocket)>, Malformed> {
    let header = parse_header(payload)?;
    if header.state != TCP_LISTEN {
        return Err(Malformed);
    }
    let mut drops = None;
    for attribute in NlasIterator::new(&payload[HEADER..]) {
        let attribute = attribute.map_err(|_| Malformed)?;
        if attribute.kind() == INET_DIAG_SKMEMINFO {
            drops = read_u32(attribute.value(), DROPS);
        }
    }
    if header.inode == 0 {
        return Ok(None);
    }
    let id = &header.socket_id;
    let socket = ListenSocket {
        address: Address::Tcp {
            ip: id.source_address,
            port: id.source_port,
        },
        cookie: Some(cookie(id.cookie)),
        queued: Some(header.recv_queue),
        limit: Some(header.send_queue),
        drops,
        bound_path: None,
    };
    Ok(Some((Inode(header.inode.into()), socket)))
}

pub(super) fn parse_connection(payload: &[u8], netns: NetnsId) -> Result<TcpConnection, Malformed> {
    let header = parse_header(payload)?;
    let mut is_path = false;
    for attribute in NlasIterator::new(&payload[HEADER..]) {
        let attribute = attribute.map_err(|_| Malformed)?;
        if attribute.kind() == INET_DIAG_ULP_INFO {
            is_path = is_mptcp(attribute.value())?;
        }
    }
    let id = &header.socket_id;
    Ok(TcpConnection {
        netns,
        cookie: cookie(id.cookie),
        inode: (header.inode != 0).then_some(Inode(header.inode.into())),
        state: TcpState::from_kernel(header.state).ok_or(Malformed)?,
        local: (id.source_address, id.source_port),
        remote: (id.destination_address, id.destination_port),
        is_path,
    })
}

/// An accepted connection; `None` for one that waits to be accepted.
pub(super) fn parse_accepted(payload: &[u8]) -> Result<Option<KernelConnection>, Malformed> {
    let header = parse_header(payload)?;
    let half_closed = match header.state {
        TCP_ESTABLISHED => false,
        TCP_CLOSE_WAIT => true,
        _ => return Err(Malformed),
    };
    let (mut is_path, mut info) = (false, None);
    for attribute in NlasIterator::new(&payload[HEADER..]) {
        let attribute = attribute.map_err(|_| Malformed)?;
        match attribute.kind() {
            INET_DIAG_ULP_INFO => is_path = is_mptcp(attribute.value())?,
            INET_DIAG_INFO => info = Some(info::parse(attribute.value())),
            _ => {}
        }
    }
    if header.inode == 0 {
        return Ok(None);
    }
    // The kernel counts the client's FIN as a byte that has arrived, unread until the server has read
    // the end (tcp_rcv_nxt_update).
    let fin = u8::from(half_closed);
    if let Some(received) = info.as_mut().and_then(|info| info.bytes_received.as_mut()) {
        *received = received.saturating_sub(fin.into());
    }
    let id = &header.socket_id;
    Ok(Some(KernelConnection {
        cookie: cookie(id.cookie),
        inode: Inode(header.inode.into()),
        half_closed,
        local: (id.source_address, id.source_port),
        remote: (id.destination_address, id.destination_port),
        is_path,
        unread_bytes: header.recv_queue.saturating_sub(fin.into()),
        unacked_bytes: header.send_queue,
        info,
    }))
}

fn is_mptcp(upper: &[u8]) -> Result<bool, Malformed> {
    for attribute in NlasIterator::new(upper) {
        let attribute = attribute.map_err(|_| Malformed)?;
        if attribute.kind() == INET_ULP_INFO_NAME {
            return Ok(attribute.value() == b"mptcp\0");
        }
    }
    Ok(false)
}

fn parse_header(payload: &[u8]) -> Result<InetResponseHeader, Malformed> {
    let header = payload.get(..HEADER).ok_or(Malformed)?;
    InetResponseHeader::parse(header).map_err(|_| Malformed)
}

/// Two `u32`s, the low half first, each in the host's byte order (`sock_diag_save_cookie`).
pub(super) fn cookie(bytes: [u8; 8]) -> Cookie {
    let [a, b, c, d, e, f, g, h] = bytes;
    let low = u32::from_ne_bytes([a, b, c, d]);
    let high = u32::from_ne_bytes([e, f, g, h]);
    Cookie(u64::from(high) << 32 | u64::from(low))
}

/// The `index`th `u32` of an attribute, where it is that long.
pub(super) fn read_u32(bytes: &[u8], index: usize) -> Option<u32> {
    let (words, _) = bytes.as_chunks();
    words.get(index).map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests;
