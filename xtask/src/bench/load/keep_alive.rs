//! Connections that are used again and again: one client process of an HTTP server.
//!
//! It counts what it does itself, so that what is seen of both ends can be told apart.

use std::{
    mem::MaybeUninit,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::{Errno, read, write},
    net::sockopt,
};

use super::{obey, processor_time, say, sockets::connection};
use crate::bench::http::extent;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SUCCESS: &[u8] = b"HTTP/1.1 200 ";

#[derive(Debug, clap::Args)]
pub struct KeepAlive {
    #[arg(long)]
    connections: u16,
    #[arg(long)]
    port: u16,
    /// The address that the connections come from is 127.4.SOURCE.1
    #[arg(long, default_value_t = 0)]
    source: u8,
}

impl KeepAlive {
    /// Each line is a number of requests. The answer is the time and the processor time that they
    /// took, in seconds, and how often the client has read, written and waited.
    ///
    /// As many requests as there are connections are one over each.
    pub fn run(&self) -> Result<()> {
        let mut client = Client::connect(self)?;
        say("READY")?;
        obey(|requests| {
            let processor = processor_time();
            let began = Instant::now();
            let did = client.ask(requests)?;
            let took = began.elapsed().as_secs_f64();
            let processor = processor_time().saturating_sub(processor).as_secs_f64();
            let Did {
                reads,
                writes,
                waits,
            } = did;
            Ok(format!("{took} {processor} {reads} {writes} {waits}"))
        })
    }
}

struct Client {
    epoll: OwnedFd,
    open: Vec<Connection>,
    /// Of every answer.
    length: usize,
}

struct Connection {
    socket: OwnedFd,
    /// Bytes of the answer that are there.
    received: usize,
}

#[derive(Default)]
struct Did {
    reads: u32,
    writes: u32,
    waits: u32,
}

impl Client {
    fn connect(place: &KeepAlive) -> Result<Self> {
        let source = Ipv4Addr::new(127, 4, place.source, 1);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut open = Vec::new();
        for index in 0..place.connections {
            let socket = connection(source, place.port)?;
            // Its end is a reset, so that nothing is left of it in the kernel's tables.
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
            let data = EventData::new_u64(u64::from(index));
            epoll::add(&epoll, &socket, data, EventFlags::IN)?;
            let received = 0;
            open.push(Connection { socket, received });
        }
        let length = open.first().context("no connections")?.length()?;
        Ok(Self {
            epoll,
            open,
            length,
        })
    }

    /// One request at a time over each connection, until there were `requests`.
    fn ask(&mut self, requests: u32) -> Result<Did> {
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut did = Did::default();
        let (mut unsent, mut unanswered) = (requests, requests);
        for connection in self.open.iter().take(requests as usize) {
            connection.send()?;
            did.writes += 1;
            unsent -= 1;
        }
        while unanswered != 0 {
            let mut events = [MaybeUninit::uninit(); 64];
            did.waits += 1;
            let (events, _) = match epoll::wait(&self.epoll, &mut events, Some(&patience)) {
                Err(Errno::INTR) => continue,
                waited => waited?,
            };
            ensure!(!events.is_empty(), "no answer for 10 s");
            for event in events.iter() {
                let data = event.data;
                let connection = self.open.get_mut(usize::try_from(data.u64())?);
                let connection = connection.context("an event of no connection")?;
                did.reads += 1;
                if !connection.receive(self.length)? {
                    continue;
                }
                unanswered -= 1;
                if unsent != 0 {
                    connection.send()?;
                    did.writes += 1;
                    unsent -= 1;
                }
            }
        }
        Ok(did)
    }
}

impl Connection {
    fn send(&self) -> Result<()> {
        let written = write(&self.socket, REQUEST).context("sending a request")?;
        ensure!(written == REQUEST.len(), "a request was sent in part");
        Ok(())
    }

    /// Whether the answer is complete.
    fn receive(&mut self, length: usize) -> Result<bool> {
        let mut answer = [0; 1024];
        let answer = self.read(&mut answer)?;
        ensure!(
            self.received != 0 || answer.starts_with(SUCCESS),
            "answered {:?}",
            String::from_utf8_lossy(answer)
        );
        self.received += answer.len();
        ensure!(self.received <= length, "an answer of another length");
        let is_complete = self.received == length;
        if is_complete {
            self.received = 0;
        }
        Ok(is_complete)
    }

    /// Of one answer, with its headers.
    fn length(&self) -> Result<usize> {
        self.send()?;
        let mut answer = Vec::new();
        loop {
            let mut more = [0; 1024];
            answer.extend_from_slice(self.read(&mut more)?);
            if let Some((_, end)) = extent(&answer)?
                && answer.len() >= end
            {
                ensure!(answer.len() == end, "more than one answer");
                return Ok(end);
            }
        }
    }

    fn read<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        let read = read(&self.socket, &mut *buffer).context("reading an answer")?;
        ensure!(read != 0, "the server closed a connection");
        Ok(&buffer[..read])
    }
}
