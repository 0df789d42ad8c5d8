//! A terminal for one program: a real pty, and what its output has made of the screen.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{daemon, wait};

/// Columns and rows.
pub type Size = (u16, u16);

/// A program on a terminal of its own; killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    /// Keeps the terminal's modes, which end with its last descriptor.
    slave: OwnedFd,
    screen: Arc<Mutex<Screen>>,
}

struct Screen(vt100::Parser);

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Terminal {
    /// Starts `raindrops ARGUMENTS`. More rows are kept than the program is told of where its output
    /// is looked at as a whole.
    pub fn start<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
        (columns, rows): Size,
        kept_rows: u16,
    ) -> Result<Self> {
        let binary = daemon::binary().context("raindrops is not built")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("opening a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(name.as_c_str(), flags, Mode::empty())?;
        tcsetwinsize(&master, size(columns, rows))?;
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave.try_clone()?));
        // SAFETY: both are single system calls.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                ioctl_tiocsctty(io::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().context("starting raindrops")?;
        let parser = vt100::Parser::new(kept_rows, columns, 0);
        let screen = Arc::new(Mutex::new(Screen(parser)));
        let master = File::from(master);
        let (mut output, read) = (master.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 1 << 14];
            // Ends with the terminal.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&read).0.process(&bytes[..count]);
            }
        });
        Ok(Self {
            child,
            master,
            slave,
            screen,
        })
    }

    /// `raindrops top` on a daemon's socket.
    pub fn top(socket: &Path, size: Size) -> Result<Self> {
        let arguments = [
            OsStr::new("top"),
            OsStr::new("--socket"),
            socket.as_os_str(),
        ];
        Self::start(arguments, &[], size, size.1)
    }

    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("typing")
    }

    pub fn resize(&self, (columns, rows): Size) -> Result<()> {
        lock(&self.screen).0.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.master, size(columns, rows)).context("resizing the terminal")
    }

    /// What is on it, without blanks at the ends of lines.
    #[must_use]
    pub fn text(&self) -> String {
        let screen = lock(&self.screen);
        let screen = screen.0.screen();
        let rows = screen.rows(0, screen.size().1);
        rows.map(|row| format!("{}\n", row.trim_end())).collect()
    }

    /// Waits until it shows what is wanted, and gives that.
    pub fn until(&self, what: &str, shows: impl Fn(&str) -> bool) -> Result<String> {
        let shown = wait::until(what, || Ok(Some(self.text()).filter(|it| shows(it))));
        shown.with_context(|| format!("the screen is\n{}", self.text()))
    }

    pub fn until_it_has(&self, text: &str) -> Result<String> {
        self.until(text, |it| it.contains(text))
    }

    /// Any colour or emphasis.
    #[must_use]
    pub fn is_painted(&self) -> bool {
        let screen = lock(&self.screen);
        let screen = screen.0.screen();
        let (rows, columns) = screen.size();
        let mut places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.any(|(row, column)| {
            screen.cell(row, column).is_some_and(|cell| {
                let is_plain = cell.fgcolor() == vt100::Color::Default
                    && cell.bgcolor() == vt100::Color::Default;
                !is_plain || cell.bold() || cell.inverse() || cell.dim()
            })
        })
    }

    /// Whether a program has it for itself: another screen, no cursor, each key at once.
    pub fn is_taken(&self) -> Result<[bool; 3]> {
        let modes = tcgetattr(&self.slave)?.local_modes;
        let is_cooked = modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        let screen = lock(&self.screen);
        let screen = screen.0.screen();
        Ok([screen.alternate_screen(), screen.hide_cursor(), !is_cooked])
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("pid 0")?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?}"))
    }

    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        wait::until("raindrops to end", || Ok(self.child.try_wait()?))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
