//! Reads of kernel memory, and the only pointer arithmetic, through offsets that user space took
//! from the running kernel's BTF.

use core::num::NonZeroU64;

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel,
        bpf_probe_read_kernel_buf,
    },
};
use raindrops_ebpf::{
    connection::FlowKey,
    globals as g,
    listener::{AF_INET6, AddressKey, UNIX_NAME_LEN},
    miss::Miss,
};

/// Socket states, `include/net/tcp_states.h`; AF_UNIX uses the same numbers.
pub mod state {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const SYN_RECV: u32 = 3;
    pub const FIN_WAIT1: u32 = 4;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;
}

pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_MPTCP: u16 = 262;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// Of `socket.flags`, include/linux/net.h.
const SOCK_NOSPACE: u64 = 1 << 2;

/// A kernel address. Not zero, so that `None` is a value of the same register: the payload of
/// another `None` would be undefined, and the verifier refuses even a copy of a register that was
/// never written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Address(NonZeroU64);

impl Address {
    #[inline(always)]
    fn read<T: Copy>(self, offset: &Global<u32>) -> Result<T, Miss> {
        self.offset(offset).get()
    }

    #[inline(always)]
    fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    #[inline(always)]
    fn offset(self, offset: &Global<u32>) -> Self {
        self.plus(u64::from(offset.load()))
    }

    #[inline(always)]
    fn get<T: Copy>(self) -> Result<T, Miss> {
        // SAFETY: the helper checks the address and fails on one that is not mapped.
        unsafe { bpf_probe_read_kernel(self.0.get() as *const T) }
            .map_err(|_| Miss::UnreadableSocket)
    }

    /// The pointer stored at `offset`; `None` when it is null.
    #[inline(always)]
    fn follow(self, offset: &Global<u32>) -> Result<Option<Self>, Miss> {
        Ok(NonZeroU64::new(self.read(offset)?).map(Self))
    }

    /// The pointer to the current task.
    #[inline(always)]
    fn of_current_task() -> Result<Self, Miss> {
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task() };
        NonZeroU64::new(task)
            .map(Self)
            .ok_or(Miss::UnreadableSocket)
    }
}

/// A `struct sock`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sock(Address);

impl Sock {
    #[inline(always)]
    pub fn new(address: u64) -> Self {
        Self(Address(NonZeroU64::new(address).unwrap_or(NonZeroU64::MIN)))
    }

    /// The `struct sock` of a `struct socket`.
    #[inline(always)]
    pub fn of_socket(socket: u64) -> Result<Self, Miss> {
        Sock::new(socket)
            .0
            .follow(&g::SOCKET_SOCK)?
            .map(Self)
            .ok_or(Miss::UnreadableSocket)
    }

    /// Key for maps: the address.
    #[inline(always)]
    pub fn key(self) -> u64 {
        self.0.0.get()
    }

    #[inline(always)]
    pub fn family(self) -> Result<u16, Miss> {
        self.0.read(&g::SOCK_FAMILY)
    }

    #[inline(always)]
    pub fn state(self) -> Result<u32, Miss> {
        Ok(u32::from(self.0.read::<u8>(&g::SOCK_STATE)?))
    }

    #[inline(always)]
    pub fn protocol(self) -> Result<u16, Miss> {
        self.0.read(&g::SOCK_PROTOCOL)
    }

    /// The cookie, if anybody has asked for it yet.
    #[inline(always)]
    pub fn cookie(self) -> Result<Option<NonZeroU64>, Miss> {
        Ok(NonZeroU64::new(self.0.read(&g::SOCK_COOKIE)?))
    }

    #[inline(always)]
    pub fn netns(self) -> Result<u32, Miss> {
        let net = self.0.follow(&g::SOCK_NET)?.ok_or(Miss::UnreadableSocket)?;
        net.read(&g::NET_INODE)
    }

    /// Whether it belongs to a namespace that is followed.
    #[inline(always)]
    pub fn is_followed(self) -> Result<bool, Miss> {
        let only = g::NETNS.load();
        Ok(only == 0 || self.netns()? == only)
    }

    /// Whether a process has it: false while it waits in the accept queue, and after close.
    #[inline(always)]
    pub fn has_socket(self) -> bool {
        matches!(self.0.follow(&g::SOCK_SOCKET), Ok(Some(_)))
    }

    /// Number of its inode in the socket file system.
    #[inline(always)]
    pub fn inode(self) -> Result<u64, Miss> {
        let socket = self
            .0
            .follow(&g::SOCK_SOCKET)?
            .ok_or(Miss::UnreadableSocket)?;
        // A socket lies at the start of its `struct socket_alloc`, next to its inode.
        socket.offset(&g::SOCKET_INODE).read(&g::INODE_NUMBER)
    }

    #[inline(always)]
    fn local_address(self, family: u16) -> Result<[u8; 16], Miss> {
        self.ip(family, &g::SOCK_ADDRESS_V4, &g::SOCK_ADDRESS_V6)
    }

