//! A process that accepts, holds and lets go as it is told.

use std::{
    env,
    io::{IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::wait::CEILING;

/// Killed when dropped.
#[derive(Debug)]
pub struct Acceptor {
    child: Child,
    orders: UnixStream,
}

impl Acceptor {
    /// Starts one that has this listener.
    pub fn start(listener: impl AsFd) -> Result<Self> {
        let (orders, theirs) = UnixStream::pair()?;
        orders.set_read_timeout(Some(CEILING))?;
        let child = Command::new(program()?)
            .stdin(listener.as_fd().try_clone_to_owned()?)
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .context("starting an acceptor")?;
        Ok(Self { child, orders })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn accept(&mut self) -> Result<()> {
        self.order(b'a').map(drop)
    }

    /// Has it run as nobody.
    pub fn become_nobody(&mut self) -> Result<()> {
        self.order(b'u').map(drop)
    }

    /// Reads a byte of what was accepted last, and answers nothing.
    pub fn begin_turn(&mut self) -> Result<()> {
        self.order(b'r').map(drop)
    }

    /// Lets go of the connection that came last.
    pub fn close_last(&mut self) -> Result<()> {
        self.order(b'c').map(drop)
    }

    pub fn close_listener(&mut self) -> Result<()> {
        self.order(b'l').map(drop)
    }

    /// Forks a child that has the last connection from now on; its pid. It goes with `kill`.
    pub fn fork_holding(&mut self) -> Result<u32> {
        self.order(b'f')
    }

    /// Has it wait in the kernel, where nothing can interrupt it, until a child has ended: the
    /// child's pid, which holds no listener and has to be killed.
    pub fn wait_for_child(&mut self) -> Result<u32> {
        self.order(b'v')
    }

    /// Sends it a descriptor to hold.
    pub fn hold(&mut self, descriptor: impl AsFd) -> Result<()> {
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            &self.orders,
            &[IoSlice::new(b"h")],
            &mut control,
            SendFlags::empty(),
        )
        .context("sending a descriptor")?;
        self.answer().map(drop)
    }

    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn order(&mut self, order: u8) -> Result<u32> {
        self.orders.write_all(&[order])?;
        self.answer()
    }

    fn answer(&mut self) -> Result<u32> {
        let mut answer = [0; 4];
        self.orders
            .read_exact(&mut answer)
            .context("an acceptor's answer")?;
        Ok(u32::from_ne_bytes(answer))
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program: next to the running test, or where cargo puts it.
fn program() -> Result<PathBuf> {
    let test = env::current_exe()?;
    let directories = test.ancestors().skip(1).take(2);
    directories
        .map(|directory| directory.join("acceptor"))
        .find(|program| program.is_file())
        .with_context(|| format!("no acceptor near {}", test.display()))
}
