mod accepted;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HEADER, TcpConnection, TcpState, cookie, parse_connection, parse_listener};
use crate::{
    address::Address,
    ids::{Cookie, Inode, NetnsId},
    snapshot::ListenSocket,
    source::diag::dump::Malformed,
};

const NETNS: NetnsId = NetnsId(7);

/// 127.0.0.1:37617 with a backlog of 1, overflowing, as Linux 6.18 on x86-64 sent it.
#[rustfmt::skip]
const LISTENER: [u8; 148] = [
    2,                          // idiag_family: AF_INET
    10,                         // idiag_state: LISTEN
    0,                          // idiag_timer
    0,                          // idiag_retrans
    146, 241,                   // idiag_sport: 37617, big-endian
    0, 0,                       // idiag_dport
    127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // idiag_src
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // idiag_dst
    0, 0, 0, 0,                 // idiag_if
    3, 16, 0, 0,                // idiag_cookie[0], the low half: 4099
    0, 0, 0, 0,                 // idiag_cookie[1], the high half
    0, 0, 0, 0,                 // idiag_expires
    2, 0, 0, 0,                 // idiag_rqueue: queued
    1, 0, 0, 0,                 // idiag_wqueue: limit
    0, 0, 0, 0,                 // idiag_uid
    100, 231, 0, 0,             // idiag_inode: 59236
    5, 0,                       // nla_len
    8, 0,                       // nla_type: INET_DIAG_SHUTDOWN
    0, 0, 0, 0,                 // value, padding
    8, 0,                       // nla_len
    15, 0,                      // nla_type: INET_DIAG_MARK
    0, 0, 0, 0,                 // value
    12, 0,                      // nla_len
    21, 0,                      // nla_type: INET_DIAG_CGROUP_ID, unknown to the crate
    1, 0, 0, 0, 0, 0, 0, 0,     // value
    6, 0,                       // nla_len
    22, 0,                      // nla_type: INET_DIAG_SOCKOPT, unknown to the crate
    82, 0, 0, 0,                // value, padding
    40, 0,                      // nla_len
    7, 0,                       // nla_type: INET_DIAG_SKMEMINFO
    0, 0, 0, 0,                 // SK_MEMINFO_RMEM_ALLOC
    0, 0, 2, 0,                 // SK_MEMINFO_RCVBUF
    0, 0, 0, 0,                 // SK_MEMINFO_WMEM_ALLOC
    0, 64, 0, 0,                // SK_MEMINFO_SNDBUF
    0, 0, 0, 0,                 // SK_MEMINFO_FWD_ALLOC
    0, 0, 0, 0,                 // SK_MEMINFO_WMEM_QUEUED
    0, 0, 0, 0,                 // SK_MEMINFO_OPTMEM
    0, 0, 0, 0,                 // SK_MEMINFO_BACKLOG
    4, 0, 0, 0,                 // SK_MEMINFO_DROPS
];

/// Where the attributes begin, and the last of them.
const ATTRIBUTES: usize = 72;
const SKMEMINFO: usize = 108;

fn listener(drops: Option<u32>) -> ListenSocket {
    ListenSocket {
        address: Address::Tcp {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 37617,
        },
        cookie: Some(Cookie(4099)),
        queued: Some(2),
        limit: Some(1),
        drops,
        bound_path: None,
    }
}

// The fixture holds numbers as a little-endian host does.
#[cfg(target_endian = "little")]
#[test]
fn reads_a_listener() {
    let expected = Some((Inode(59236), listener(Some(4))));
    assert_eq!(parse_listener(&LISTENER), Ok(expected));
}

#[cfg(target_endian = "little")]
#[test]
fn drops_of_an_older_kernel_are_unknown() {
    let expected = Some((Inode(59236), listener(None)));
    assert_eq!(
        parse_listener(&LISTENER[..ATTRIBUTES]),
        Ok(expected.clone())
    );
    // Before 4.7 the attribute ended with SK_MEMINFO_BACKLOG.
    let mut short = LISTENER[..144].to_vec();
    short[SKMEMINFO] = 36;
    assert_eq!(parse_listener(&short), Ok(expected));
}

#[test]
fn leaves_out_a_listener_that_is_being_closed() {
    let mut closing = LISTENER;
    closing[68..72].fill(0);
    assert_eq!(parse_listener(&closing), Ok(None));
}

#[cfg(target_endian = "little")]
#[test]
fn reads_a_connection() {
    let mut message = LISTENER[..ATTRIBUTES].to_vec();
    message[0] = 10; // idiag_family: AF_INET6
    message[1] = 1; // idiag_state: ESTABLISHED
    message[6..8].copy_from_slice(&40_001_u16.to_be_bytes()); // idiag_dport
    message[8..24].copy_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets()); // idiag_src
    message[24..40].copy_from_slice(&Ipv6Addr::LOCALHOST.octets()); // idiag_dst
    let mut expected = TcpConnection {
        netns: NETNS,
        cookie: Cookie(4099),
        inode: Some(Inode(59236)),
        state: TcpState::Established,
        local: (
            IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1)),
            37617,
        ),
        remote: (IpAddr::V6(Ipv6Addr::LOCALHOST), 40_001),
        is_path: false,
    };
    assert_eq!(parse_connection(&message, NETNS), Ok(expected));
    let mut path = message.to_vec();
    path.truncate(HEADER);
    // INET_DIAG_ULP_INFO, nested, with INET_ULP_INFO_NAME.
    path.extend([16, 0, 19, 0x80, 10, 0, 1, 0]);
    path.extend(b"mptcp\0\0\0");
    let is_path = parse_connection(&path, NETNS).map(|connection| connection.is_path);
    assert_eq!(is_path, Ok(true));
    message[68..72].fill(0); // idiag_inode
    message[1] = 8; // idiag_state: CLOSE_WAIT
    expected.inode = None;
    expected.state = TcpState::CloseWait;
    assert_eq!(parse_connection(&message, NETNS), Ok(expected));
}

#[test]
fn joins_the_halves_of_a_cookie() {
    let halves = [0x11_u32.to_ne_bytes(), 0x2_u32.to_ne_bytes()];
    assert_eq!(
        cookie(*halves.as_flattened().as_array().unwrap()),
        Cookie(0x2_0000_0011)
    );
}

#[test]
fn refuses_what_it_does_not_know() {
    let mut unknown_state = LISTENER;
    unknown_state[1] = 77;
    assert_eq!(parse_connection(&unknown_state, NETNS), Err(Malformed));
    assert_eq!(parse_listener(&unknown_state), Err(Malformed));
    let mut unknown_family = LISTENER;
    unknown_family[0] = 1;
    assert_eq!(parse_listener(&unknown_family), Err(Malformed));
    let mut long_attribute = LISTENER;
    long_attribute[SKMEMINFO] = 44;
    assert_eq!(parse_listener(&long_attribute), Err(Malformed));
}

#[test]
fn survives_any_truncation_and_corruption() {
    for end in 0..LISTENER.len() {
        let _ = parse_listener(&LISTENER[..end]);
        let _ = parse_connection(&LISTENER[..end], NETNS);
    }
    for at in 0..LISTENER.len() {
        for byte in 0..=u8::MAX {
            let mut corrupt = LISTENER;
            corrupt[at] = byte;
            let _ = parse_listener(&corrupt);
            let _ = parse_connection(&corrupt, NETNS);
        }
    }
}
