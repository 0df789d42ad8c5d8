//! Names of maps and programs: what user space looks up in the object.

pub mod map {
    pub const CONNECTIONS: &str = "CONNECTIONS";
    pub const SEEDS: &str = "SEEDS";
    pub const QUEUED_UNIX: &str = "QUEUED_UNIX";
    pub const LISTENERS: &str = "LISTENERS";
    pub const LISTENER_BY_SOCK: &str = "LISTENER_BY_SOCK";
    pub const LISTENER_BY_ADDRESS: &str = "LISTENER_BY_ADDRESS";
    pub const LISTENER_ROWS: &str = "LISTENER_ROWS";
    pub const LISTENER_COUNTERS: &str = "LISTENER_COUNTERS";
    pub const FREE_LISTENER_ROWS: &str = "FREE_LISTENER_ROWS";
    pub const WORKERS: &str = "WORKERS";
    pub const WORKER_ROWS: &str = "WORKER_ROWS";
    pub const FREE_WORKER_ROWS: &str = "FREE_WORKER_ROWS";
    pub const MISSES: &str = "MISSES";
    pub const SEEDING: &str = "SEEDING";
    pub const BORN_WHILE_SEEDING: &str = "BORN_WHILE_SEEDING";
    pub const LOOKS: &str = "LOOKS";
    pub const LISTENER_TURNS: &str = "LISTENER_TURNS";
    pub const WORKER_TURNS: &str = "WORKER_TURNS";
    pub const LISTENER_GAUGES: &str = "LISTENER_GAUGES";
    pub const WORKER_GAUGES: &str = "WORKER_GAUGES";
    pub const THREADS: &str = "THREADS";
    pub const LOOK_OVER: &str = "LOOK_OVER";
    pub const LISTED_CONNECTIONS: &str = "LISTED_CONNECTIONS";
    /// Of aya-log.
    pub const LOG: &str = "AYA_LOGS";
}

/// Programs that read and change a connection's event word come twice: with atomic instructions
/// that return the old value, and without, for kernels before 5.12, which refuse them.
pub mod program {
    pub const SOCKET_STATE: &str = "socket_state";
    pub const SOCKET_STATE_PLAIN: &str = "socket_state_plain";
    /// Kernels before 6.1 run a raw tracepoint's program also within itself, and need no second.
    pub const SOCKET_STATE_AGAIN: &str = "socket_state_again";
    pub const SOCKET_STATE_AGAIN_TP: &str = "socket_state_again_tp";
    pub const DATA_READY: &str = "data_ready";
    pub const ACCEPT_EXIT: &str = "accept_exit";
    pub const ACCEPT_EXIT_PLAIN: &str = "accept_exit_plain";
    /// `inet_csk_accept` with two parameters: its result is argument 2.
    pub const TCP_ACCEPT_2: &str = "tcp_accept_2";
    /// `inet_csk_accept` with four parameters: its result is argument 4.
    pub const TCP_ACCEPT_4: &str = "tcp_accept_4";
    pub const TCP_ACCEPT_4_PLAIN: &str = "tcp_accept_4_plain";
    pub const UNIX_ACCEPT: &str = "unix_accept";
    /// Of turns.
    pub const DATA_READ: &str = "data_read";
    pub const DATA_WRITTEN: &str = "data_written";
    /// The same, where raw tracepoints can be preempted.
    pub const DATA_READ_TP: &str = "data_read_tp";
    pub const DATA_WRITTEN_TP: &str = "data_written_tp";
    /// Of turns, before Linux 6.3: exits of the kernel's functions of the same names.
    pub const INET_RECVMSG: &str = "inet_recvmsg";
    pub const INET6_RECVMSG: &str = "inet6_recvmsg";
    pub const INET_SENDMSG: &str = "inet_sendmsg";
    pub const INET6_SENDMSG: &str = "inet6_sendmsg";
    pub const INET_SENDPAGE: &str = "inet_sendpage";
    pub const POLL_ENTER: &str = "poll_enter";
    pub const EPOLL_CTL_ENTER: &str = "epoll_ctl_enter";
    pub const EPOLL_WAIT_ENTER: &str = "epoll_wait_enter";
    /// These are attached nowhere: user space runs them.
    pub const COUNT_TURNS: &str = "count_turns";
    pub const LIST_CONNECTIONS: &str = "list_connections";
    pub const LOOK: &str = "look";
    pub const RECONCILE: &str = "reconcile";
    pub const RECONCILE_PLAIN: &str = "reconcile_plain";
}
