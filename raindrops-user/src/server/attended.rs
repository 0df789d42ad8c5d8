//! A stream whose peer must read, and be there.
//!
//! hyper bounds how long a client may take to send its request, not how long it may leave the
//! answer unread. Without this a client that stops reading, or that reads a byte now and then, would
//! keep its connection, and the view that it asked for, for ever. Nor does it see that a client has
//! gone, where one that has no more to send still gets its answer, until there is something to write
//! to it; of an answer that waits for something that may never come there is nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep, sleep},
};

/// How often it is looked for a client that has said that it sends no more, or sent what nobody has
/// read: the kernel wakes nobody then.
const LOOK: Duration = Duration::from_secs(1);

/// A stream that tells in which state it is.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Pending where there is nothing to read, not even an end; then who asks is woken for both.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// `None`: it can neither be written to, nor has it failed.
    fn writable(&self) -> Option<io::Result<Ready>>;
}

impl Socket for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn writable(&self) -> Option<io::Result<Ready>> {
        self.ready(Interest::WRITABLE).now_or_never()
    }
}

impl Socket for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn writable(&self) -> Option<io::Result<Ready>> {
        self.ready(Interest::WRITABLE).now_or_never()
    }
}

/// Fails writes that are not all taken within a time from the first that had to wait, and flushes when
/// the client has gone.
#[derive(Debug)]
pub struct Attended<S> {
    stream: S,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    look: Pin<Box<Sleep>>,
}

impl<S: Socket> Attended<S> {
    pub fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            deadline: Box::pin(sleep(limit)),
            waiting: false,
            look: Box::pin(sleep(LOOK)),
        }
    }

    /// Has the task woken when the client goes, too.
    fn is_there(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.stream.poll_readable(cx).is_pending() {
            return Ok(());
        }
        if let Some(state) = self.stream.writable()
            && state?.is_write_closed()
        {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the client has gone",
            ));
        }
        while self.look.as_mut().poll(cx).is_ready() {
            self.look.as_mut().reset(Instant::now() + LOOK);
        }
        Ok(())
    }

    /// Passes progress on; while there is none, watches the clock. It is hyper's flush that tells when
    /// all has been taken.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            return write;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read its answer",
        )))
    }
}

impl<S: Socket> AsyncRead for Attended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Attended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bounded(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bounded(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(cx);
        self.waiting &= flush.is_pending();
        ready!(self.bounded(cx, flush))?;
        Poll::Ready(self.is_there(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
