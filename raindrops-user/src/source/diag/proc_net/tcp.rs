//! Rows of `/proc/net/tcp` and `/proc/net/tcp6`. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hex;
use crate::{address::Address, ids::Inode, snapshot::ListenSocket};

const LISTEN: u32 = 10;

/// Listeners; other rows, the title and what cannot be read are passed over.
pub(super) fn parse(bytes: &[u8]) -> impl Iterator<Item = (Inode, ListenSocket)> {
    bytes.split(|byte| *byte == b'\n').filter_map(parse_row)
}

/// Whether this row tells that no listener follows: the kernel lists all of them before the others
/// (`tcp_get_idx`).
pub(super) fn past_listeners(row: &[u8]) -> bool {
    Row::split(row).is_some_and(|row| row.state != LISTEN)
}

struct Row<'a> {
    local: &'a [u8],
    state: u32,
    queues: &'a [u8],
    inode: &'a [u8],
}

impl<'a> Row<'a> {
    fn split(line: &'a [u8]) -> Option<Self> {
        let mut words = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        // sl local rem st tx:rx tr:when retrnsmt uid timeout inode …
        let local = words.nth(1)?;
        let state = hex(words.nth(1)?)?;
        let queues = words.next()?;
        let inode = words.nth(4)?;
        Some(Self {
            local,
            state,
            queues,
            inode,
        })
    }
}

fn parse_row(line: &[u8]) -> Option<(Inode, ListenSocket)> {
    let row = Row::split(line)?;
    if row.state != LISTEN {
        return None;
    }
    let (ip, port) = split_colon(row.local)?;
    let (_, received) = split_colon(row.queues)?;
    let inode: u64 = str::from_utf8(row.inode).ok()?.parse().ok()?;
    let socket = ListenSocket {
        address: Address::Tcp {
            ip: parse_ip(ip)?,
            port: hex(port)?.try_into().ok()?,
        },
        cookie: None,
        // Of a listener the length of its accept queue.
        queued: Some(hex(received)?),
        limit: None,
        drops: None,
        bound_path: None,
    };
    (inode != 0).then_some((Inode(inode), socket))
}

/// Words of 32 bits in network order, each printed as a number of the host's order.
fn parse_ip(digits: &[u8]) -> Option<IpAddr> {
    let (words, []) = digits.as_chunks::<8>() else {
        return None;
    };
    match words {
        [word] => Some(IpAddr::V4(Ipv4Addr::from(hex(word)?.to_ne_bytes()))),
        [_, _, _, _] => {
            let mut octets = [0; 16];
            for (octets, word) in octets.as_chunks_mut().0.iter_mut().zip(words) {
                *octets = hex(word)?.to_ne_bytes();
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

fn split_colon(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    Some((&bytes[..colon], &bytes[colon + 1..]))
}
