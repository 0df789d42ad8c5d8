use std::collections::BTreeMap;

use super::{Tally, UnixSocket, UnixState, parse};
use crate::{
    address::{Address, UnixName},
    ids::{Cookie, Inode, NetnsId},
    snapshot::{ListenSocket, ListenerKey},
    source::diag::dump::Malformed,
};

const NETNS: NetnsId = NetnsId(7);

/// A stream listener on `/tmp/a.sock` with a backlog of 8, as Linux 6.18 on x86-64 sent it.
#[rustfmt::skip]
const LISTENER: [u8; 64] = [
    1,                          // udiag_family: AF_UNIX
    1,                          // udiag_type: SOCK_STREAM
    10,                         // udiag_state: LISTEN
    0,                          // pad
    117, 231, 0, 0,             // udiag_ino: 59253
    10, 16, 0, 0,               // udiag_cookie[0], the low half: 4106
    0, 0, 0, 0,                 // udiag_cookie[1], the high half
    16, 0,                      // nla_len
    0, 0,                       // nla_type: UNIX_DIAG_NAME
    b'/', b't', b'm', b'p', b'/', b'a', b'.', b's', b'o', b'c', b'k', 0, // sun_path with its NUL
    12, 0,                      // nla_len
    1, 0,                       // nla_type: UNIX_DIAG_VFS
    216, 194, 152, 0,           // udiag_vfs_ino: 10011352
    0, 0, 224, 15,              // udiag_vfs_dev: 254:0
    12, 0,                      // nla_len
    4, 0,                       // nla_type: UNIX_DIAG_RQLEN
    3, 0, 0, 0,                 // udiag_rqueue: queued
    8, 0, 0, 0,                 // udiag_wqueue: limit
    5, 0,                       // nla_len
    6, 0,                       // nla_type: UNIX_DIAG_SHUTDOWN
    0, 0, 0, 0,                 // value, padding
];

/// Where the last attribute begins.
const SHUTDOWN: usize = 56;

fn listening(inode: u32, name: &[u8], bound_path: Option<(u32, u32)>) -> UnixSocket<'_> {
    UnixSocket {
        kind: 1,
        state: UnixState::Listen,
        inode,
        cookie: Cookie(inode.into()),
        name,
        bound_path,
        queue: Some((1, 8)),
    }
}

fn connected(inode: u32, name: &[u8], bound_path: Option<(u32, u32)>) -> UnixSocket<'_> {
    UnixSocket {
        state: UnixState::Established,
        queue: Some((0, 0)),
        ..listening(inode, name, bound_path)
    }
}

// The fixture holds numbers as a little-endian host does.
#[cfg(target_endian = "little")]
#[test]
fn reads_a_listener() {
    let expected = UnixSocket {
        kind: 1,
        state: UnixState::Listen,
        inode: 59253,
        cookie: Cookie(4106),
        name: b"/tmp/a.sock\0",
        bound_path: Some((254 << 20, 10_011_352)),
        queue: Some((3, 8)),
    };
    assert_eq!(parse(&LISTENER), Ok(Some(expected)));
}

#[test]
fn keeps_names_that_are_not_utf8() {
    let mut message = LISTENER;
    message[20..32].copy_from_slice(b"\0\xff\xfeab\0cdefgh");
    let mut tally = Tally::default();
    tally.add(parse(&message).unwrap().unwrap());
    let (listeners, _) = tally.finish(NETNS);
    let addresses: Vec<_> = listeners
        .into_values()
        .map(|socket| socket.address)
        .collect();
    let name = UnixName::Abstract(b"\xff\xfeab\0cdefgh".to_vec());
    assert_eq!(addresses, [Address::Unix(name)]);
}

#[test]
fn leaves_out_datagram_sockets() {
    let mut message = LISTENER;
    message[1] = 2; // udiag_type: SOCK_DGRAM
    assert_eq!(parse(&message), Ok(None));
}

#[test]
fn refuses_what_it_does_not_know() {
    let mut unknown_state = LISTENER;
    unknown_state[2] = 7;
    assert_eq!(parse(&unknown_state), Err(Malformed));
    let mut long_attribute = LISTENER;
    long_attribute[SHUTDOWN] = 12;
    assert_eq!(parse(&long_attribute), Err(Malformed));
    assert_eq!(parse(&LISTENER[..15]), Err(Malformed));
}

#[test]
fn counts_accepted_sockets_by_name_path_and_kind() {
    let replaced = Some((1, 10));
    let current = Some((1, 11));
    let mut tally = Tally::default();
    // Sockets come in any order.
    for inode in 20..23 {
        tally.add(connected(inode, b"/a.sock\0", current));
    }
    tally.add(listening(1, b"/a.sock\0", replaced));
    tally.add(listening(2, b"/a.sock\0", current));
    tally.add(listening(3, b"\0name", None));
    tally.add(connected(30, b"/a.sock\0", replaced));
    tally.add(connected(31, b"\0name", None));
    // Queued, without a name, of another kind, of nobody here.
    tally.add(connected(0, b"/a.sock\0", current));
    tally.add(connected(40, b"", None));
    tally.add(UnixSocket {
        kind: 5,
        ..connected(41, b"\0name", None)
    });
    tally.add(connected(42, b"\0name2", None));
    // A listener that is being closed.
    tally.add(listening(0, b"/closed\0", None));
    let (listeners, active) = tally.finish(NETNS);

    let key = |inode| ListenerKey {
        netns: NETNS,
        inode: Inode(inode),
    };
    let socket = |cookie, name: &[u8], bound_path| ListenSocket {
        address: Address::Unix(UnixName::from_sun_path(name)),
        cookie: Some(Cookie(cookie)),
        queued: Some(1),
        limit: Some(8),
        drops: None,
        bound_path,
    };
    let expected = BTreeMap::from([
        (key(1), socket(1, b"/a.sock", replaced)),
        (key(2), socket(2, b"/a.sock", current)),
        (key(3), socket(3, b"\0name", None)),
    ]);
    assert_eq!(listeners, expected);
    let accepted = |inodes: &[u64]| inodes.iter().copied().map(Inode).collect();
    let expected = BTreeMap::from([
        (key(1), accepted(&[30])),
        (key(2), accepted(&[20, 21, 22])),
        (key(3), accepted(&[31])),
    ]);
    assert_eq!(active, expected);
}

#[test]
fn survives_any_truncation_and_corruption() {
    for end in 0..LISTENER.len() {
        let _ = parse(&LISTENER[..end]);
    }
    for at in 0..LISTENER.len() {
        for byte in 0..=u8::MAX {
            let mut corrupt = LISTENER;
            corrupt[at] = byte;
            let _ = parse(&corrupt);
        }
    }
}