    #[inline(always)]
    fn ip(self, family: u16, v4: &Global<u32>, v6: &Global<u32>) -> Result<[u8; 16], Miss> {
        if family == AF_INET6 {
            return self.0.read(v6);
        }
        let [a, b, c, d]: [u8; 4] = self.0.read(v4)?;
        Ok([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Its local address.
    #[inline(always)]
    pub fn address(self) -> Result<AddressKey, Miss> {
        let family = self.family()?;
        Ok(AddressKey {
            netns: self.netns()?,
            family,
            port: self.0.read(&g::SOCK_PORT)?,
            address: self.local_address(family)?,
        })
    }

    /// Both of its ends.
    #[inline(always)]
    pub fn flow(self) -> Result<FlowKey, Miss> {
        let family = self.family()?;
        Ok(FlowKey {
            netns: self.netns()?,
            family,
            local_port: self.0.read(&g::SOCK_PORT)?,
            remote_port: u16::from_be(self.0.read(&g::SOCK_REMOTE_PORT)?),
            reserved: 0,
            local: self.local_address(family)?,
            remote: self.ip(family, &g::SOCK_REMOTE_V4, &g::SOCK_REMOTE_V6)?,
        })
    }

    /// The TCP connection over which an MPTCP connection began; `None` when it is gone, or where the
    /// kernel does not describe it.
    #[inline(always)]
    pub fn first_path(self) -> Result<Option<Self>, Miss> {
        if g::MPTCP_FIRST_PATH.load() == 0 {
            return Ok(None);
        }
        Ok(self.0.follow(&g::MPTCP_FIRST_PATH)?.map(Self))
    }

    /// The MPTCP connection that a TCP connection is a path of, if it is.
    #[inline(always)]
    fn of_several_paths(self) -> Result<Option<Self>, Miss> {
        if g::MPTCP_OF_PATH.load() == 0 {
            return Ok(None);
        }
        let Some(upper) = self.0.follow(&g::ULP_DATA)? else {
            return Ok(None);
        };
        // Other protocols on top of TCP keep other things there.
        let Ok(Some(whole)) = upper.follow(&g::MPTCP_OF_PATH) else {
            return Ok(None);
        };
        let is_whole = matches!(Self(whole).protocol(), Ok(IPPROTO_MPTCP));
        Ok(if is_whole { Some(Self(whole)) } else { None })
    }

    /// The MPTCP connection that a TCP connection has begun, if it has.
    #[inline(always)]
    pub fn began(self) -> Result<Option<Self>, Miss> {
        let Some(whole) = self.of_several_paths()? else {
            return Ok(None);
        };
        let is_first = matches!(whole.first_path(), Ok(Some(first)) if first == self);
        Ok(if is_first { Some(whole) } else { None })
    }

    /// Whether a TCP connection has joined an MPTCP connection that another began: it never waits
    /// in a queue, and nobody accepts it.
    #[inline(always)]
    pub fn has_joined(self) -> bool {
        let Ok(Some(whole)) = self.of_several_paths() else {
            return false;
        };
        !matches!(whole.first_path(), Ok(Some(first)) if first == self)
    }

    /// Address of the name object that a unix listener shares with the sockets accepted from it.
    #[inline(always)]
    pub fn unix_name(self) -> Result<Option<UnixName>, Miss> {
        Ok(self.0.follow(&g::UNIX_ADDRESS)?.map(UnixName))
    }

    /// Bytes of a TCP connection that came and that nobody has read; a FIN counts as one.
    #[inline(always)]
    pub fn tcp_unread(self) -> Result<u32, Miss> {
        let received: u32 = self.0.read(&g::TCP_RECEIVED)?;
        Ok(received.wrapping_sub(self.0.read(&g::TCP_COPIED)?))
    }

    /// Bytes of a TCP connection that were written and not yet acknowledged.
    #[inline(always)]
    pub fn tcp_unacknowledged(self) -> Result<u32, Miss> {
        let written: u32 = self.0.read(&g::TCP_WRITTEN)?;
        Ok(written.wrapping_sub(self.0.read(&g::TCP_UNACKED)?))
    }

    /// Whether a unix connection has written what its peer has not read.
    #[inline(always)]
    pub fn unix_has_unread_by_peer(self) -> Result<bool, Miss> {
        // One is the socket's own.
        Ok(self.0.read::<u32>(&g::SOCK_SENT_MEMORY)? > 1)
    }

    /// Whether somebody who wanted to write found no room. Of a TCP connection that is so until there is
    /// room again; of a unix one it stays so.
    #[inline(always)]
    pub fn has_lacked_room(self) -> Result<bool, Miss> {
        let socket = self.0.follow(&g::SOCK_SOCKET)?;
        let socket = socket.ok_or(Miss::UnreadableSocket)?;
        let flags: u64 = socket.read(&g::SOCKET_FLAGS)?;
        Ok(flags & SOCK_NOSPACE != 0)
    }

    /// Connections in a listening TCP socket's accept queue.
    #[inline(always)]
    pub fn tcp_queue_length(self) -> Result<u32, Miss> {
        self.0.read(&g::SOCK_ACCEPT_BACKLOG)
    }

    /// Buffers in a unix socket's receive queue: those of a listener are connections.
    #[inline(always)]
    pub fn unix_queue_length(self) -> Result<u32, Miss> {
        self.0.offset(&g::SOCK_RECEIVE_QUEUE).read(&g::QUEUE_LENGTH)
    }

    /// The last socket that waits in a unix listener's queue, and the buffer that carries it.
    #[inline(always)]
    pub fn last_queued(self) -> Result<Option<QueuedSock>, Miss> {
        let queue = self.0.offset(&g::SOCK_RECEIVE_QUEUE);
        let last = queue
            .follow(&g::QUEUE_LAST)?
            .ok_or(Miss::UnreadableSocket)?;
        Ok((last != queue).then_some(QueuedSock {
            queue,
            buffer: last,
        }))
    }
}

/// A place in a unix listener's accept queue.
#[derive(Clone, Copy)]
pub struct QueuedSock {
    queue: Address,
    buffer: Address,
}

impl QueuedSock {
    /// The socket that `accept()` will return.
    #[inline(always)]
    pub fn sock(self) -> Result<Option<Sock>, Miss> {
        Ok(self.buffer.follow(&g::BUFFER_SOCK)?.map(Sock))
    }

    /// The one queued before it.
    #[inline(always)]
    pub fn previous(self) -> Result<Option<Self>, Miss> {
        let previous = self.buffer.follow(&g::BUFFER_PREVIOUS)?;
        Ok(previous
            .filter(|previous| *previous != self.queue)
            .map(|buffer| Self {
                queue: self.queue,
                buffer,
            }))
    }
}

/// A `struct unix_address`.
#[derive(Clone, Copy)]
pub struct UnixName(Address);

impl UnixName {
    /// Key for maps: the address.
    #[inline(always)]
    pub fn key(self) -> u64 {
        self.0.0.get()
    }

    /// Bytes used of `sun_path`.
    #[inline(always)]
    pub fn len(self) -> Result<u32, Miss> {
        let length: u32 = self.0.read(&g::UNIX_ADDRESS_LENGTH)?;
        let path = length.saturating_sub(size_of::<u16>() as u32);
        Ok(if path > UNIX_NAME_LEN as u32 {
            UNIX_NAME_LEN as u32
        } else {
            path
        })
    }

    /// Reads `sun_path` in full; only the first `len` bytes of it mean anything.
    #[inline(always)]
    pub fn read_sun_path(self, path: &mut [u8; UNIX_NAME_LEN]) -> Result<(), Miss> {
        let family_and_path = self.0.offset(&g::UNIX_ADDRESS_NAME);
        let from = family_and_path.plus(size_of::<u16>() as u64);
        // SAFETY: the helper checks the address and fails on one that is not mapped.
        unsafe { bpf_probe_read_kernel_buf(from.0.get() as *const u8, path) }
            .map_err(|_| Miss::UnreadableSocket)
    }
}

/// A `struct file`.
#[derive(Clone, Copy)]
pub struct File(Address);

impl File {
    /// What is behind a descriptor of the current process. What a system call seems to have
    /// returned may have been made up by a process (seccomp's user notification): it must not lead
    /// outside the table.
    #[inline(always)]
    pub fn of_descriptor(descriptor: i64) -> Result<Self, Miss> {
        let files = Address::of_current_task()?.follow(&g::TASK_FILES);
        let table = Self::present(files)?.follow(&g::FILES_TABLE);
        let table = Self::present(table)?;
        let size: u32 = table.read(&g::TABLE_SIZE)?;
        if descriptor as u64 >= u64::from(size) {
            return Err(Miss::UnreadableDescriptor);
        }
        let array = table.follow(&g::TABLE_FILES);
        let place = Self::present(array)?.plus(descriptor as u64 * size_of::<u64>() as u64);
        let file = place.get().map(|file| NonZeroU64::new(file).map(Address));
        Self::present(file).map(Self)
    }

    /// The `struct sock`, if this is a socket.
    #[inline(always)]
    pub fn sock(self) -> Result<Sock, Miss> {
        let socket = Self::present(self.0.follow(&g::FILE_PRIVATE))?;
        Self::present(socket.follow(&g::SOCKET_SOCK)).map(Sock)
    }

    #[inline(always)]
    pub fn is_socket(self) -> Result<bool, Miss> {
        let inode = Self::present(self.0.follow(&g::FILE_INODE))?;
        let mode: u16 = inode.read(&g::INODE_MODE)?;
        Ok(mode & S_IFMT == S_IFSOCK)
    }

    #[inline(always)]
    fn present(pointer: Result<Option<Address>, Miss>) -> Result<Address, Miss> {
        match pointer {
            Ok(Some(address)) => Ok(address),
            _ => Err(Miss::UnreadableDescriptor),
        }
    }
}

/// When the current process (not thread) started, nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn current_start() -> Result<u64, Miss> {
    let task = Address::of_current_task()?;
    let ids = bpf_get_current_pid_tgid();
    let leader = if ids >> 32 == ids & u64::from(u32::MAX) {
        task
    } else {
        task.follow(&g::TASK_GROUP_LEADER)?
            .ok_or(Miss::UnreadableSocket)?
    };
    leader.read(&g::TASK_START)
}
