//! What the programs could not count, in words.

use raindrops_ebpf::miss::Miss;

use crate::{snapshot::BpfSnapshot, view::Gap};

/// Events that the programs could not count, as gaps. An accept of a connection that was reset in
/// the queue is none by definition, so it is not missing.
pub(super) fn missed(bpf: &BpfSnapshot) -> impl Iterator<Item = Gap> {
    bpf.misses.iter().filter_map(|(miss, count)| {
        let (what, text, hint) = match miss {
            Miss::ConnectionsFull => (
                "map-full",
                "connections not tracked: map full",
                "raise --max-connections",
            ),
            Miss::ListenersFull => (
                "listeners-full",
                "listeners not counted: no free row",
                "restart the daemon: it makes room for twice the listeners that it finds",
            ),
            Miss::WorkersFull => (
                "workers-full",
                "accepts not attributed to a worker: no free row",
                "there are over 4096 pairs of worker and listener",
            ),
            Miss::NoListener => (
                "no-listener",
                "accepts or connections not counted: their listener is not known",
                "restart the daemon if it keeps rising",
            ),
            Miss::UntrackedAccept => (
                "untracked-accept",
                "accepts not counted: the connection was not tracked",
                "see map-full; otherwise they are older than the daemon",
            ),
            Miss::ResetBeforeAccept => return None,
            Miss::UnreadableDescriptor => (
                "unreadable-descriptor",
                "accepts not counted: the descriptor was gone when it was looked at",
                "a thread that closes descriptors of others; the count says how many are missing",
            ),
            Miss::UnreadableSocket => (
                "unreadable-socket",
                "events not counted: kernel memory could not be read",
                "report this with the kernel's version",
            ),
            Miss::OtherProtocol => (
                "other-protocol",
                "accepts not counted: MPTCP or SCTP",
                "these protocols are not followed",
            ),
            Miss::StaleListener => (
                "stale-listener",
                "events not counted: their listener was gone",
                "none: the connections outlived their listener's row",
            ),
            Miss::ThreadsFull => (
                "threads-full",
                "threads of workers that are not known: no room; calling and waiting may be wrong",
                "there are over 8192 threads that read or answer",
            ),
            Miss::LeftToAnother => (
                "left-to-another",
                "accepts of connections that a closing listener left to another of its group \
                 (net.ipv4.tcp_migrate_req): counted on one of those that share the address, or \
                 on the one that is gone",
                "with --accept-hook fexit, where the kernel lets it load, they are told apart",
            ),
        };
        Some(Gap {
            what: what.to_owned(),
            text: text.to_owned(),
            count: *count,
            hint: hint.to_owned(),
            ..Gap::default()
        })
    })
}

/// Accepts that no program saw.
pub(super) fn skipped(bpf: &BpfSnapshot) -> Option<Gap> {
    (bpf.skipped_accepts != 0).then(|| Gap {
        what: "accepts-skipped".to_owned(),
        text: "accepts that the kernel did not report, being busy with another on that CPU: \
               missing from unix listeners and from workers, late on TCP listeners"
            .to_owned(),
        count: bpf.skipped_accepts,
        hint: "kernels since 7.0 do this; the count says how many are missing".to_owned(),
        ..Gap::default()
    })
}
