//! Short connections whose clients read the whole answer before they close.

use std::{
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    thread,
};

use anyhow::{Result, ensure};

use crate::{http, wait::CEILING};

/// Several clients at once, so that more than one worker gets work.
const CLIENTS: usize = 4;

/// `count` connections to a TCP listener, one request each.
pub fn tcp(address: SocketAddr, count: usize) -> Result<()> {
    spread(count, || {
        let mut stream = TcpStream::connect_timeout(&address, CEILING)?;
        stream.set_read_timeout(Some(CEILING))?;
        let answer = http::request(&mut stream, "/")?;
        ensure!(answer.status == 200, "{address} answered {}", answer.status);
        Ok(())
    })
}

/// `count` connections to a unix listener, one request each.
pub fn unix(path: &Path, count: usize) -> Result<()> {
    spread(count, || {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(CEILING))?;
        let answer = http::request(&mut stream, "/")?;
        ensure!(
            answer.status == 200,
            "{} answered {}",
            path.display(),
            answer.status
        );
        Ok(())
    })
}

fn spread(count: usize, connect: impl Fn() -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let share = count / CLIENTS + usize::from(client < count % CLIENTS);
                let connect = &connect;
                scope.spawn(move || (0..share).try_for_each(|_| connect()))
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().expect("a client does not panic"))
    })
}
