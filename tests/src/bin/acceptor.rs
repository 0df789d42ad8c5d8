//! A worker that does what it is told: the listener is its standard input, and its orders come by
//! the unix socket that is its standard output, one byte each. It answers each with four bytes
//! (u32, native endian): 0, or a pid.

use std::{
    fs::File,
    io::{self, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process, thread,
};

use rustix::{
    fs::Uid,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, acceptfrom, recvmsg},
    thread::set_thread_res_uid,
};

fn main() -> io::Result<()> {
    // SAFETY: nothing else in this process owns standard input.
    let mut listener = Some(unsafe { OwnedFd::from_raw_fd(0) });
    let mut orders = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut held: Vec<File> = Vec::new();
    loop {
        let Some((order, descriptor)) = receive(&orders)? else {
            return Ok(());
        };
        held.extend(descriptor.map(File::from));
        let mut answer = 0u32;
        match order {
            b'a' => {
                let listener = listener.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                held.push(File::from(acceptfrom(listener)?.0));
            }
            b'r' => {
                let connection = held.last_mut().ok_or(io::ErrorKind::NotConnected)?;
                connection.read_exact(&mut [0])?;
            }
            b'c' => drop(held.pop()),
            b'l' => drop(listener.take()),
            b'f' => answer = fork_holding(&mut held)?,
            b'v' => {
                wait_for_child(&mut listener, &mut orders)?;
                continue;
            }
            b'u' => {
                let nobody = Uid::from_raw(65534);
                set_thread_res_uid(nobody, nobody, nobody)?;
            }
            // What it was sent is held.
            b'h' => {}
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        orders.write_all(&answer.to_ne_bytes())?;
    }
}

/// An order, and the descriptor that came with it; `None` when there will be no more.
fn receive(orders: &UnixStream) -> io::Result<Option<(u8, Option<OwnedFd>)>> {
    let mut order = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        orders,
        &mut [IoSliceMut::new(&mut order)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut it| it.next());
    Ok(Some((order[0], descriptor)))
}

/// The child keeps the last connection and does nothing more; the parent lets it go.
fn fork_holding(held: &mut Vec<File>) -> io::Result<u32> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => loop {
            thread::park();
        },
        child if child < 0 => Err(io::Error::last_os_error()),
        child => {
            drop(held.pop());
            Ok(child.cast_unsigned())
        }
    }
}

/// Makes a child as vfork(2) does, but for the memory, which it does not share. The kernel lets
/// nothing interrupt the parent until the child has ended. The child, which lets the listener go,
/// answers.
fn wait_for_child(listener: &mut Option<OwnedFd>, orders: &mut UnixStream) -> io::Result<()> {
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: without a stack and CLONE_VM it is a fork, and this process has one thread.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        0 => {
            drop(listener.take());
            orders.write_all(&process::id().to_ne_bytes())?;
            loop {
                thread::park();
            }
        }
        child if child < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
