//! Rows of `/proc/net/unix`. Pure.
//!
//! The table is ambiguous, and nothing here can mend it: NUL bytes of abstract names are printed as
//! `@`, so such names are kept as printed; a name that holds a newline continues on a line of its
//! own, which is passed over unless it was made to look like a row; and a listener whose path was
//! replaced looks like its successor, so figures that only the name tells stay unknown for both.

use std::collections::{BTreeMap, HashMap};

use super::{hex, split_word};
use crate::{
    address::{Address, UnixName},
    ids::{Inode, NetnsId},
    snapshot::{ListenSocket, ListenerKey},
};

/// `__SO_ACCEPTCON`: has called `listen()`.
const LISTENING: u32 = 1 << 16;
const STREAM: u32 = 1;
const SEQPACKET: u32 = 5;

/// `SS_CONNECTING`: of a socket that nobody holds, in a queue.
const QUEUED: u32 = 2;
/// `SS_CONNECTED`.
const ACCEPTED: u32 = 3;

/// Sockets that share a name.
#[derive(Debug, Default)]
struct Named {
    listeners: Vec<Inode>,
    queued: u32,
    accepted: Vec<Inode>,
}

/// Listeners, and the accepted sockets of each.
pub(super) fn parse(
    bytes: &[u8],
    netns: NetnsId,
) -> (
    BTreeMap<ListenerKey, ListenSocket>,
    BTreeMap<ListenerKey, Vec<Inode>>,
) {
    let mut names = HashMap::<(u32, &[u8]), Named>::new();
    for row in bytes.split(|byte| *byte == b'\n').filter_map(parse_row) {
        if row.name.is_empty() {
            continue;
        }
        let named = names.entry((row.kind, row.name)).or_default();
        match row {
            Row { flags, inode, .. } if flags & LISTENING != 0 && inode != 0 => {
                named.listeners.push(Inode(inode));
            }
            Row {
                state: QUEUED,
                inode: 0,
                ..
            } => named.queued += 1,
            Row {
                state: ACCEPTED,
                inode,
                ..
            } if inode != 0 => named.accepted.push(Inode(inode)),
            _ => {}
        }
    }
    let mut listeners = BTreeMap::new();
    let mut active = BTreeMap::new();
    for ((_, name), named) in names {
        let alone = named.listeners.len() == 1;
        for inode in &named.listeners {
            let inode = *inode;
            let key = ListenerKey { netns, inode };
            let socket = ListenSocket {
                address: Address::Unix(parse_name(name)),
                cookie: None,
                queued: alone.then_some(named.queued),
                limit: None,
                drops: None,
                bound_path: None,
            };
            listeners.insert(key, socket);
            if alone {
                active.insert(key, named.accepted.clone());
            }
        }
    }
    (listeners, active)
}

struct Row<'a> {
    flags: u32,
    kind: u32,
    state: u32,
    inode: u64,
    name: &'a [u8],
}

/// `Num: RefCount Protocol Flags Type St Inode Path`; `None` for kinds that cannot be accepted, the
/// title, and what cannot be read.
fn parse_row(line: &[u8]) -> Option<Row<'_>> {
    let (number, rest) = split_word(line);
    number.strip_suffix(b":")?;
    let (_references, rest) = split_word(rest);
    let (_protocol, rest) = split_word(rest);
    let (flags, rest) = split_word(rest);
    let (kind, rest) = split_word(rest);
    let (state, rest) = split_word(rest);
    // The name may begin with a space, so only the one that separates is taken off.
    let (inode, name) = split_word(rest);
    let row = Row {
        flags: hex(flags)?,
        kind: hex(kind)?,
        state: hex(state)?,
        inode: str::from_utf8(inode).ok()?.parse().ok()?,
        name,
    };
    matches!(row.kind, STREAM | SEQPACKET).then_some(row)
}

fn parse_name(name: &[u8]) -> UnixName {
    match name {
        [] => UnixName::Unnamed,
        [b'@', name @ ..] => UnixName::Abstract(name.to_vec()),
        path => UnixName::Path(path.to_vec()),
    }
}
