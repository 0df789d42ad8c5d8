use std::net::{IpAddr, Ipv4Addr};

use super::super::{HEADER, info::tests::INFO, parse_accepted};
use crate::{
    ids::{Cookie, Inode},
    snapshot::connections::{KernelConnection, TcpInfo},
    source::diag::dump::Malformed,
};

/// 127.0.0.1:8080, whose client has closed, as Linux 6.18 on x86-64 sent it to root.
#[rustfmt::skip]
const ACCEPTED: [u8; HEADER + 36] = [
    2,                          // idiag_family: AF_INET
    8,                          // idiag_state: CLOSE_WAIT
    0,                          // idiag_timer
    0,                          // idiag_retrans
    31, 144,                    // idiag_sport: 8080, big-endian
    223, 34,                    // idiag_dport: 57122, big-endian
    127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // idiag_src
    127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // idiag_dst
    0, 0, 0, 0,                 // idiag_if
    149, 3, 0, 0,               // idiag_cookie[0], the low half: 917
    0, 0, 0, 0,                 // idiag_cookie[1], the high half
    0, 0, 0, 0,                 // idiag_expires
    89, 2, 0, 0,                // idiag_rqueue: 601, the FIN is one
    0, 0, 0, 0,                 // idiag_wqueue
    0, 0, 0, 0,                 // idiag_uid
    213, 134, 0, 0,             // idiag_inode: 34517
    5, 0,                       // nla_len
    8, 0,                       // nla_type: INET_DIAG_SHUTDOWN
    1, 0, 0, 0,                 // value, padding
    8, 0,                       // nla_len
    15, 0,                      // nla_type: INET_DIAG_MARK
    0, 0, 0, 0,                 // value
    12, 0,                      // nla_len
    21, 0,                      // nla_type: INET_DIAG_CGROUP_ID, unknown to the crate
    1, 0, 0, 0, 0, 0, 0, 0,     // value
    6, 0,                       // nla_len
    22, 0,                      // nla_type: INET_DIAG_SOCKOPT, unknown to the crate
    82, 0, 0, 0,                // value, padding
];

/// With `tcp_info`, which follows.
fn message() -> Vec<u8> {
    let mut message = ACCEPTED.to_vec();
    message.extend([(4 + INFO.len()) as u8, 0]); // nla_len
    message.extend([2, 0]); // nla_type: INET_DIAG_INFO
    message.extend(INFO);
    message
}

fn connection(info: Option<TcpInfo>) -> KernelConnection {
    KernelConnection {
        cookie: Cookie(917),
        inode: Inode(34517),
        half_closed: true,
        local: (IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
        remote: (IpAddr::V4(Ipv4Addr::LOCALHOST), 57122),
        is_path: false,
        unread_bytes: 600,
        unacked_bytes: 0,
        info,
    }
}

fn bytes_received(message: &[u8]) -> Option<u64> {
    parse_accepted(message).unwrap()?.info?.bytes_received
}

// The fixture holds numbers as a little-endian host does.
#[cfg(target_endian = "little")]
#[test]
fn reads_an_accepted_connection() {
    let read = parse_accepted(&message()).unwrap().unwrap();
    let info = read.info;
    assert_eq!(info.and_then(|info| info.bytes_received), Some(1000));
    assert_eq!(read, connection(info));
    let without = parse_accepted(&ACCEPTED);
    assert_eq!(without, Ok(Some(connection(None))));
    let mut path = message();
    // INET_DIAG_ULP_INFO, nested, with INET_ULP_INFO_NAME.
    path.extend([16, 0, 19, 0x80, 10, 0, 1, 0]);
    path.extend(b"mptcp\0\0\0");
    assert!(parse_accepted(&path).unwrap().unwrap().is_path);
}

#[cfg(target_endian = "little")]
#[test]
fn only_a_fin_is_not_counted() {
    let mut open = message();
    open[1] = 1; // idiag_state: ESTABLISHED
    assert_eq!(bytes_received(&open), Some(1001));
    let read = parse_accepted(&open).unwrap().unwrap();
    assert_eq!((read.unread_bytes, read.half_closed), (601, false));
    let mut all_read = ACCEPTED;
    all_read[56..60].fill(0); // idiag_rqueue: the end has been read, too
    let read = parse_accepted(&all_read).unwrap().unwrap();
    assert_eq!(read.unread_bytes, 0);
}

#[test]
fn leaves_out_what_waits_to_be_accepted_and_refuses_other_states() {
    let mut queued = message();
    queued[68..72].fill(0); // idiag_inode
    assert_eq!(parse_accepted(&queued), Ok(None));
    for state in [0, 2, 10, 77] {
        let mut other = message();
        other[1] = state; // idiag_state
        assert_eq!(parse_accepted(&other), Err(Malformed), "{state}");
    }
}

#[test]
fn survives_any_truncation_and_corruption() {
    let message = message();
    for end in 0..message.len() {
        let _ = parse_accepted(&message[..end]);
    }
    for at in 0..message.len() {
        for byte in 0..=u8::MAX {
            let mut corrupt = message.clone();
            corrupt[at] = byte;
            let _ = parse_accepted(&corrupt);
        }
    }
}
