//! The BPF programs: entry points only. Each names its attachment and makes one call.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "64-bit atomic instructions exist only as intrinsics"
    )
)]

#[cfg(target_arch = "bpf")]
mod accept;
#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod lifecycle;
#[cfg(target_arch = "bpf")]
mod listen;
#[cfg(target_arch = "bpf")]
mod look_over;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod reconcile;
#[cfg(target_arch = "bpf")]
mod seed;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod turn;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::{
        EbpfContext,
        macros::{fexit, raw_tracepoint, tracepoint},
        programs::{FExitContext, RawTracePointContext, TracePointContext},
    };
    use raindrops_ebpf::miss::Miss;

    use crate::{
        accept,
        atomic::{EventWord, Ordered, Plain},
        count, lifecycle, listen, look_over, reconcile,
        sock::Sock,
        turn,
    };

    /// Offset of `ret` in the record of a system call's exit, the same for all of them.
    const SYSCALL_RETURN: usize = 16;

    /// Offset of an argument in the record of a system call's entry, the same for all of them.
    const fn syscall_argument(index: usize) -> usize {
        16 + 8 * index
    }

    /// `inet_sock_set_state(sk, oldstate, newstate)`.
    #[raw_tracepoint(tracepoint = "inet_sock_set_state")]
    pub fn socket_state(ctx: RawTracePointContext) -> i32 {
        socket_state_changed::<Ordered>(&ctx)
    }

    #[raw_tracepoint(tracepoint = "inet_sock_set_state")]
    pub fn socket_state_plain(ctx: RawTracePointContext) -> i32 {
        socket_state_changed::<Plain>(&ctx)
    }

    /// Comes after `socket_state` and does what that could not.
    #[raw_tracepoint(tracepoint = "inet_sock_set_state")]
    pub fn socket_state_again(ctx: RawTracePointContext) -> i32 {
        let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
        let sock = Sock::new(ctx.arg(0));
        done(
            &ctx,
            lifecycle::state_changed_again::<Ordered>(sock, old, new),
        )
    }

    /// The same on the tracepoint proper. From Linux 7.0 raw tracepoints can be preempted, by any
    /// number of events; this one runs with preemption off.
    #[tracepoint(category = "sock", name = "inet_sock_set_state")]
    pub fn socket_state_again_tp(ctx: TracePointContext) -> u32 {
        // SAFETY: the record has the socket's address at 8 and both states at 16.
        let (sock, [old, new]) = unsafe { (field::<u64>(&ctx, 8), field::<[u32; 2]>(&ctx, 16)) };
        let sock = Sock::new(sock);
        done(
            &ctx,
            lifecycle::state_changed_again::<Ordered>(sock, old, new),
        ) as u32
    }

    /// `sk_data_ready(sk)`, Linux 6.3.
    #[raw_tracepoint(tracepoint = "sk_data_ready")]
    pub fn data_ready(ctx: RawTracePointContext) -> i32 {
        done(&ctx, listen::data_ready(Sock::new(ctx.arg(0))))
    }

    #[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
    pub fn accept_exit(ctx: TracePointContext) -> u32 {
        accept_returned::<Ordered>(&ctx)
    }

    #[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
    pub fn accept_exit_plain(ctx: TracePointContext) -> u32 {
        accept_returned::<Plain>(&ctx)
    }

    /// `inet_csk_accept(sk, arg)`, Linux 6.10: the result follows the two parameters.
    #[fexit(function = "inet_csk_accept")]
    pub fn tcp_accept_2(ctx: FExitContext) -> i32 {
        tcp_accepted::<Ordered>(&ctx, ctx.arg(2))
    }

    /// `inet_csk_accept(sk, flags, err, kern)`, before Linux 6.10.
    #[fexit(function = "inet_csk_accept")]
    pub fn tcp_accept_4(ctx: FExitContext) -> i32 {
        tcp_accepted::<Ordered>(&ctx, ctx.arg(4))
    }

    #[fexit(function = "inet_csk_accept")]
    pub fn tcp_accept_4_plain(ctx: FExitContext) -> i32 {
        tcp_accepted::<Plain>(&ctx, ctx.arg(4))
    }

    /// `unix_accept(sock, newsock, …)`. On failure `newsock` has no `sk`, so the result, whose
    /// place differs by version, need not be looked at.
    #[fexit(function = "unix_accept")]
    pub fn unix_accept(ctx: FExitContext) -> i32 {
        let Ok(child) = Sock::of_socket(ctx.arg(1)) else {
            return 0;
        };
        done(
            &ctx,
            Sock::of_socket(ctx.arg(0)).and_then(|sock| accept::unix(child, Some(sock))),
        )
    }

    /// `sock_recv_length(sk, ret, flags)`, Linux 6.3.
    #[raw_tracepoint(tracepoint = "sock_recv_length")]
    pub fn data_read(ctx: RawTracePointContext) -> i32 {
        let (result, flags): (i32, i32) = (ctx.arg(1), ctx.arg(2));
        done(&ctx, turn::read(Sock::new(ctx.arg(0)), result, flags))
    }

    /// `sock_send_length(sk, ret, flags)`, Linux 6.3.
    #[raw_tracepoint(tracepoint = "sock_send_length")]
    pub fn data_written(ctx: RawTracePointContext) -> i32 {
        done(&ctx, turn::written(Sock::new(ctx.arg(0)), ctx.arg(1)))
    }

    /// The same on the tracepoint proper, for kernels that preempt programs on raw ones.
    #[tracepoint(category = "sock", name = "sock_recv_length")]
    pub fn data_read_tp(ctx: TracePointContext) -> u32 {
        let (sock, [result, flags]) = transferred(&ctx);
        done(&ctx, turn::read(sock, result, flags)) as u32
    }

    #[tracepoint(category = "sock", name = "sock_send_length")]
    pub fn data_written_tp(ctx: TracePointContext) -> u32 {
        let (sock, [result, _]) = transferred(&ctx);
        done(&ctx, turn::written(sock, result)) as u32
    }

    /// `inet_recvmsg(sock, msg, size, flags)`: reads of IPv4 sockets, before Linux 6.3.
    #[fexit(function = "inet_recvmsg")]
    pub fn inet_recvmsg(ctx: FExitContext) -> i32 {
        socket_read(&ctx)
    }

    /// The same of IPv6 sockets.
    #[fexit(function = "inet6_recvmsg")]
    pub fn inet6_recvmsg(ctx: FExitContext) -> i32 {
        socket_read(&ctx)
    }

    /// `inet_sendmsg(sock, msg, size)`: writes of IPv4 sockets, before Linux 6.3.
    #[fexit(function = "inet_sendmsg")]
    pub fn inet_sendmsg(ctx: FExitContext) -> i32 {
        socket_written(&ctx, ctx.arg(3))
    }

    /// The same of IPv6 sockets.
    #[fexit(function = "inet6_sendmsg")]
    pub fn inet6_sendmsg(ctx: FExitContext) -> i32 {
        socket_written(&ctx, ctx.arg(3))
    }

    /// `inet_sendpage(sock, page, offset, size, flags)`: what `sendfile()` and `splice()` write to
    /// sockets of both families, before Linux 6.5.
    #[fexit(function = "inet_sendpage")]
    pub fn inet_sendpage(ctx: FExitContext) -> i32 {
        socket_written(&ctx, ctx.arg(5))
    }

    /// `poll(ufds, nfds, …)` and `ppoll(ufds, nfds, …)`.
    #[tracepoint(category = "syscalls", name = "sys_enter_poll")]
    pub fn poll_enter(ctx: TracePointContext) -> u32 {
        // SAFETY: the record has these arguments.
        let (descriptors, count) = unsafe {
            (
                field(&ctx, syscall_argument(0)),
                field(&ctx, syscall_argument(1)),
            )
        };
        turn::polled(descriptors, count);
        0
    }

    /// `epoll_ctl(epfd, op, fd, event)`.
    #[tracepoint(category = "syscalls", name = "sys_enter_epoll_ctl")]
    pub fn epoll_ctl_enter(ctx: TracePointContext) -> u32 {
        // SAFETY: the record has these arguments.
        let (operation, descriptor) = unsafe {
            (
                field(&ctx, syscall_argument(1)),
                field(&ctx, syscall_argument(2)),
            )
        };
        turn::registered(operation, descriptor);
        0
    }

    /// `epoll_wait()` and its kind.
    #[tracepoint(category = "syscalls", name = "sys_enter_epoll_wait")]
    pub fn epoll_wait_enter(_ctx: TracePointContext) -> u32 {
        turn::waits();
        0
    }

    /// Run by user space with `LOOK_OVER` saying how far.
    #[raw_tracepoint]
    pub fn count_turns(_ctx: RawTracePointContext) -> i32 {
        look_over::count();
        0
    }

    /// Run by user space with `LOOK_OVER` saying of which listener.
    #[raw_tracepoint]
    pub fn list_connections(_ctx: RawTracePointContext) -> i32 {
        look_over::list();
        0
    }

    /// Run by user space with how many of `LOOKS` to look at.
    #[raw_tracepoint]
    pub fn look(ctx: RawTracePointContext) -> i32 {
        reconcile::look(ctx.arg(0));
        0
    }

    /// Run by user space with the first of `LOOKS` being what an entry has missed, twice. Says there
    /// whether it has been made up for.
    #[raw_tracepoint]
    pub fn reconcile(ctx: RawTracePointContext) -> i32 {
        done(&ctx, reconcile::first::<Ordered>())
    }

    #[raw_tracepoint]
    pub fn reconcile_plain(ctx: RawTracePointContext) -> i32 {
        done(&ctx, reconcile::first::<Plain>())
    }

    #[inline(always)]
    fn socket_state_changed<E: EventWord>(ctx: &RawTracePointContext) -> i32 {
        let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
        done(
            ctx,
            lifecycle::state_changed::<E>(Sock::new(ctx.arg(0)), old, new),
        )
    }

    #[inline(always)]
    fn accept_returned<E: EventWord>(ctx: &TracePointContext) -> u32 {
        // SAFETY: every record of a system call's exit is at least that long.
        let result: i64 = unsafe { field(ctx, SYSCALL_RETURN) };
        if result < 0 {
            return 0;
        }
        done(ctx, accept::descriptor_returned::<E>(result)) as u32
    }

    /// A field of a tracepoint's record; the programs may read those without a helper.
    ///
    /// # Safety
    ///
    /// The record has a `T` at that offset.
    #[inline(always)]
    unsafe fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
        // SAFETY: the caller's.
        unsafe { ctx.as_ptr().byte_add(offset).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn tcp_accepted<E: EventWord>(ctx: &FExitContext, child: u64) -> i32 {
        if child == 0 {
            return 0;
        }
        done(
            ctx,
            accept::taken_from_queue::<E>(Sock::new(child), Sock::new(ctx.arg(0))),
        )
    }

    /// The socket, and the result and the flags of what was read from it or written to it.
    #[inline(always)]
    fn transferred(ctx: &TracePointContext) -> (Sock, [i32; 2]) {
        // SAFETY: the record has the socket's address at 8, the result at 20 and the flags at 24.
        let (sock, result, flags) = unsafe {
            (
                field::<u64>(ctx, 8),
                field::<i32>(ctx, 20),
                field::<i32>(ctx, 24),
            )
        };
        (Sock::new(sock), [result, flags])
    }

    /// The result of a read follows its four parameters, of which the last are the flags.
    #[inline(always)]
    fn socket_read(ctx: &FExitContext) -> i32 {
        match Sock::of_socket(ctx.arg(0)) {
            Ok(sock) => done(ctx, turn::read(sock, ctx.arg(4), ctx.arg(3))),
            Err(_) => 0,
        }
    }

    #[inline(always)]
    fn socket_written(ctx: &FExitContext, result: i32) -> i32 {
        match Sock::of_socket(ctx.arg(0)) {
            Ok(sock) => done(ctx, turn::written(sock, result)),
            Err(_) => 0,
        }
    }

    #[inline(always)]
    fn done(ctx: &impl EbpfContext, result: Result<(), Miss>) -> i32 {
        if let Err(miss) = result {
            count::missed(miss);
            aya_log_ebpf::debug!(ctx, "event not counted, reason {}", miss as u32);
        }
        0
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
