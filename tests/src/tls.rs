//! A client that speaks TLS: `openssl s_client`, with our ends of its standard streams.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    client::Client,
    wait::{self, CEILING},
};

/// How a client takes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Its last record says that there will be no more (close_notify).
    Announced,
    /// It is killed.
    Sudden,
}

/// What is written is sent through TLS; ends as it was told to when dropped.
#[derive(Debug)]
struct Tunnel {
    child: Child,
    stream: UnixStream,
    leave: Leave,
}

/// Connects, of which the handshake is a part that need not be over. `version` is an option of
/// s_client.
pub fn connect(address: &str, version: &str, leave: Leave) -> Result<Client> {
    let (stream, theirs) = UnixStream::pair()?;
    stream.set_read_timeout(Some(CEILING))?;
    let child = Command::new("openssl")
        .args(["s_client", "-quiet", "-no_ign_eof", version])
        .args(["-connect", address])
        .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .context("starting openssl s_client")?;
    Ok(Client::over(Tunnel {
        child,
        stream,
        leave,
    }))
}

impl Read for Tunnel {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for Tunnel {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if self.leave == Leave::Announced && self.stream.shutdown(Shutdown::Write).is_ok() {
            let _ = wait::until("the end of s_client", || Ok(self.child.try_wait()?));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
