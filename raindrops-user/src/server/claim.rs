//! The socket's file: made by at most one daemon, for those who may use it, and removed by the one
//! that made it.
//!
//! Two facts tell whether somebody else has the path. A lock on `PATH.lock`, held as long as the
//! daemon lives, excludes two daemons that start at the same moment; the kernel drops it with the
//! process, so a file left over by a killed daemon means nothing. And a connect tells a stale
//! socket file (nobody listens) from a live one, whoever owns it.
//!
//! The socket is bound to its final name, not to a temporary one that is then renamed: the kernel
//! would report the temporary name as the listener's address for ever. Nobody can connect before
//! `listen()`, and the file has its mode before that.

use std::{
    fmt, fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Gid, Mode, chownat},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
        sockopt::socket_peercred,
    },
    process::geteuid,
};
use thiserror::Error;

/// Readable and writable for the owner and the group.
const SOCKET_MODE: u32 = 0o660;
/// Whose members may ask a daemon of root's.
const GROUP: &str = "raindrops";
const GROUPS: &str = "/etc/group";
const DIRECTORY_MODE: u32 = 0o755;
/// The kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 1024;

#[derive(Debug, Error)]
pub enum ClaimError {
    #[error("{}: {owner} already serves this socket; stop it, or pass --socket PATH", path.display())]
    Live { path: PathBuf, owner: Owner },
    #[error("{}: {owner} is starting or running on this socket; stop it, or pass --socket PATH", path.display())]
    Locked { path: PathBuf, owner: Owner },
    #[error("{}: there is {what}, which is left alone; move it away, or pass --socket PATH", path.display())]
    NotASocket { path: PathBuf, what: &'static str },
    #[error("{}: this path is too long for a socket (107 bytes at most); pass --socket PATH", path.display())]
    TooLong { path: PathBuf },
    #[error("{}: cannot {operation}: {error}; check that directory, or pass --socket PATH", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

/// Who has a socket, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(Option<(u32, String)>);

impl Owner {
    fn of(pid: Option<u32>) -> Self {
        Self(pid.map(|pid| {
            let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, crate::escape::escaped(comm.trim_ascii_end()))
        }))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, comm)) if comm.is_empty() => write!(f, "process {pid}"),
            Some((pid, comm)) => write!(f, "process {pid} ({comm})"),
            None => f.write_str("another process"),
        }
    }
}

/// What is at a path that a client or a daemon wants.
#[derive(Debug)]
pub enum Found {
    Nothing,
    /// A socket file that nobody listens on.
    Stale,
    Live(Owner),
}

/// A path that is ours. Dropping it gives the path up.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    lock_path: PathBuf,
    /// Device and inode of the socket file.
    identity: (u64, u64),
    /// Declared last, so that the lock is held until the files are gone.
    _lock: fs::File,
}

impl Claim {
    /// Takes the path and listens on it, or says who has it. Clients that connect from now on wait
    /// in the queue.
    pub fn take(path: &Path) -> Result<(Self, UnixListener), ClaimError> {
        let address = address(path)?;
        make_directory(path)?;
        let lock_path = lock_path(path);
        let lock = lock(path, &lock_path)?;
        match claim_locked(path, &address) {
            Ok((listener, identity)) => {
                let claim = Self {
                    path: path.to_owned(),
                    lock_path,
                    identity,
                    _lock: lock,
                };
                Ok((claim, listener))
            }
            Err(error) => {
                let _ = fs::remove_file(&lock_path);
                Err(error)
            }
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        match identity(&self.path) {
            Ok(found) if found == self.identity => {
                if let Err(error) = fs::remove_file(&self.path) {
                    log::warn!("{}: cannot remove the socket: {error}", self.path.display());
                }
            }
            Ok(_) => log::warn!("{}: somebody replaced the socket", self.path.display()),
            Err(_) => log::warn!("{}: somebody removed the socket", self.path.display()),
        }
        // Under the lock, so whoever locked this file in between finds that it is gone.
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn claim_locked(
    path: &Path,
    address: &SocketAddrUnix,
) -> Result<(UnixListener, (u64, u64)), ClaimError> {
    match probe(path)? {
        Found::Nothing => {}
        Found::Stale => {
            log::info!("{}: replacing a stale socket file", path.display());
            fs::remove_file(path).map_err(io_error("remove the stale socket file", path))?;
        }
        Found::Live(owner) => {
            let path = path.to_owned();
            return Err(ClaimError::Live { path, owner });
        }
    }
    let socket = make_socket(path, address)?;
    let identity = identity(path).map_err(io_error("read the socket's file", path))?;
    Ok((UnixListener::from(socket), identity))
}

/// Looks without touching: never removes anything, and leaves at once.
pub fn probe(path: &Path) -> Result<Found, ClaimError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(io_error("look at it", path)(error)),
    };
    if !kind.is_socket() {
        let what = match () {
            () if kind.is_symlink() => "a symbolic link",
            () if kind.is_dir() => "a directory",
            () if kind.is_file() => "a regular file",
            () => "something that is not a socket",
        };
        let path = path.to_owned();
        return Err(ClaimError::NotASocket { path, what });
    }
    address(path)?;
    match connect(path) {
        Ok(socket) => {
            let peer = socket_peercred(&socket).ok();
            let pid = peer.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
            Ok(Found::Live(Owner::of(pid)))
        }
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => Ok(Found::Stale),
            Some(Errno::NOENT) => Ok(Found::Nothing),
            // Its queue is full, or it is a socket of another type: somebody has it.
            Some(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Found::Live(Owner::of(None))),
            _ => Err(io_error("connect to it", path)(error)),
        },
    }
}

