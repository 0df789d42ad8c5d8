//! One request over a stream, answered in full. A client of our own, because the one in the
//! daemon's library must not test itself.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::wait::CEILING;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).context("the answer is not UTF-8")
    }
}

/// `GET path` on a unix socket.
pub fn get(socket: &Path, path: &str) -> Result<Response> {
    ask(socket, "GET", path)
}

/// `POST path` on a unix socket, without a body.
pub fn post(socket: &Path, path: &str) -> Result<Response> {
    ask(socket, "POST", path)
}

fn ask(socket: &Path, method: &str, path: &str) -> Result<Response> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(CEILING))?;
    exchange(&mut stream, method, path)
}

/// One request, and everything up to the end of the stream.
pub fn request(stream: &mut (impl Read + Write), path: &str) -> Result<Response> {
    exchange(stream, "GET", path)
}

fn exchange(stream: &mut (impl Read + Write), method: &str, path: &str) -> Result<Response> {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .context("sending the request")?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .context("reading the answer")?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Response> {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .with_context(|| format!("no end of headers in {} bytes", answer.len()))?;
    let head = std::str::from_utf8(&answer[..end]).context("headers are not UTF-8")?;
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        bail!("a chunked answer where a length was expected");
    }
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Response {
        status: status.with_context(|| format!("no status in {head:?}"))?,
        body: answer[end + 4..].to_vec(),
    })
}
