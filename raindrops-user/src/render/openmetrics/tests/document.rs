//! docs/metrics.md, made of the catalogue.

use std::{fmt::Write as _, fs, path::Path};

use crate::render::openmetrics::{Family, PARTS, Type, spread::BOUNDS_US};

/// What the catalogue does not say.
const INTRODUCTION: &str = "\
# Metrics

<!-- Made of the catalogue in raindrops-user/src/render/openmetrics: UPDATE_GOLDEN=1 cargo test -p raindrops-user --lib document -->

`GET /metrics` on the daemon's socket, and on TCP with `--listen-tcp`, answers in OpenMetrics 1.0; in Prometheus's own text format 0.0.4 where `Accept` names `text/plain` and not OpenMetrics. `--textfile DIR` writes the latter to `DIR/raindrops.prom` every 15 seconds, for node_exporter's collector: not while the figures are over 10 s old because the sampler hangs, so that `node_textfile_mtime_seconds` tells how old they are, as `raindrops_view_timestamp_seconds` does in both. `raindrops show --format openmetrics` prints the former; of LISTENERs that it is told, without what sockets have counted that are gone.

`contrib/prometheus` has a job to scrape it, recording rules and alerts, `contrib/grafana` a dashboard for many hosts. Rates and increases of the rules are over five minutes, so that a scrape every two minutes or more often is enough; the dashboard's follow the scrape interval that Grafana's data source is told (15 seconds unless set).

## Series

* What is not known has no line. 0 means that it is known to be 0.
* A listener is one series for each network namespace, protocol and address. Several sockets on one address are summed (SO_REUSEPORT; a unix path that was bound anew): a sum has a line only while all its parts are known. Peaks are not summed.
* Counters do not fall while their series lives. When one of several sockets closes, its last figures stay in the sum, but for what it counted after the last view, of which there is at least one a second. Of each address 64 such sockets, and 2,048 of all, are told apart for five minutes: one that a reading has missed and that is back in that time is not counted twice. An address whose sockets all closed goes on with its sums if it is back within five minutes. A socket that was shut down and listens again counts from 0 in the view; its series goes on from where it was, but begins anew where a view came in between. The series of a socket that was alone ends with it; the next one begins at 0. What the daemon has counted ends with the daemon.
* Overflows of a socket count from its first `listen()` where the daemon saw it come, and from the daemon's first look at it where it was there before. The first value of a series can still be any, and of any time since: Prometheus may have been started later, or the series is new because `service` or `container` became known, or had been left out. So the alert on drops takes `increase()`, not the value: an old overflow is no news. What a new address drops before its first scrape, and never again, alerts nobody; `raindrops show` has it.
* Worker series end with the worker. Only they have a pid. They have no `comm`, which a process may change at each scrape; `service` and `kind` of a server follow its title only where no unit names it.
* A histogram of a unix listener has lines from when it has counted something, because most unix listeners of a host never do: no line is no 0 here, and `rate()` misses the first observations. Those of TCP listeners are there from the start.
* Histograms of durations have the same bounds everywhere. Each is also a bound of the histograms that the kernel half keeps, so counts are exact; a duration that is exactly a bound, to the nanosecond, counts as above it.

### What has series

Any user may bind sockets and start processes. So at most 500 listeners (addresses) have series, `--metrics-listeners` others: those of servers of a known kind first, then TCP, then those that have been used (something was accepted, is open or has waited), then the rest. Of equals those come first that have series already, then in the order of namespace, protocol and address. A listener does not fall behind while it has series, so that these do not come and go; when one that comes first takes its place, they end, and begin again with what its sockets have counted.

Workers have series where one of their listeners has, twice as many at most, in the same order; servers where one of their listeners or workers has. Sockets that share an address have lines of their own (`raindrops_member_queued`) where there are not too many: four times as many at most, whole addresses in the same order.

`raindrops_series_left_out` says how many have none. Above 0, sums over series are not those of the host; `contrib` has an alert. `raindrops show` and `/v1/view` have all.

| label | meaning |
|---|---|
| `address`, `protocol` | as in the view: `127.0.0.1:8080`, `[::]:80`, `/run/app.sock`, `@abstract`; `tcp`, `unix` |
| `netns` | name of the network namespace; empty for the daemon's own; `net:[INODE]` for one without a name; both where two have one name |
| `container` | of the workers; empty where there is none |
| `service` | the systemd unit of the workers, else their server's kind (`unicorn`, `nginx`), else empty. Where several units serve one address, the first in the alphabet. It stays while no worker is there to say it |
| `member` | number of one of several sockets on an address, from 0 on, by inode: the others move up when one closes |
| `phase` | `waiting` (data is there, no thread works on it), `reading` (the rest of the request is waited for), `calling` (the application works on it), `writing` (the answer is sent), `blocked` (part of `writing`: the client does not take it). Where ends of answers are not seen (`--turns light`), `writing` includes idle keep-alive connections |
| `pid`, `index` | of the worker; the server's own number of it, empty where it has none. It stays the first that was told |
| `kind` | of the server. Servers of one kind that one unit runs are one series: workers are summed, and the skew is the greatest |
| `server` | id of the worker's server in the view, its pid in it |
| `of` | `listeners`, `workers`; `members`: addresses whose sockets have no lines of their own |
| `slab`, `field` | names that the application chose. Slabs of one name in one service are summed. What one has counted stays in the sum when it ends, while there is another or as soon as there is one again; its gauges and maxima do not. At most 512 that are gone are told apart for a quarter of an hour, so that one that a reading has missed is not counted twice; where more end in that time, or they have more than 32,768 numbers, sums fall by what the first of them counted |
| `what` | code of the gap, as in `gaps[]` of the view. The most that was missing at one time since the daemon started |

";

#[test]
fn document_is_that_of_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let first = text.lines().find(|line| !written.contains(line));
    assert!(
        written == text,
        "UPDATE_GOLDEN=1 writes docs/metrics.md; new is {first:?}"
    );
}

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let bounds: Vec<String> = BOUNDS_US
        .iter()
        .map(|micros| (*micros as f64 / 1e6).to_string())
        .collect();
    let _ = writeln!(text, "Bounds in seconds: {}.", bounds.join(", "));
    for part in PARTS {
        let _ = writeln!(text, "\n## {}\n", part.title);
        for labels in distinct_labels(part.families) {
            let names: Vec<String> = labels.iter().map(|it| format!("`{it}`")).collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            let _ = writeln!(text, "Labels: {names}.\n");
            text.push_str("| lines | type, unit | meaning | source | no line |\n");
            text.push_str("|---|---|---|---|---|\n");
            for family in part.families.iter().filter(|it| it.labels == labels) {
                text.push_str(&row(family));
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// In the order in which they come first.
fn distinct_labels(families: &[Family]) -> Vec<&[&'static str]> {
    let mut distinct: Vec<&[&str]> = Vec::new();
    for family in families {
        if !distinct.contains(&family.labels) {
            distinct.push(family.labels);
        }
    }
    distinct
}

fn row(family: &Family) -> String {
    let kind = match family.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
        Type::Info => "info",
    };
    let unit = family.unit.map(|it| format!(", {it}")).unwrap_or_default();
    let lines = match family.kind {
        Type::Histogram => format!("`{}`", family.name),
        _ => format!("`{}`", family.lines()[0]),
    };
    format!(
        "| {lines} | {kind}{unit} | {} | {} | {} |\n",
        family.help, family.source, family.absent
    )
}
