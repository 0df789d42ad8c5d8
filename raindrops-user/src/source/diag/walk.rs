//! One dump of all established TCP connections, read a little at a time.
//!
//! The kernel makes a dump while it is read, a datagram at a time, and holds nothing in between: so
//! however many connections there are, a step costs the same.

use netlink_sys::Socket;

use super::{
    BUFFER, Completeness, DiagError, TCP_CONNECTIONS, TcpConnection,
    dump::Dump,
    encode, failed,
    inet::{self, Family},
    open_socket, send, tcp_module,
};
use crate::ids::NetnsId;

/// A dump under way.
#[derive(Debug)]
pub struct Walk {
    netns: NetnsId,
    socket: Socket,
    buffer: Box<[u8]>,
    family: Family,
    with_paths: bool,
    dump: Dump,
    seen: Completeness,
}

impl Walk {
    /// Of the calling thread's network namespace, which is `netns`. `with_paths`: says which of them
    /// are paths of MPTCP connections, which costs more.
    pub fn begin(netns: NetnsId, with_paths: bool) -> Result<Self, DiagError> {
        let socket = open_socket()?;
        let dump = ask(&socket, Family::V4, with_paths)?;
        Ok(Self {
            netns,
            socket,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            family: Family::V4,
            with_paths,
            dump,
            seen: Completeness::default(),
        })
    }

    /// Reads one datagram, some hundred connections. `Some` when it was the last.
    pub fn step(
        &mut self,
        mut each: impl FnMut(TcpConnection),
    ) -> Result<Option<Completeness>, DiagError> {
        let socket = &self.socket;
        let receive = |mut buffer: &mut [u8]| socket.recv(&mut buffer, libc::MSG_TRUNC);
        let ended = self
            .dump
            .advance(&mut self.buffer, receive, |payload| {
                each(inet::parse_connection(payload, self.netns)?);
                Ok(())
            })
            .map_err(|error| failed(TCP_CONNECTIONS, tcp_module, error))?;
        let Some(seen) = ended else { return Ok(None) };
        self.seen = self.seen.and(seen);
        match self.family {
            Family::V4 => {
                self.family = Family::V6;
                self.dump = ask(&self.socket, Family::V6, self.with_paths)?;
                Ok(None)
            }
            Family::V6 => Ok(Some(self.seen)),
        }
    }
}

fn ask(socket: &Socket, family: Family, with_paths: bool) -> Result<Dump, DiagError> {
    let sequence = family as u32 + 1;
    let request = inet::established_request(family, with_paths);
    send(socket, &encode(request, sequence))?;
    Ok(Dump::new(sequence))
}
