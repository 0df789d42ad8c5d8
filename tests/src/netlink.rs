//! What `ss -K` does: the kernel is asked to end a connection that others have.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketType, netlink::SOCK_DIAG, recv, send, socket,
    },
};

/// `SOCK_DESTROY`, as a request that is to be acknowledged.
const DESTROY: [u8; 2] = 21u16.to_ne_bytes();
const REQUEST_AND_ACK: [u8; 2] = 5u16.to_ne_bytes();
const LENGTH: u32 = 16 + 56;
const HEADER: usize = 16;

/// Ends the connection with these ends; false where this kernel cannot (INET_DIAG_DESTROY).
pub fn destroy(local: SocketAddr, remote: SocketAddr) -> Result<bool> {
    let mut request = Vec::with_capacity(LENGTH as usize);
    request.extend(LENGTH.to_ne_bytes());
    request.extend(DESTROY);
    request.extend(REQUEST_AND_ACK);
    request.extend([0; 8]);
    let family = if local.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then both ends.
    request.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    request.extend(octets(local.ip()));
    request.extend(octets(remote.ip()));
    // Any interface, any cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);

    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, Some(SOCK_DIAG))?;
    send(&netlink, &request, SendFlags::empty()).context("asking for SOCK_DESTROY")?;
    let mut answer = [0u8; 256];
    let (length, _) = recv(&netlink, &mut answer, RecvFlags::empty())?;
    ensure!(length >= HEADER + 4, "an answer of {length} bytes");
    let code = i32::from_ne_bytes([
        answer[HEADER],
        answer[HEADER + 1],
        answer[HEADER + 2],
        answer[HEADER + 3],
    ]);
    if code == 0 {
        return Ok(true);
    }
    match Errno::from_raw_os_error(-code) {
        Errno::OPNOTSUPP => Ok(false),
        error => Err(error).context("SOCK_DESTROY"),
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}
