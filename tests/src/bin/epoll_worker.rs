//! One of several processes that accept from the listener on standard input.
//!
//! After each accept it writes its count (u64, native endian) at the start of standard output,
//! which is a file: the truth that raindrops' figures are held against.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
};

use rustix::event::epoll;

fn main() -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let counts = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(0),
        epoll::EventFlags::IN,
    )?;
    let mut events = Vec::with_capacity(1);
    let mut count: u64 = 0;
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        match listener.accept() {
            Ok((stream, _)) => {
                count += 1;
                counts.write_all_at(&count.to_ne_bytes(), 0)?;
                // A client that leaves early is the client's affair.
                let _ = answer(stream);
            }
            // Another worker was faster.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&chunk[..read]),
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n")
}
