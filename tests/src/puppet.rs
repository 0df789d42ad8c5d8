//! A server of the test's own, which does one thing after another as it is told: so the test knows at
//! each moment what must be shown of its turns.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use anyhow::{Context as _, Result};
use raindrops_user::view::{Turns, View};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, accept, connect, recv,
        send, socket,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::{listening, lookup, wait};

const BACKLOG: i32 = 64;

/// A kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Unix,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Unix];
}

/// A listener, and how to reach it.
#[derive(Debug)]
pub struct Listening {
    socket: OwnedFd,
    name: Name,
    /// As the view shows it.
    pub address: String,
}

#[derive(Debug)]
enum Name {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

impl Listening {
    /// Listens on a free port, or on a path in `directory`.
    pub fn new(kind: Kind, directory: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Tcp => {
                let socket = listening::tcp(BACKLOG)?;
                let name = socket.local_addr()?;
                Self {
                    socket: socket.into(),
                    name: Name::Tcp(name),
                    address: name.to_string(),
                }
            }
            Kind::Unix => {
                let path = directory.join("puppet.sock");
                let name = SocketAddrUnix::new(&path)?;
                Self {
                    socket: listening::unix(&name)?.into(),
                    name: Name::Unix(name),
                    address: path.display().to_string(),
                }
            }
        })
    }

    /// A client's end of a new connection.
    pub fn client(&self) -> Result<OwnedFd> {
        let client = match &self.name {
            Name::Tcp(address) => listening::client(*address)?.into(),
            Name::Unix(name) => {
                let client = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
                connect(&client, name).context("connect")?;
                client
            }
        };
        set_socket_timeout(&client, Timeout::Recv, Some(wait::ceiling()))?;
        Ok(client)
    }

    /// The server's end of a connection, accepted by the calling thread.
    pub fn accept(&self) -> Result<Connection> {
        let accepted = accept(&self.socket).context("accept")?;
        set_socket_timeout(&accepted, Timeout::Recv, Some(wait::ceiling()))?;
        Ok(Connection(Arc::new(accepted)))
    }

    /// What a view shows of its turns.
    #[must_use]
    pub fn turns<'a>(&self, view: &'a View) -> Option<&'a Turns> {
        lookup::listener(view, &self.address).ok()?.turns.as_ref()
    }
}

/// The server's end of a connection; closed when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Connection(Arc<OwnedFd>);

impl Connection {
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.0
    }

    /// Reads at most so many bytes; how many there were.
    pub fn read(&self, most: usize) -> Result<usize> {
        let mut buffer = vec![0; most];
        rustix::io::read(&self.0, &mut buffer).context("read")
    }

    /// Looks at what there is without taking it.
    pub fn peek(&self, most: usize) -> Result<usize> {
        let mut buffer = vec![0; most];
        let (_, found) = recv(&self.0, &mut buffer, RecvFlags::PEEK).context("peek")?;
        Ok(found)
    }

    /// Writes so many bytes.
    pub fn write(&self, count: usize) -> Result<()> {
        let bytes = vec![b'x'; count];
        let mut left = &bytes[..];
        while !left.is_empty() {
            let written = send(&self.0, left, SendFlags::NOSIGNAL).context("write")?;
            left = &left[written..];
        }
        Ok(())
    }

    /// Writes until there is no room; how much there was.
    pub fn fill(&self) -> Result<usize> {
        let chunk = [b'x'; 64 * 1024];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut total = 0;
        loop {
            match send(&self.0, &chunk, flags) {
                Ok(written) => total += written,
                Err(rustix::io::Errno::AGAIN) => return Ok(total),
                Err(error) => return Err(error).context("write"),
            }
        }
    }

    /// Asks whether there is something to read, as a thread does that waits for it.
    pub fn poll(&self) -> Result<()> {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut descriptors, Some(&at_once)).context("poll")?;
        Ok(())
    }

    /// Writes so many bytes of a file with `sendfile()`.
    pub fn send_file(&self, count: usize) -> Result<()> {
        let file = tempfile::tempfile()?;
        file.set_len(count as u64)?;
        let mut left = count;
        while left > 0 {
            let sent = rustix::fs::sendfile(&self.0, &file, None, left).context("sendfile")?;
            left -= sent;
        }
        Ok(())
    }
}

/// Sends so many bytes from a client.
pub fn ask(client: &OwnedFd, count: usize) -> Result<()> {
    let bytes = vec![b'?'; count];
    let sent = send(client, &bytes, SendFlags::NOSIGNAL).context("asking")?;
    anyhow::ensure!(sent == count, "{sent} of {count} bytes sent");
    Ok(())
}

/// Reads at a client until it has got so many bytes.
pub fn take(client: &OwnedFd, count: usize) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let most = left.min(buffer.len());
        let (_, got) =
            recv(client, &mut buffer[..most], RecvFlags::empty()).context("reading the answer")?;
        anyhow::ensure!(got > 0, "{left} bytes of {count} are missing");
        left -= got;
    }
    Ok(())
}

type Order = Box<dyn FnOnce() + Send>;

/// A thread that does as it is told, until it is dropped.
#[derive(Debug)]
pub struct Thread {
    pub id: u32,
    orders: Sender<Order>,
}

impl Thread {
    pub fn start() -> Result<Self> {
        let (orders, receiver) = channel::<Order>();
        let (sender, id) = channel();
        thread::Builder::new()
            .name("puppet".to_owned())
            .spawn(move || {
                let id = rustix::thread::gettid().as_raw_nonzero().get();
                let _ = sender.send(id.cast_unsigned());
                for order in receiver {
                    order();
                }
            })?;
        let id = id.recv().context("a thread that has not begun")?;
        Ok(Self { id, orders })
    }

    /// Has it do something, and does not wait for that.
    pub fn begins<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Begun<T>> {
        let (sender, receiver) = channel();
        let order = Box::new(move || {
            let _ = sender.send(what());
        });
        let told = self.orders.send(order);
        told.ok().context("a thread that has ended")?;
        Ok(Begun(receiver))
    }

    /// Has it do something, and waits until it has.
    pub fn does<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.begins(what)?.ends()?
    }
}

/// What a thread has begun to do.
#[derive(Debug)]
pub struct Begun<T>(Receiver<T>);

impl<T> Begun<T> {
    /// Waits for it.
    pub fn ends(self) -> Result<T> {
        self.0
            .recv_timeout(wait::ceiling())
            .context("a thread that hangs")
    }
}
