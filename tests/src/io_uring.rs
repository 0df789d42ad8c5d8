//! `accept()`, `recv()` and `send()` by io_uring: no system calls of these names, and no client's
//! address.

use std::{
    net::TcpStream,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    io_uring::{
        IORING_OFF_CQ_RING, IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringOp,
        io_uring_cqe, io_uring_enter, io_uring_params, io_uring_ptr, io_uring_setup, io_uring_sqe,
    },
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

const PAGE: usize = 4096;

/// A ring for one request at a time.
#[derive(Debug)]
pub struct Ring {
    descriptor: OwnedFd,
    parameters: io_uring_params,
    submissions: Mapping,
    completions: Mapping,
    entries: Mapping,
}

impl Ring {
    /// `None` where this kernel has no io_uring, or does not let us have it.
    pub fn new() -> Result<Option<Self>> {
        let mut parameters = io_uring_params::default();
        // SAFETY: a ring without memory of ours.
        let descriptor = match unsafe { io_uring_setup(1, &mut parameters) } {
            Ok(descriptor) => descriptor,
            Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
            Err(error) => return Err(error).context("io_uring_setup"),
        };
        Ok(Some(Self {
            submissions: Mapping::new(&descriptor, IORING_OFF_SQ_RING)?,
            completions: Mapping::new(&descriptor, IORING_OFF_CQ_RING)?,
            entries: Mapping::new(&descriptor, IORING_OFF_SQES)?,
            descriptor,
            parameters,
        }))
    }

    /// Accepts one connection.
    pub fn accept(&self, listener: impl AsFd) -> Result<TcpStream> {
        let accepted = self.run(io_uring_sqe {
            opcode: IoringOp::Accept,
            fd: listener.as_fd().as_raw_fd(),
            ..io_uring_sqe::default()
        });
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { TcpStream::from_raw_fd(accepted.context("accept by io_uring")?) })
    }

    /// Receives what there is, or what comes first.
    pub fn receive(&self, stream: impl AsFd, into: &mut [u8]) -> Result<usize> {
        let place = into.as_mut_ptr().cast();
        let received = self.run(about(IoringOp::Recv, stream, place, into.len()));
        Ok(received.context("receiving by io_uring")?.cast_unsigned() as usize)
    }

    /// Sends, of which a part may be enough for the kernel.
    pub fn send(&self, stream: impl AsFd, from: &[u8]) -> Result<usize> {
        let place = from.as_ptr().cast_mut().cast();
        let sent = self.run(about(IoringOp::Send, stream, place, from.len()));
        Ok(sent.context("sending by io_uring")?.cast_unsigned() as usize)
    }

    /// Has the kernel do what is asked, and waits for its result. What the request names must live.
    fn run(&self, request: io_uring_sqe) -> Result<i32> {
        let offsets = (&self.parameters.sq_off, &self.parameters.cq_off);
        // SAFETY: the mapping is at least a page, and the only entry is ours until it is submitted.
        unsafe { self.entries.at::<io_uring_sqe>(0).write(request) };
        let tail = self.submissions.word(offsets.0.tail);
        // The array leads from each place of the ring, of which there is one, to an entry.
        self.submissions
            .word(offsets.0.array)
            .store(0, Ordering::Relaxed);
        tail.store(
            tail.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Release,
        );
        // SAFETY: memory that the request names is borrowed by our callers until it is completed.
        unsafe { io_uring_enter(&self.descriptor, 1, 1, IoringEnterFlags::GETEVENTS) }
            .context("io_uring_enter")?;
        let head = self.completions.word(offsets.1.head);
        let mask = self.completions.word(offsets.1.ring_mask);
        let index = head.load(Ordering::Relaxed) & mask.load(Ordering::Relaxed);
        let place = offsets.1.cqes as usize + index as usize * size_of::<io_uring_cqe>();
        // SAFETY: the kernel has completed the request, and said where its result is.
        let result = unsafe { (*self.completions.at::<io_uring_cqe>(place)).res };
        head.fetch_add(1, Ordering::Release);
        if result < 0 {
            return Err(Errno::from_raw_os_error(-result).into());
        }
        Ok(result)
    }
}

/// A request about memory of ours.
fn about(
    opcode: IoringOp,
    stream: impl AsFd,
    place: *mut libc::c_void,
    length: usize,
) -> io_uring_sqe {
    let mut request = io_uring_sqe {
        opcode,
        fd: stream.as_fd().as_raw_fd(),
        ..io_uring_sqe::default()
    };
    request.addr_or_splice_off_in.addr = io_uring_ptr::new(place);
    request.len.len = length as u32;
    request
}

/// A page of a ring.
#[derive(Debug)]
struct Mapping(*mut libc::c_void);

impl Mapping {
    fn new(ring: &OwnedFd, offset: u64) -> Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                ring,
                offset,
            )
        };
        Ok(Self(start.context("mapping a ring")?))
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= PAGE, "a ring of one entry");
        self.0.wrapping_byte_add(offset).cast()
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: within the page and aligned; the kernel changes it atomically.
        unsafe { AtomicU32::from_ptr(self.at(offset as usize)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the page any more.
        let _ = unsafe { munmap(self.0, PAGE) };
    }
}
