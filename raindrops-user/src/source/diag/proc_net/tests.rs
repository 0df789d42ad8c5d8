use std::{fs, net::IpAddr, path::Path};

use super::{Contents, last_line, read, tcp, tcp_listeners, unix, unix_sockets};
use crate::{
    address::{Address, UnixName},
    ids::{Inode, NetnsId},
    snapshot::{ListenSocket, ListenerKey, QueueSource},
};

const NETNS: NetnsId = NetnsId(7);

const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000009 00:00000000 00000000     0        0 1582 1 0000000062ac43f7 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1583 1 0000000062ac43f8 100 0 0 10 5
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000003 00:00000000 00000000     0        0 0 1 0000000062ac43f9 20 0 0 10 -1
";

const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 1584 1 0000000062ac43fa 100 0 0 10 0
";

const UNIX: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path
0000000000000001: 00000002 00000000 00010000 0001 01 100 /run/app one.sock
0000000000000002: 00000002 00000000 00000000 0001 02     0 /run/app one.sock
0000000000000003: 00000002 00000000 00000000 0001 02     0 /run/app one.sock
0000000000000004: 00000003 00000000 00000000 0001 03 101 /run/app one.sock
0000000000000005: 00000003 00000000 00000000 0001 03 102
0000000000000006: 00000002 00000000 00010000 0005 01 103 @\xff@x
0000000000000007: 00000003 00000000 00000000 0005 03 104 @\xff@x
0000000000000008: 00000003 00000000 00000000 0001 03 105 @\xff@x
0000000000000009: 00000002 00000000 00000000 0002 01 106 /run/dgram
000000000000000a: 00000002 00000000 00010000 0001 01 107 /run/replaced
000000000000000b: 00000002 00000000 00010000 0001 01 108 /run/replaced
000000000000000c: 00000003 00000000 00000000 0001 03 109 /run/replaced
";

fn key(inode: u64) -> ListenerKey {
    ListenerKey {
        netns: NETNS,
        inode: Inode(inode),
    }
}

fn socket(address: Address, queued: Option<u32>) -> ListenSocket {
    ListenSocket {
        address,
        cookie: None,
        queued,
        limit: None,
        drops: None,
        bound_path: None,
    }
}

fn tcp(ip: &str, port: u16, queued: u32) -> ListenSocket {
    let ip: IpAddr = ip.parse().unwrap();
    socket(Address::Tcp { ip, port }, Some(queued))
}

fn fake_proc(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let net = root.path().join("thread-self/net");
    fs::create_dir_all(&net).unwrap();
    for (name, bytes) in files {
        fs::write(net.join(name), bytes).unwrap();
    }
    root
}

// The fixtures print addresses as a little-endian host does.
#[cfg(target_endian = "little")]
#[test]
fn reads_tcp_listeners() {
    let root = fake_proc(&[("tcp", TCP.as_bytes()), ("tcp6", TCP6.as_bytes())]);
    let sample = tcp_listeners(root.path(), NETNS).unwrap();
    assert_eq!(sample.source, QueueSource::ProcNet);
    assert!(!sample.interrupted);
    let listeners: Vec<_> = sample.listeners.into_iter().collect();
    assert_eq!(
        listeners,
        [
            (key(1582), tcp("127.0.0.1", 8080, 9)),
            (key(1583), tcp("0.0.0.0", 80, 0)),
            (key(1584), tcp("::1", 8081, 1)),
        ]
    );
}

#[test]
fn does_without_ipv6() {
    let root = fake_proc(&[("tcp", TCP.as_bytes())]);
    assert_eq!(
        tcp_listeners(root.path(), NETNS).unwrap().listeners.len(),
        2
    );
    assert!(tcp_listeners(Path::new("/nowhere"), NETNS).is_err());
}

#[test]
fn reads_unix_listeners_and_counts_by_name_and_kind() {
    let root = fake_proc(&[("unix", UNIX)]);
    let (queues, active) = unix_sockets(root.path(), NETNS).unwrap();
    let path = |path: &[u8]| Address::Unix(UnixName::Path(path.to_vec()));
    let listeners: Vec<_> = queues.listeners.into_iter().collect();
    assert_eq!(
        listeners,
        [
            (key(100), socket(path(b"/run/app one.sock"), Some(2))),
            (
                key(103),
                socket(
                    Address::Unix(UnixName::Abstract(b"\xff@x".to_vec())),
                    Some(0)
                )
            ),
            (key(107), socket(path(b"/run/replaced"), None)),
            (key(108), socket(path(b"/run/replaced"), None)),
        ]
    );
    let active: Vec<_> = active
        .active
        .iter()
        .map(|(key, it)| (*key, it.len()))
        .collect();
    assert_eq!(active, [(key(100), 1), (key(103), 1)]);
}

#[test]
fn stops_reading_after_the_listeners() {
    let line = |number: usize, state: &str| {
        format!(
            "{number:4}: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {} 1 0 100\n",
            1000 + number
        )
    };
    let mut table = String::new();
    for number in 0..600 {
        table.push_str(&line(number, "0A"));
    }
    for number in 600..4000 {
        table.push_str(&line(number, "01"));
    }
    let root = fake_proc(&[("tcp", table.as_bytes())]);
    let file = root.path().join("thread-self/net/tcp");
    let Contents { bytes, cut } = read(&file, usize::MAX, tcp::past_listeners).unwrap();
    assert!(bytes.len() < table.len());
    assert!(!cut);
    assert_eq!(tcp::parse(&bytes).count(), 600);
}

#[test]
fn cuts_a_file_that_is_too_long_at_a_line() {
    let root = fake_proc(&[("unix", b"one\ntwo\nthree\n")]);
    let file = root.path().join("thread-self/net/unix");
    let contents = read(&file, 10, |_| false).unwrap();
    assert_eq!(
        (contents.bytes.as_slice(), contents.cut),
        (&b"one\ntwo\n"[..], true)
    );
    let contents = read(&file, 14, |_| false).unwrap();
    assert_eq!((contents.bytes.len(), contents.cut), (14, false));
}

#[test]
fn finds_the_last_whole_line() {
    assert_eq!(last_line(b"one\ntwo\nthr"), Some(&b"two"[..]));
    assert_eq!(last_line(b"one\n"), Some(&b"one"[..]));
    assert_eq!(last_line(b"one"), None);
}

#[test]
fn survives_any_truncation_and_corruption() {
    for bytes in [TCP.as_bytes(), TCP6.as_bytes(), UNIX] {
        for end in 0..bytes.len() {
            tcp::parse(&bytes[..end]).for_each(drop);
            unix::parse(&bytes[..end], NETNS);
        }
        let mut corrupt = bytes.to_vec();
        for at in 0..bytes.len() {
            for byte in [0, b' ', b'\n', b':', b'@', b'f', 0xff] {
                corrupt[at] = byte;
                tcp::parse(&corrupt).for_each(drop);
                unix::parse(&corrupt, NETNS);
            }
            corrupt[at] = bytes[at];
        }
    }
}
