//! Signals as events.
//!
//! Operators send the daemon what they send to servers, and the default of most signals is to end
//! or stop a process: so every one of those has a handler, also where it was inherited as ignored
//! (`nohup` ignores HUP, a shell's `&` ignores INT and QUIT).
//!
//! PIPE is also raised by the daemon's own writes, to clients that have left. Only one that another
//! process sent is an event.

use std::{io, os::fd::AsRawFd as _, os::unix::net};

use tokio::{
    net::UnixStream,
    signal::unix::{Signal, SignalKind, signal},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Stop at once.
    Stop(&'static str),
    /// Finish answers first.
    Quit,
    /// Read the configuration again.
    Reload,
    /// Open the log again.
    Reopen,
    /// Means nothing here.
    Ignored(&'static str),
}

#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    ttin: Signal,
    ttou: Signal,
    winch: Signal,
    /// Has a byte for each PIPE that another process sent.
    pipe: UnixStream,
}

impl Signals {
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            ttin: signal(SignalKind::from_raw(libc::SIGTTIN))?,
            ttou: signal(SignalKind::from_raw(libc::SIGTTOU))?,
            winch: signal(SignalKind::window_change())?,
            pipe: watch_pipe()?,
        })
    }

    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.next_or_look().await {
                return event;
            }
        }
    }

    async fn next_or_look(&mut self) -> Option<Event> {
        Some(tokio::select! {
            biased;
            _ = self.term.recv() => Event::Stop("TERM"),
            _ = self.int.recv() => Event::Stop("INT"),
            _ = self.quit.recv() => Event::Quit,
            _ = self.hup.recv() => Event::Reload,
            _ = self.usr1.recv() => Event::Reopen,
            _ = self.usr2.recv() => Event::Ignored("USR2"),
            _ = self.ttin.recv() => Event::Ignored("TTIN"),
            _ = self.ttou.recv() => Event::Ignored("TTOU"),
            _ = self.winch.recv() => Event::Ignored("WINCH"),
            Ok(()) = self.pipe.readable() => {
                let mut notes = [0; 64];
                return self.pipe
                    .try_read(&mut notes)
                    .is_ok_and(|read| read > 0)
                    .then_some(Event::Ignored("PIPE"));
            }
        })
    }
}

fn watch_pipe() -> io::Result<UnixStream> {
    let (seen, noted) = net::UnixStream::pair()?;
    seen.set_nonblocking(true)?;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let note = move |info: &libc::siginfo_t| {
        // SAFETY: PIPE comes from `kill` or a failed write, and carries a pid in both cases.
        if unsafe { info.si_pid() } != own {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: one byte of a constant; the socket lives as long as this closure.
            unsafe { libc::send(noted.as_raw_fd(), [1u8].as_ptr().cast(), 1, flags) };
        }
    };
    // SAFETY: `send` may be called by a handler; what it does to errno is undone by the registry.
    unsafe { signal_hook_registry::register_sigaction(libc::SIGPIPE, note) }?;
    UnixStream::from_std(seen)
}
