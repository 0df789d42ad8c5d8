//! Queues from `/proc/net/{tcp,tcp6,unix}`, for hosts whose kernel has no diag modules loaded.
//!
//! Separate from [`super::Diag`] because it knows less and costs more: no limit and no drops (the
//! last column of a LISTEN row is the Fast Open limit, not sk_drops: `get_tcp4_sock`,
//! <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_ipv4.c>), no cookie, and unix sockets
//! told apart by name only. Reads below the root that is given; parsers take bytes.

mod tcp;
mod unix;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::error::DiagError;
use crate::{
    ids::{Monotonic, NetnsId},
    snapshot::{ListenerKey, QueueSnapshot, QueueSource, UnixActiveSnapshot},
};

/// Some 100,000 rows. Listeners come first in the TCP tables.
const MAX_SIZE: usize = 16 * 1024 * 1024;

/// Listening TCP sockets of the calling thread's namespace, which is `netns`, from
/// `thread-self/net/tcp` and `tcp6` under `proc`.
pub fn tcp_listeners(proc: &Path, netns: NetnsId) -> Result<QueueSnapshot, DiagError> {
    let began = Monotonic::now();
    let v4 = read(
        &proc.join("thread-self/net/tcp"),
        MAX_SIZE,
        tcp::past_listeners,
    )?;
    // Not there where IPv6 is off.
    let v6 = read(
        &proc.join("thread-self/net/tcp6"),
        MAX_SIZE,
        tcp::past_listeners,
    );
    let v6 = match v6 {
        Err(DiagError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Contents::default()
        }
        v6 => v6?,
    };
    let mut listeners = BTreeMap::new();
    for contents in [&v4, &v6] {
        for (inode, socket) in tcp::parse(&contents.bytes) {
            listeners.insert(ListenerKey { netns, inode }, socket);
        }
    }
    Ok(QueueSnapshot {
        began,
        taken: Monotonic::now(),
        source: QueueSource::ProcNet,
        interrupted: v4.cut || v6.cut,
        listeners,
    })
}

/// Listening unix sockets of the calling thread's namespace, which is `netns`, and how many
/// accepted sockets each has, from `thread-self/net/unix` under `proc`.
pub fn unix_sockets(
    proc: &Path,
    netns: NetnsId,
) -> Result<(QueueSnapshot, UnixActiveSnapshot), DiagError> {
    let began = Monotonic::now();
    let contents = read(&proc.join("thread-self/net/unix"), MAX_SIZE, |_| false)?;
    let (listeners, active) = unix::parse(&contents.bytes, netns);
    let taken = Monotonic::now();
    let queues = QueueSnapshot {
        began,
        taken,
        source: QueueSource::ProcNet,
        interrupted: contents.cut,
        listeners,
    };
    Ok((queues, UnixActiveSnapshot { taken, active }))
}

#[derive(Debug, Default)]
struct Contents {
    /// Whole lines only.
    bytes: Vec<u8>,
    /// There was more than was read.
    cut: bool,
}

/// Reads a table until its end, `max_size`, or until `enough` says so of its last whole line.
fn read(
    path: &Path,
    max_size: usize,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Contents, DiagError> {
    let failed = |operation| {
        move |source| DiagError::File {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let mut file = File::open(path).map_err(failed("open"))?;
    let mut contents = Contents::default();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let size = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read")(error)),
        };
        let room = max_size - contents.bytes.len();
        contents.bytes.extend_from_slice(&chunk[..size.min(room)]);
        contents.cut = size > room;
        if contents.cut || last_line(&contents.bytes).is_some_and(&enough) {
            break;
        }
    }
    if contents.cut {
        let whole = contents.bytes.iter().rposition(|byte| *byte == b'\n');
        contents.bytes.truncate(whole.map_or(0, |end| end + 1));
    }
    Ok(contents)
}

fn last_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n')?;
    let before = bytes[..end].iter().rposition(|byte| *byte == b'\n');
    Some(&bytes[before.map_or(0, |at| at + 1)..end])
}

/// A number in hexadecimal, as these tables print most of theirs.
fn hex(bytes: &[u8]) -> Option<u32> {
    u32::from_str_radix(str::from_utf8(bytes).ok()?, 16).ok()
}

/// The word that a line begins with, and what follows the one space after it.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    match line.iter().position(|byte| *byte == b' ') {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (line, &[]),
    }
}

#[cfg(test)]
mod tests;
