//! The loop that reads one netlink dump to its end.
//!
//! Separate from the socket so that it can be fed scripted datagrams: `receive` is the only way in.
//! It knows netlink's framing and nothing of sockets' attributes.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer,
};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;

use super::inet::TCPDIAG_GETSOCK;

/// Messages are aligned to this (`NLMSG_ALIGNTO`).
const ALIGN: usize = 4;

/// More datagrams than any host's sockets fill: at some 30 rows each, over 30 million sockets.
const MAX_DATAGRAMS: usize = 1 << 20;

/// Datagrams in a row without a message for us before the answer counts as lost.
const MAX_FOREIGN: usize = 1 << 10;

/// Whether a dump saw everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// The kernel said that the table changed under the dump (`NLM_F_DUMP_INTR`).
    pub interrupted: bool,
    /// Messages that could not be read, and were left out.
    pub malformed: u64,
}

impl Completeness {
    #[must_use]
    pub const fn is_complete(self) -> bool {
        !self.interrupted && self.malformed == 0
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            interrupted: self.interrupted || other.interrupted,
            malformed: self.malformed + other.malformed,
        }
    }
}

/// A message that is not what its type promises. What is wrong with it helps nobody: it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where the kernel reported an error: which part of it did not know the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// `NLMSG_ERROR`: sock_diag has no handler for the family, or refused.
    Request,
    /// An errno in `NLMSG_DONE`: the family's handler could not dump.
    Dump,
}

#[derive(Debug)]
pub(super) enum DumpError {
    Kernel { stage: Stage, source: io::Error },
    Receive(io::Error),
    Truncated { size: usize, room: usize },
    Endless,
}

/// Reads datagrams until the dump that was asked for with `sequence` ends, and hands the payload of
/// each message to `row`.
pub(super) fn drain(
    sequence: u32,
    buffer: &mut [u8],
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut row: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Completeness, DumpError> {
    let mut dump = Dump::new(sequence);
    loop {
        if let Some(seen) = dump.advance(buffer, &mut receive, &mut row)? {
            return Ok(seen);
        }
    }
}

/// A dump that is being read.
#[derive(Debug)]
pub(super) struct Dump {
    sequence: u32,
    seen: Completeness,
    datagrams: usize,
    foreign: usize,
}

impl Dump {
    pub(super) fn new(sequence: u32) -> Self {
        Self {
            sequence,
            seen: Completeness::default(),
            datagrams: 0,
            foreign: 0,
        }
    }

    /// Reads one datagram. `Some` when it was the last.
    pub(super) fn advance(
        &mut self,
        buffer: &mut [u8],
        mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
        mut row: impl FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<Option<Completeness>, DumpError> {
        self.datagrams += 1;
        if self.datagrams > MAX_DATAGRAMS {
            return Err(DumpError::Endless);
        }
        let size = match receive(buffer) {
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(DumpError::Receive(error)),
        };
        let Some(datagram) = buffer.get(..size) else {
            return Err(DumpError::Truncated {
                size,
                room: buffer.len(),
            });
        };
        match scan(self.sequence, datagram, &mut self.seen, &mut row)? {
            Scan::Done => return Ok(Some(self.seen)),
            Scan::More => self.foreign = 0,
            Scan::Foreign => self.foreign += 1,
        }
        if self.foreign > MAX_FOREIGN {
            return Err(DumpError::Endless);
        }
        Ok(None)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    More,
    Done,
    /// Nothing of it belongs to this dump.
    Foreign,
}

/// Goes through the messages of one datagram.
fn scan(
    sequence: u32,
    datagram: &[u8],
    seen: &mut Completeness,
    row: &mut impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<Scan, DumpError> {
    let mut result = Scan::Foreign;
    let mut rest = datagram;
    while !rest.is_empty() {
        // Checks that the header is whole and its length between the header's and what is left, so
        // that every turn of this loop advances.
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            seen.malformed += 1;
            return Ok(result);
        };
        let length = message.length() as usize;
        let payload = message.payload();
        rest = rest.get(length.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        if message.sequence_number() != sequence {
            continue;
        }
        result = Scan::More;
        seen.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_NOOP => {}
            NLMSG_OVERRUN => {
                return Err(kernel_error(Stage::Dump, libc::ENOBUFS));
            }
            NLMSG_ERROR => match errno(payload) {
                // An acknowledgement.
                Some(0) => {}
                Some(errno) => return Err(kernel_error(Stage::Request, errno)),
                None => return Err(kernel_error(Stage::Request, libc::EBADMSG)),
            },
            NLMSG_DONE => {
                return match errno(payload) {
                    None | Some(0) => Ok(Scan::Done),
                    Some(errno) => Err(kernel_error(Stage::Dump, errno)),
                };
            }
            SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => {
                if row(payload) == Err(Malformed) {
                    seen.malformed += 1;
                }
            }
            _ => seen.malformed += 1,
        }
    }
    Ok(result)
}

/// The error number that `NLMSG_ERROR` and `NLMSG_DONE` begin with, made positive. A positive one is
/// none: dump callbacks may end with a length.
fn errno(payload: &[u8]) -> Option<i32> {
    let bytes = payload.first_chunk()?;
    Some(i32::from_ne_bytes(*bytes).min(0).saturating_neg())
}

fn kernel_error(stage: Stage, errno: i32) -> DumpError {
    DumpError::Kernel {
        stage,
        source: io::Error::from_raw_os_error(errno),
    }
}

#[cfg(test)]
mod tests;
