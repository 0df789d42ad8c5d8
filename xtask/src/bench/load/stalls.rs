//! Servers that stop accepting for a moment.
//!
//! Each stall is on a listener of its own, TCP and unix at the same time, so that afterwards each
//! listener's peak tells what was seen of its stall, and no peak has to be forgotten in between.

use std::{
    io,
    mem::MaybeUninit,
    net::Ipv4Addr,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    obey, ports, say,
    sockets::{accept, connection, listener},
};

/// How long nothing is accepted.
pub const STALL: Duration = Duration::from_millis(120);
/// From one stall's beginning to the next one's.
pub const EVERY: Duration = Duration::from_millis(1300);
/// Added anew for each stall, modulo [`WALK`]: 1.3 s is a multiple of the sampling intervals, and
/// all stalls would meet the samples in the same phase.
const STEP: Duration = Duration::from_millis(37);
const WALK: Duration = Duration::from_millis(100);
/// Connections that come in during a stall, evenly.
pub const ARRIVALS: u32 = 24;

#[derive(Debug, clap::Args)]
pub struct Stalls {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    stalls: u16,
    /// Where the unix sockets are made, as N.sock
    #[arg(long)]
    directory: PathBuf,
}

impl Stalls {
    /// A line is the number of a stall, from 0; the answer is the number of connections that were
    /// queued at its end, TCP and unix.
    pub fn run(&self) -> Result<()> {
        let tcp: Vec<(u16, OwnedFd)> = ports(self.port, self.stalls)?
            .map(|port| Ok((port, listener(port, 1024)?)))
            .collect::<Result<_>>()?;
        let unix: Vec<(PathBuf, UnixListener)> = (0..self.stalls)
            .map(|stall| {
                let path = self.directory.join(format!("{stall}.sock"));
                let listener = UnixListener::bind(&path)
                    .with_context(|| format!("listening on {}", path.display()))?;
                listener.set_nonblocking(true)?;
                Ok((path, listener))
            })
            .collect::<Result<_>>()?;
        say("READY")?;
        let mut first = None;
        obey(|stall| {
            let began = *first.get_or_insert_with(Instant::now);
            let phase = STEP.as_millis() * u128::from(stall) % WALK.as_millis();
            let at = began + EVERY * (stall + 1) + Duration::from_millis(u64::try_from(phase)?);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let tcp = tcp.get(stall as usize).context("no such stall")?;
            let unix = unix.get(stall as usize).context("no such stall")?;
            let (tcp, unix) = one(tcp, unix)?;
            Ok(format!("{tcp} {unix}"))
        })
    }
}

/// One stall. The kernel's own figure must agree where it has one.
fn one(tcp: &(u16, OwnedFd), unix: &(PathBuf, UnixListener)) -> Result<(u32, u32)> {
    let began = Instant::now();
    let mut clients: Vec<OwnedFd> = Vec::new();
    for arrival in 0..ARRIVALS {
        clients.push(connection(Ipv4Addr::new(127, 3, 0, 1), tcp.0)?);
        clients.push(UnixStream::connect(&unix.0)?.into());
        let next = began + STALL * (arrival + 1) / ARRIVALS;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let queued = queued(&tcp.1)?;
    ensure!(
        queued == ARRIVALS,
        "{ARRIVALS} connections were made and {queued} are queued"
    );
    let tcp = drain(|| accept(&tcp.1))?;
    let unix = drain(|| match unix.1.accept() {
        Ok((connection, _)) => Ok(Some(connection.into())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    Ok((tcp, unix))
}

fn drain(mut accept: impl FnMut() -> Result<Option<OwnedFd>>) -> Result<u32> {
    let mut accepted = 0;
    while accept()?.is_some() {
        accepted += 1;
    }
    Ok(accepted)
}

/// `sk_ack_backlog`, which TCP_INFO of a listener has as `tcpi_unacked`.
fn queued(listener: &OwnedFd) -> Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of a `tcp_info`, which is plain data and
    // valid when zero.
    let (result, info) = unsafe {
        let result = libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (result, info.assume_init())
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).context("asking for TCP_INFO");
    }
    Ok(info.tcpi_unacked)
}
