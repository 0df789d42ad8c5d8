//! A keep-alive client for one unix socket: a request at a time, answers with a length.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::child::CEILING;

#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Will ask for `path`.
    pub fn connect(socket: &Path, path: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connecting to {}", socket.display()))?;
        stream.set_read_timeout(Some(CEILING))?;
        Ok(Self {
            stream,
            request: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
            answer: vec![0; 64 * 1024],
        })
    }

    /// The body of one answer.
    pub fn get(&mut self) -> Result<&[u8]> {
        self.stream.write_all(&self.request)?;
        let mut read = 0;
        let mut whole = None;
        loop {
            if read == self.answer.len() {
                self.answer.resize(2 * read, 0);
            }
            let more = self.stream.read(&mut self.answer[read..])?;
            ensure!(more != 0, "the answer ended early");
            read += more;
            if whole.is_none() {
                whole = extent(&self.answer[..read])?;
            }
            if let Some((start, end)) = whole
                && read >= end
            {
                ensure!(read == end, "more than one answer");
                return Ok(&self.answer[start..end]);
            }
        }
    }

    /// From the first byte of the request to the last one of the answer.
    pub fn timed(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.get()?;
        Ok(began.elapsed())
    }
}

/// Where the body begins and ends, once all headers are there.
pub fn extent(answer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end]).context("headers are not UTF-8")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "answered {head:?}");
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .with_context(|| format!("no length in {head:?}"))?;
    Ok(Some((end + 4, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::extent;

    /// Check that the body is found by its length, and not before the headers have ended.
    #[test]
    fn bodies() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(extent(&head[..head.len() - 1]).unwrap(), None);
        let extent_of_body = (head.len(), head.len() + 5);
        assert_eq!(extent(head).unwrap(), Some(extent_of_body));
        assert!(extent(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(extent(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
