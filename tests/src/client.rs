//! A client that keeps its connection, and counts what it sends and receives.

use std::{
    fmt::{self, Formatter},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::wait::CEILING;

/// For an answer that a test may hold back for a while.
const PATIENCE: Duration = CEILING.saturating_mul(6);
const END_OF_HEADERS: &[u8] = b"\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

pub struct Client {
    stream: Box<dyn Stream>,
    /// Of the answer that is being read.
    answer: Vec<u8>,
    /// The server has said, or shown, that it closes the connection.
    is_over: bool,
    /// Bytes of all requests, and of all answers.
    pub sent: u64,
    pub received: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    pub fn connect(to: &Address) -> Result<Self> {
        let stream: Box<dyn Stream> = match to {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, CEILING).context("connect")?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).context("connect")?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Self::over(stream))
    }

    /// One whose bytes go through something else, which knows for itself when to give up.
    pub fn over(stream: impl Read + Write + Send + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            answer: Vec::new(),
            is_over: false,
            sent: 0,
            received: 0,
        }
    }

    /// Sends a request and does not wait for its answer.
    pub fn ask(&mut self, path: &str) -> Result<()> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// The last request of this connection.
    pub fn ask_and_close(&mut self, path: &str) -> Result<()> {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
    }

    /// Sends a part of a request.
    pub fn send(&mut self, request: &str) -> Result<()> {
        self.stream
            .write_all(request.as_bytes())
            .context("sending a request")?;
        self.stream.flush()?;
        self.sent += request.len() as u64;
        Ok(())
    }

    /// Waits until the answer has begun.
    pub fn begun(&mut self) -> Result<()> {
        while !contains(&self.answer, END_OF_HEADERS) {
            ensure!(self.read()?, "no answer: {:?}", self.shown());
        }
        Ok(())
    }

    /// The rest of the answer; its body as it was sent.
    pub fn answered(&mut self) -> Result<Vec<u8>> {
        self.begun()?;
        let end = position(&self.answer, END_OF_HEADERS).unwrap_or(0) + END_OF_HEADERS.len();
        let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
        ensure!(head.contains(" 200 "), "refused: {head}");
        self.is_over |= head.contains("connection: close");
        let value = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        if let Some(length) = value("content-length:") {
            let length: usize = length.parse()?;
            while self.answer.len() < end + length {
                ensure!(self.read()?, "a short answer: {:?}", self.shown());
            }
        } else if value("transfer-encoding:").is_some_and(|it| it == "chunked") {
            while !self.answer.ends_with(LAST_CHUNK) {
                ensure!(self.read()?, "no last chunk: {:?}", self.shown());
            }
        } else {
            while self.read()? {}
            self.is_over = true;
        }
        let body = self.answer.split_off(end);
        self.answer.clear();
        Ok(body)
    }

    /// Asks and waits for the answer.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.ask(path)?;
        self.answered()
    }

    /// Whether more can be asked over this connection.
    #[must_use]
    pub fn stays(&self) -> bool {
        !self.is_over
    }

    /// Waits until the server has closed the connection, and has sent nothing more.
    pub fn closed(&mut self) -> Result<()> {
        ensure!(!self.read()?, "unexpected: {:?}", self.shown());
        Ok(())
    }

    /// Whether anything came before the end of the stream.
    fn read(&mut self) -> Result<bool> {
        let mut bytes = [0; 1 << 14];
        let count = self.stream.read(&mut bytes).context("reading an answer")?;
        self.answer.extend_from_slice(&bytes[..count]);
        self.received += count as u64;
        Ok(count > 0)
    }

    fn shown(&self) -> String {
        let first = self.answer.get(..200).unwrap_or(&self.answer);
        String::from_utf8_lossy(first).into_owned()
    }
}

/// One request over a connection of its own; bytes sent and received.
pub fn short(to: &Address, path: &str) -> Result<(u64, u64)> {
    let mut client = Client::connect(to)?;
    client.ask_and_close(path)?;
    client.answered()?;
    client.closed()?;
    Ok((client.sent, client.received))
}

/// Clients that ask, each over a connection of its own, for what will not be answered yet.
pub fn asking(listener: &Address, count: usize, path: &str) -> Result<Vec<Client>> {
    let asking = || {
        let mut client = Client::connect(listener)?;
        client.ask_and_close(path)?;
        Ok(client)
    };
    (0..count).map(|_| asking()).collect()
}

/// Clients that have had an answer, and stay.
pub fn idle(listener: &Address, count: usize) -> Result<Vec<Client>> {
    let idle = || {
        let mut client = Client::connect(listener)?;
        client.get("/")?;
        ensure!(client.stays(), "{listener} closes");
        Ok(client)
    };
    (0..count).map(|_| idle()).collect()
}

/// Waits for the answer of each.
pub fn answered(clients: &mut [Client]) -> Result<()> {
    clients
        .iter_mut()
        .try_for_each(|client| client.answered().map(drop))
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    position(bytes, what).is_some()
}
