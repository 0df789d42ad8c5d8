//! Read-only globals that user space sets before loading: where the running kernel keeps the
//! fields that the programs read, and which ways to count were chosen.

/// The globals, by name; each is a `u32` (offsets in bytes).
macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        /// Path of each offset in the kernel's types, as `structure.member.member`, by the name
        /// of its global.
        pub const OFFSETS: &[(&str, &str)] = &[$((stringify!($name), $path)),*];

        $(
            #[cfg(target_arch = "bpf")]
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub static $name: aya_ebpf::Global<u32> = aya_ebpf::Global::new(0);
        )*
    };
}

globals! {
    SOCK_FAMILY = "sock_common.skc_family";
    SOCK_STATE = "sock_common.skc_state";
    SOCK_PORT = "sock_common.skc_num";
    SOCK_NET = "sock_common.skc_net.net";
    SOCK_ADDRESS_V4 = "sock_common.skc_rcv_saddr";
    SOCK_ADDRESS_V6 = "sock_common.skc_v6_rcv_saddr";
    SOCK_REMOTE_PORT = "sock_common.skc_dport";
    SOCK_REMOTE_V4 = "sock_common.skc_daddr";
    SOCK_REMOTE_V6 = "sock_common.skc_v6_daddr";
    SOCK_COOKIE = "sock_common.skc_cookie";
    SOCK_PROTOCOL = "sock.sk_protocol";
    SOCK_SOCKET = "sock.sk_socket";
    SOCK_RECEIVE_QUEUE = "sock.sk_receive_queue";
    SOCK_ACCEPT_BACKLOG = "sock.sk_ack_backlog";
    NET_INODE = "net.ns.inum";
    SOCKET_SOCK = "socket.sk";
    SOCKET_FLAGS = "socket.flags";
    SOCKET_INODE = "socket_alloc.vfs_inode";
    INODE_NUMBER = "inode.i_ino";
    INODE_MODE = "inode.i_mode";
    FILE_INODE = "file.f_inode";
    FILE_PRIVATE = "file.private_data";
    TASK_FILES = "task_struct.files";
    TASK_GROUP_LEADER = "task_struct.group_leader";
    TASK_START = "task_struct.start_boottime";
    FILES_TABLE = "files_struct.fdt";
    TABLE_SIZE = "fdtable.max_fds";
    TABLE_FILES = "fdtable.fd";
    UNIX_ADDRESS = "unix_sock.addr";
    UNIX_ADDRESS_LENGTH = "unix_address.len";
    UNIX_ADDRESS_NAME = "unix_address.name";
    QUEUE_LAST = "sk_buff_head.prev";
    QUEUE_LENGTH = "sk_buff_head.qlen";
    BUFFER_PREVIOUS = "sk_buff.prev";
    BUFFER_SOCK = "sk_buff.sk";
    SOCK_SENT_MEMORY = "sock.sk_wmem_alloc";
    TCP_RECEIVED = "tcp_sock.rcv_nxt";
    TCP_COPIED = "tcp_sock.copied_seq";
    TCP_WRITTEN = "tcp_sock.write_seq";
    TCP_UNACKED = "tcp_sock.snd_una";
    ULP_DATA = "inet_connection_sock.icsk_ulp_data";
    MPTCP_FIRST_PATH = "mptcp_sock.first";
    MPTCP_OF_PATH = "mptcp_subflow_context.conn";
}

/// Globals of offsets that a kernel may lack: built without MPTCP. They are 0 then, where none of
/// these members can be.
pub const OPTIONAL: &[&str] = &["MPTCP_FIRST_PATH", "MPTCP_OF_PATH"];

/// Settings that are not offsets, by name; each is a `u32`.
pub mod setting {
    /// Inode of the only network namespace to follow; 0 for all.
    pub const NETNS: &str = "NETNS";
    /// 1 where the kernel has the tracepoint `sk_data_ready`, which tells a child's listener.
    pub const HAS_DATA_READY: &str = "HAS_DATA_READY";
    /// Number of shards of each listener's counters; a power of two.
    pub const SHARDS: &str = "SHARDS";
    /// A value of [`crate::turns::mode`].
    pub const TURNS: &str = "TURNS";
    /// 1 where reads and writes of unix sockets are seen, too.
    pub const SEES_UNIX_TURNS: &str = "SEES_UNIX_TURNS";
}

#[cfg(target_arch = "bpf")]
mod settings {
    use aya_ebpf::Global;

    #[unsafe(no_mangle)]
    pub static NETNS: Global<u32> = Global::new(0);
    #[unsafe(no_mangle)]
    pub static HAS_DATA_READY: Global<u32> = Global::new(0);
    #[unsafe(no_mangle)]
    pub static SHARDS: Global<u32> = Global::new(1);
    #[unsafe(no_mangle)]
    pub static TURNS: Global<u32> = Global::new(0);
    #[unsafe(no_mangle)]
    pub static SEES_UNIX_TURNS: Global<u32> = Global::new(0);
}

#[cfg(target_arch = "bpf")]
pub use settings::{HAS_DATA_READY, NETNS, SEES_UNIX_TURNS, SHARDS, TURNS};
