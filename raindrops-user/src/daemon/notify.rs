//! Tells the service manager how far the daemon is (`sd_notify`).
//!
//! The protocol is one datagram of text, so there is no library. Where nobody asked to be told,
//! nothing happens.

use std::{
    convert::Infallible,
    env,
    ffi::OsStr,
    future, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};

pub fn ready() {
    tell("READY=1");
}

pub fn stopping() {
    tell("STOPPING=1");
}

/// Tells the manager again and again that the daemon does its work, as long as it does; nothing
/// where nobody asks this process.
pub async fn beat(is_at_work: impl Fn() -> bool) -> Infallible {
    let every = interval(
        env::var("WATCHDOG_USEC").ok().as_deref(),
        env::var("WATCHDOG_PID").ok().as_deref(),
        process::id(),
    );
    let Some(every) = every else {
        return future::pending().await;
    };
    let mut beats = time::interval(every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        if is_at_work() {
            tell("WATCHDOG=1");
        }
    }
}

/// Half of what it waits for, as sd_watchdog_enabled(3) says.
fn interval(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let usec: u64 = usec?.parse().ok()?;
    let is_for_us = pid.is_none_or(|pid| pid.parse() == Ok(own));
    (is_for_us && usec > 0).then(|| Duration::from_micros(usec) / 2)
}

fn tell(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        log::warn!("cannot tell the service manager {state}: {error}");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the daemon.
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixDatagram, time::Duration};

    use super::{interval, send};

    #[test]
    fn the_manager_hears_twice_in_its_time() {
        let table = [
            (Some("30000000"), None, Some(15_000)),
            (Some("30000000"), Some("7"), Some(15_000)),
            (Some("30000000"), Some("8"), None),
            (Some("30000000"), Some("x"), None),
            (Some("0"), Some("7"), None),
            (Some("-1"), None, None),
            (None, Some("7"), None),
        ];
        for (usec, pid, expected) in table {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(interval(usec, pid, 7), expected, "{usec:?}, {pid:?}");
        }
    }

    #[test]
    fn the_manager_gets_one_datagram() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let mut buffer = [0; 32];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
