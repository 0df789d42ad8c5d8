//! Listening sockets and their queues from sock_diag; the only place that names netlink.
//!
//! [`Diag`] asks the kernel. Where it has no diag modules, [`proc_net`] reads less of the same from
//! `/proc/net`. [`netstat`] has the namespace's counters that tell overflows from other drops.
//! Nothing here keeps history or decides what a number means: that is [`crate::queue`]'s.

mod accepted;
mod dump;
mod error;
mod inet;
pub mod netstat;
pub mod proc_net;
mod unix;
mod walk;

use std::{collections::BTreeMap, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use netlink_packet_core::{
    Emitable as _, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

pub use self::{
    accepted::{Bounds, accepted},
    dump::Completeness,
    error::{DiagError, DiagModule},
    inet::{TcpConnection, TcpState},
    walk::Walk,
};
use self::{
    dump::{DumpError, Malformed, Stage},
    inet::Family,
    unix::Tally,
};
use crate::{
    ids::{Monotonic, NetnsId},
    snapshot::{ListenerKey, QueueSnapshot, QueueSource, UnixActiveSnapshot},
};

/// The kernel fills datagrams of at most 32 KiB (`netlink_dump`).
const BUFFER: usize = 64 * 1024;

/// A dump is made while it is read, so an answer that does not come is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a dump is made again when the kernel says that it is inconsistent or has no memory.
const RETRIES: usize = 3;

const TCP_LISTENERS: &str = "TCP listeners";
const TCP_CONNECTIONS: &str = "TCP connections";
const UNIX_SOCKETS: &str = "unix sockets";

/// Asks sock_diag about the network namespace of the thread that opened it, also when that thread
/// has moved on to another.
#[derive(Debug)]
pub struct Diag {
    netns: NetnsId,
    /// `None` after a dump that did not reach its end: the kernel would answer EBUSY, or with the
    /// rest of it.
    socket: Option<Socket>,
    sequence: u32,
    buffer: Box<[u8]>,
    /// Whether the kernel lists IPv4 and IPv6 listeners in one dump, as far as is known.
    lists_all_at_once: bool,
}

/// What is asked for.
enum Question {
    OfFamily(SockDiagMessage),
    AllTcpListeners,
}

impl Diag {
    pub fn open() -> Result<Self, DiagError> {
        Ok(Self {
            netns: current_netns()?,
            socket: Some(open_socket()?),
            sequence: 0,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            lists_all_at_once: true,
        })
    }

    /// The namespace whose sockets it lists.
    #[must_use]
    pub const fn netns(&self) -> NetnsId {
        self.netns
    }

    /// Listening TCP sockets. The cost does not depend on the number of connections.
    pub fn tcp_listeners(&mut self) -> Result<QueueSnapshot, DiagError> {
        let netns = self.netns;
        let began = Monotonic::now();
        let (listeners, completeness) = self.retried(|diag| {
            let mut listeners = BTreeMap::new();
            let completeness = diag.dump_tcp_listeners(|payload| {
                if let Some((inode, socket)) = inet::parse_listener(payload)? {
                    listeners.insert(ListenerKey { netns, inode }, socket);
                }
                Ok(())
            })?;
            Ok((listeners, completeness))
        })?;
        Ok(QueueSnapshot {
            began,
            taken: Monotonic::now(),
            source: QueueSource::SockDiag,
            interrupted: !completeness.is_complete(),
            listeners,
        })
    }

    /// One dump where the kernel knows the older request, else one of each family.
    fn dump_tcp_listeners(
        &mut self,
        mut row: impl FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<Completeness, DiagError> {
        if self.lists_all_at_once {
            match self.dump(TCP_LISTENERS, Question::AllTcpListeners, &mut row) {
                Err(error @ DiagError::Refused { .. }) if !is_passing(&error) => {
                    self.lists_all_at_once = false;
                }
                dumped => return dumped,
            }
        }
        let mut completeness = Completeness::default();
        for family in [Family::V4, Family::V6] {
            let request = Question::OfFamily(inet::listeners_request(family));
            completeness = completeness.and(self.dump(TCP_LISTENERS, request, &mut row)?);
        }
        Ok(completeness)
    }

    /// Listening unix sockets, and how many accepted sockets each has. Walks every unix socket of
    /// the namespace.
    pub fn unix_sockets(&mut self) -> Result<(QueueSnapshot, UnixActiveSnapshot), DiagError> {
        let began = Monotonic::now();
        let (tally, completeness) = self.retried(|diag| {
            let mut tally = Tally::default();
            let completeness = diag.dump(
                UNIX_SOCKETS,
                Question::OfFamily(unix::request()),
                |payload| {
                    if let Some(socket) = unix::parse(payload)? {
                        tally.add(socket);
                    }
                    Ok(())
                },
            )?;
            Ok((tally, completeness))
        })?;
        let (listeners, active) = tally.finish(self.netns);
        let taken = Monotonic::now();
        let queues = QueueSnapshot {
            began,
            taken,
            source: QueueSource::SockDiag,
            interrupted: !completeness.is_complete(),
            listeners,
        };
        Ok((queues, UnixActiveSnapshot { taken, active }))
    }

    /// Hands every TCP connection to `each`, both ends of local ones. Never made again by itself, so
    /// nothing is handed over twice; what is missing is told. As a side effect the kernel gives
    /// every socket a cookie that had none.
    pub fn tcp_connections(
        &mut self,
        mut each: impl FnMut(TcpConnection),
    ) -> Result<Completeness, DiagError> {
        let netns = self.netns;
        let mut completeness = Completeness::default();
        for family in [Family::V4, Family::V6] {
            let request = Question::OfFamily(inet::connections_request(family));
            let dumped = self.dump(TCP_CONNECTIONS, request, |payload| {
                each(inet::parse_connection(payload, netns)?);
                Ok(())
            })?;
            completeness = completeness.and(dumped);
        }
        Ok(completeness)
    }

    /// Makes a dump anew while it is interrupted, a few times.
    fn retried<T>(
        &mut self,
        mut dump: impl FnMut(&mut Self) -> Result<(T, Completeness), DiagError>,
    ) -> Result<(T, Completeness), DiagError> {
        let mut left = RETRIES;
        loop {
            let result = dump(self);
            let again = match &result {
                Ok((_, completeness)) => completeness.interrupted,
                Err(error) => is_passing(error),
            };
            if !again || left == 0 {
                return result;
            }
            left -= 1;
        }
    }

    fn dump(
        &mut self,
        subject: &'static str,
        question: Question,
        row: impl FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<Completeness, DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let (module, request): (fn(Stage) -> DiagModule, _) = match question {
            Question::AllTcpListeners => (tcp_module, encode_all_listeners(self.sequence)),
            Question::OfFamily(request) => {
                let module = match request {
                    SockDiagMessage::UnixRequest(_) | SockDiagMessage::UnixResponse(_) => {
                        unix_module
                    }
                    SockDiagMessage::InetRequest(_) | SockDiagMessage::InetResponse(_) => {
                        tcp_module
                    }
                };
                (module, encode(request, self.sequence))
            }
        };
        // Put back only when the dump was read to its end.
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.reopen()?,
        };
        send(&socket, &request)?;
        let receive = |mut buffer: &mut [u8]| socket.recv(&mut buffer, libc::MSG_TRUNC);
        match dump::drain(self.sequence, &mut self.buffer, receive, row) {
            Ok(completeness) => {
                self.socket = Some(socket);
                Ok(completeness)
            }
            Err(error) => Err(failed(subject, module, error)),
        }
    }

    fn reopen(&self) -> Result<Socket, DiagError> {
        let current = current_netns()?;
        if current != self.netns {
            return Err(DiagError::Moved {
                opened: self.netns,
                current,
            });
        }
        open_socket()
    }
}

/// The module that a unix dump needs.
const fn unix_module(_: Stage) -> DiagModule {
    DiagModule::Unix
}

/// The module whose absence made a TCP dump fail.
const fn tcp_module(stage: Stage) -> DiagModule {
    match stage {
        Stage::Request => DiagModule::Inet,
        Stage::Dump => DiagModule::Tcp,
    }
}

fn failed(subject: &'static str, module: fn(Stage) -> DiagModule, error: DumpError) -> DiagError {
    match error {
        DumpError::Kernel { stage, source } => match source.raw_os_error() {
            Some(libc::ENOENT) => DiagError::ModuleMissing {
                subject,
                module: module(stage),
            },
            _ => DiagError::Refused { subject, source },
        },
        DumpError::Receive(source) => DiagError::Receive { subject, source },
        DumpError::Truncated { size, room } => DiagError::Truncated {
            subject,
            size,
            room,
        },
        DumpError::Endless => DiagError::Endless { subject },
    }
}

/// Network namespace of the calling thread.
pub fn current_netns() -> Result<NetnsId, DiagError> {
    let path = Path::new("/proc/thread-self/ns/net");
    let inode = path
        .metadata()
        .map_err(|source| DiagError::File {
            operation: "stat",
            path: path.to_owned(),
            source,
        })?
        .ino();
    let inode = u32::try_from(inode).map_err(|_| DiagError::Content {
        path: path.to_owned(),
        what: "inode of a namespace, which has 32 bits",
    })?;
    Ok(NetnsId(inode))
}

fn open_socket() -> Result<Socket, DiagError> {
    let failed = |operation| move |source| DiagError::Socket { operation, source };
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("open"))?;
    socket.bind_auto().map_err(failed("bind"))?;
    // Then the kernel lets nobody else send to it.
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(failed("connect"))?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(PATIENCE),
    )
    .map_err(|errno| failed("set a time limit on")(errno.into()))?;
    Ok(socket)
}

fn encode(request: SockDiagMessage, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn encode_all_listeners(sequence: u32) -> Vec<u8> {
    encode_compatible(&inet::all_listeners_request(), sequence)
}

/// A request from before there were families in it.
fn encode_compatible(request: &[u8], sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    let mut bytes = vec![0; header.buffer_len()];
    header.message_type = inet::TCPDIAG_GETSOCK;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    header.length = (bytes.len() + request.len()) as u32;
    header.emit(&mut bytes);
    bytes.extend_from_slice(request);
    bytes
}

fn send(socket: &Socket, bytes: &[u8]) -> Result<(), DiagError> {
    loop {
        match socket.send(bytes, 0) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(DiagError::Socket {
                    operation: "send to",
                    source,
                });
            }
        }
    }
}

/// The kernel was short of memory for the answer: another attempt may work.
fn is_passing(error: &DiagError) -> bool {
    match error {
        DiagError::Refused { source, .. } | DiagError::Receive { source, .. } => {
            source.raw_os_error() == Some(libc::ENOBUFS)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
