//! Accepted TCP connections with their `tcp_info`, for a person who asks for them.
//!
//! Apart from the dumps of the sampler, because it must end early and may take its time: the kernel
//! takes each socket's lock to read its `tcp_info`, and goes through the table of all connections of
//! the host, whatever the number that is wanted.

use std::{collections::BTreeSet, time::Instant};

use super::{
    BUFFER, Completeness, DiagError, TCP_CONNECTIONS, current_netns,
    dump::Dump,
    encode, encode_compatible, failed,
    inet::{self, Family, filter},
    is_passing, open_socket, send, tcp_module,
};
use crate::snapshot::connections::{KernelConnection, KernelConnections};

/// Type of the attribute that holds the filter.
const INET_DIAG_REQ_BYTECODE: u16 = 1;

/// Where reading ends, whatever there is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Accepted connections.
    pub connections: usize,
    /// Sockets, with those that wait to be accepted, and those of other ports where there are too many
    /// ports to ask for.
    pub sockets: usize,
    pub until: Instant,
}

/// Connections of the calling thread's network namespace that were accepted at one of the ports. As a
/// side effect the kernel gives each a cookie that had none.
///
/// # Errors
/// When the kernel does not list them.
pub fn accepted(ports: &BTreeSet<u16>, bounds: Bounds) -> Result<KernelConnections, DiagError> {
    let mut listing = Listing {
        ports,
        bounds,
        sockets: 0,
        found: Vec::new(),
        seen: Completeness::default(),
        complete: true,
    };
    let netns = current_netns()?;
    // One dump where the kernel knows the older request: it goes through the table only once.
    match listing.dump(Question::Any) {
        Err(error @ DiagError::Refused { .. }) if !is_passing(&error) => {
            for family in [Family::V4, Family::V6] {
                listing.dump(Question::Of(family))?;
            }
        }
        dumped => dumped?,
    }
    Ok(KernelConnections {
        netns,
        connections: listing.found,
        complete: listing.complete,
        consistent: listing.seen.is_complete(),
    })
}

#[derive(Clone, Copy)]
enum Question {
    Any,
    Of(Family),
}

/// What has been read so far.
struct Listing<'a> {
    ports: &'a BTreeSet<u16>,
    bounds: Bounds,
    sockets: usize,
    found: Vec<KernelConnection>,
    seen: Completeness,
    /// No bound was reached.
    complete: bool,
}

impl Listing<'_> {
    /// On a socket of its own: one that is closed before the end is how a dump is ended.
    fn dump(&mut self, question: Question) -> Result<(), DiagError> {
        if self.has_to_end() {
            return Ok(());
        }
        let sequence = 1;
        let mut request = match question {
            Question::Any => encode_compatible(&inet::all_accepted_request(), sequence),
            Question::Of(family) => encode(inet::accepted_request(family), sequence),
        };
        let ports = self.ports.iter().copied();
        if let Some(code) = filter::at_ports(ports) {
            append(&mut request, INET_DIAG_REQ_BYTECODE, &code);
        }
        let socket = open_socket()?;
        send(&socket, &request)?;
        let mut buffer = vec![0; BUFFER];
        let mut dump = Dump::new(sequence);
        loop {
            let receive = |mut buffer: &mut [u8]| socket.recv(&mut buffer, libc::MSG_TRUNC);
            let ended = dump
                .advance(&mut buffer, receive, |payload| {
                    let socket = inet::parse_accepted(payload)?;
                    self.add(socket);
                    Ok(())
                })
                .map_err(|error| failed(TCP_CONNECTIONS, tcp_module, error))?;
            if let Some(seen) = ended {
                self.seen = self.seen.and(seen);
                return Ok(());
            }
            if self.has_to_end() {
                return Ok(());
            }
        }
    }

    fn add(&mut self, socket: Option<KernelConnection>) {
        self.sockets += 1;
        let Some(connection) = socket else { return };
        if !self.ports.contains(&connection.local.1) {
            return;
        }
        if self.found.len() == self.bounds.connections {
            self.complete = false;
            return;
        }
        self.found.push(connection);
    }

    /// Whether a bound was reached, which is noted. That there are more connections than wanted is
    /// known only when one more has been read.
    fn has_to_end(&mut self) -> bool {
        self.complete &= self.sockets < self.bounds.sockets && Instant::now() < self.bounds.until;
        !self.complete
    }
}

/// Adds an attribute to a message.
fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    /// Length of an attribute's own header.
    const HEADER: usize = 4;

    message.extend_from_slice(&((HEADER + value.len()) as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests;