/// Connects at once or not at all: a listener with a full queue is `WouldBlock`.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new_socket()?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

fn address(path: &Path) -> Result<SocketAddrUnix, ClaimError> {
    SocketAddrUnix::new(path).map_err(|_| ClaimError::TooLong {
        path: path.to_owned(),
    })
}

/// Non-blocking, so that a listener with a full queue cannot hold anybody up.
fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn make_directory(path: &Path) -> Result<(), ClaimError> {
    let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        // The umask may have taken bits away that clients need to reach the socket.
        Ok(()) => set_mode(directory, DIRECTORY_MODE)
            .map_err(io_error("set the mode of the directory", directory)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn_of_directory(directory);
            Ok(())
        }
        Err(error) => Err(io_error("make the directory", directory)(error)),
    }
}

/// Whoever owns the directory can put another socket in our place.
fn warn_of_directory(directory: &Path) {
    let Ok(metadata) = fs::metadata(directory) else {
        return;
    };
    let us = geteuid().as_raw();
    let shared = metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0;
    if shared || (metadata.uid() != us && metadata.uid() != 0) {
        log::warn!(
            "{}: others may replace files in this directory, the socket too",
            directory.display()
        );
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Locks `PATH.lock`, which the holder of the lock removes when it goes: so a lock counts only
/// while its file is still the one at the path.
fn lock(path: &Path, lock_path: &Path) -> Result<fs::File, ClaimError> {
    loop {
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(lock_path)
            .map_err(io_error("open the lock file", lock_path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.take(16).read_to_string(&mut text);
                return Err(ClaimError::Locked {
                    path: path.to_owned(),
                    owner: Owner::of(text.trim().parse().ok()),
                });
            }
            Err(error) => return Err(io_error("lock the lock file", lock_path)(error.into())),
        }
        let ours = file.metadata().map_err(io_error("look at", lock_path))?;
        if identity(lock_path).is_ok_and(|it| it == (ours.dev(), ours.ino())) {
            // For people and for the message above; the lock is what counts.
            let _ = file.set_len(0);
            let _ = file.rewind();
            let _ = writeln!(file, "{}", std::process::id());
            return Ok(file);
        }
    }
}

fn make_socket(path: &Path, address: &SocketAddrUnix) -> Result<OwnedFd, ClaimError> {
    let socket = new_socket().map_err(io_error("make a socket", path))?;
    // Linux gives the file the mode of the socket (unix_bind), less the umask: at no moment is it
    // wider than wanted. The second call gives back what the umask took.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE))
        .map_err(|error| io_error("set the mode of the socket", path)(error.into()))?;
    bind(&socket, address)
        .map_err(|error| io_error("make the socket's file", path)(error.into()))?;
    give_to_group(path);
    set_mode(path, SOCKET_MODE)
        .and_then(|()| Ok(listen(&socket, BACKLOG)?))
        .map_err(|error| {
            let _ = fs::remove_file(path);
            io_error("listen on the socket", path)(error)
        })?;
    Ok(socket)
}

/// Lets the members of the group ask, where a daemon of root's finds one of that name. Nobody can have
/// connected yet.
fn give_to_group(path: &Path) {
    let groups = fs::read(GROUPS).unwrap_or_default();
    let Some(gid) = group_id(&groups, GROUP).filter(|_| geteuid().is_root()) else {
        return;
    };
    let gid = Gid::from_raw(gid);
    if let Err(error) = chownat(CWD, path, None, Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        log::warn!(
            "{}: cannot give the socket to the group {GROUP}: {error}",
            path.display()
        );
    }
}

/// Of the file itself: a directory service could take for ever on a host in trouble.
fn group_id(groups: &[u8], wanted: &str) -> Option<u32> {
    groups.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let is_it = fields.next()? == wanted.as_bytes();
        let id = fields.nth(1)?;
        is_it.then(|| str::from_utf8(id).ok()?.parse().ok())?
    })
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())?)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
    let path = path.to_owned();
    move |error| ClaimError::Io {
        operation,
        path,
        error,
    }
}

#[cfg(test)]
mod tests;
