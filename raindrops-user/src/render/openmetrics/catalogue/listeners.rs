//! Families of listeners.

use super::{Family, LISTENER, LISTENER_PHASE, MEMBER, Of, Type};
use crate::render::openmetrics::sample::Sample;

const OFF: &str = "without the source";
const TCP_AND_BPF: &str = "without BPF, and for unix listeners";

pub(super) const FAMILIES: [Family; 20] = [
    gauge(
        "raindrops_listener_queued",
        "Connections that are complete and not yet accepted.",
        "sock_diag",
        OFF,
        |it| Sample::count(it.levels.queued?),
    ),
    gauge(
        "raindrops_listener_queue_limit",
        "The queue is full, and what comes is dropped, while more than that are queued.",
        "sock_diag",
        "where only /proc/net serves",
        |it| Sample::count(it.levels.limit?),
    ),
    gauge(
        "raindrops_listener_queue_peak",
        "Longest queue since the daemon started, or since peaks were reset.",
        "sock_diag, BPF",
        "for several sockets: their peaks need not have been at one time",
        |it| Sample::count(it.levels.peak?),
    ),
    Family {
        name: "raindrops_member_queued",
        kind: Type::Gauge,
        unit: None,
        help: "Connections in the queue of one of several sockets that share an address.",
        labels: MEMBER,
        source: "sock_diag",
        absent: "where one socket has the address alone, and where there are too many (raindrops_series_left_out)",
        of: Of::Member,
    },
    gauge(
        "raindrops_listener_active",
        "Connections that are accepted and established.",
        "BPF; of unix listeners sock_diag",
        OFF,
        |it| Sample::count(it.levels.active?),
    ),
    gauge(
        "raindrops_listener_half_closed",
        "Accepted connections that the client has closed and the server has not.",
        "BPF",
        TCP_AND_BPF,
        |it| Sample::count(it.levels.half_closed?),
    ),
    counter(
        "raindrops_listener_overflows",
        "Handshake segments dropped because the queue was full, retries included.",
        "sock_diag and /proc/net/netstat",
        "for unix listeners, and where one of the two is off",
        |it| Sample::count(it.totals.overflows?),
    ),
    counter(
        "raindrops_listener_drops",
        "All that the kernel dropped at the listener: with TCP_DEFER_ACCEPT also one for each \
         healthy connection.",
        "sock_diag",
        "for unix listeners",
        |it| Sample::count(it.totals.drops?),
    ),
    counter(
        "raindrops_listener_accepts",
        "Connections that were accepted.",
        "BPF",
        OFF,
        |it| Sample::count(it.totals.accepts?),
    ),
    counter(
        "raindrops_listener_late_accepts",
        "Accepts that no program saw and that were found later; they are in accepts.",
        "BPF",
        OFF,
        |it| Sample::count(it.totals.late_accepts?),
    ),
    counter(
        "raindrops_listener_closes",
        "Accepted connections that have ended.",
        "BPF",
        TCP_AND_BPF,
        |it| Sample::count(it.totals.closes?),
    ),
    counter(
        "raindrops_listener_aborted",
        "Connections that ended in the queue, before anybody accepted them.",
        "BPF",
        TCP_AND_BPF,
        |it| Sample::count(it.totals.aborted?),
    ),
    counter(
        "raindrops_listener_turns",
        "Turns begun: from reading fresh data to the end of its answer.",
        "BPF",
        "where turns are not seen, or are turned off",
        |it| Sample::count(it.totals.turns?),
    ),
    Family {
        name: "raindrops_listener_turns_in_phase",
        kind: Type::Gauge,
        unit: None,
        help: "Connections by what is done with them: blocked is a part of writing.",
        labels: LISTENER_PHASE,
        source: "BPF",
        absent: "each phase for itself, where it is not known",
        of: Of::ListenerPhase,
    },
    gauge_of_seconds(
        "raindrops_listener_oldest_turn_seconds",
        "Age of the oldest turn.",
        "BPF",
        "while there is no turn",
        |it| Sample::micros(it.levels.oldest_us?),
    ),
    histogram(
        "raindrops_listener_accept_wait_seconds",
        "Time in the accept queue: from established to the return of accept.",
        "BPF",
        "without BPF, and for unix listeners where the kernel does not tell of arrivals",
        |it| it.spread(|totals| totals.wait.as_ref()),
    ),
    histogram(
        "raindrops_listener_lifetime_seconds",
        "From established to the server's close or the reset.",
        "BPF",
        TCP_AND_BPF,
        |it| it.spread(|totals| totals.lifetime.as_ref()),
    ),
    histogram(
        "raindrops_listener_read_wait_seconds",
        "From the later of data and accept to the first read.",
        "BPF",
        "where turns are not seen, or the kernel does not tell when data comes",
        |it| it.spread(|totals| totals.read_wait.as_ref()),
    ),
    histogram(
        "raindrops_listener_answer_seconds",
        "From the first read of a turn to the first write: the server's time to the first byte.",
        "BPF",
        "where turns are not seen, or are turned off",
        |it| it.spread(|totals| totals.answer.as_ref()),
    ),
    histogram(
        "raindrops_listener_write_seconds",
        "From the first write of an answer to the last.",
        "BPF",
        "where turns are not seen, or are turned off",
        |it| it.spread(|totals| totals.write.as_ref()),
    ),
];

type Figure = fn(&super::Series<'_>) -> Option<Sample>;

const fn gauge(
    name: &'static str,
    help: &'static str,
    source: &'static str,
    absent: &'static str,
    figure: Figure,
) -> Family {
    Family {
        name,
        kind: Type::Gauge,
        unit: None,
        help,
        labels: LISTENER,
        source,
        absent,
        of: Of::Listener(figure),
    }
}

const fn gauge_of_seconds(
    name: &'static str,
    help: &'static str,
    source: &'static str,
    absent: &'static str,
    figure: Figure,
) -> Family {
    Family {
        unit: Some("seconds"),
        ..gauge(name, help, source, absent, figure)
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    source: &'static str,
    absent: &'static str,
    figure: Figure,
) -> Family {
    Family {
        kind: Type::Counter,
        ..gauge(name, help, source, absent, figure)
    }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    source: &'static str,
    absent: &'static str,
    figure: Figure,
) -> Family {
    Family {
        kind: Type::Histogram,
        ..gauge_of_seconds(name, help, source, absent, figure)
    }
}
