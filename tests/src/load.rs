//! Short connections whose clients read the whole answer before they close.

use std::{
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, ensure};

use crate::{
    client::{self, Address},
    http,
    wait::CEILING,
};

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

/// Runs `body` while each of these listeners has `clients` that ask for `path` again and again, over
/// a connection for each request, none of which may fail.
pub fn during<T>(
    listeners: &[Address],
    clients: usize,
    path: &str,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let is_over = AtomicBool::new(false);
    let again_and_again = |listener: &Address| {
        while !is_over.load(Ordering::Relaxed) {
            client::short(listener, path)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        // Also when the body panics.
        let ends = EndsWhenDropped(&is_over);
        let all = listeners.iter().flat_map(|it| vec![it; clients]);
        let clients: Vec<_> = all
            .map(|listener| scope.spawn(move || again_and_again(listener)))
            .collect();
        let outcome = body();
        drop(ends);
        let asked: Result<()> = clients
            .into_iter()
            .try_for_each(|client| client.join().expect("a client does not panic"));
        let outcome = outcome?;
        asked?;
        Ok(outcome)
    })
}

struct EndsWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
