//! Totals on real servers equal the connections made, and add up.

use std::path::Path;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Place, User},
    load,
    lookup::{accepts_by_workers, connections, listeners},
    netns,
    servers::{Server, nginx, puma, rainbows, unicorn},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::View;

const TCP_CONNECTIONS: usize = 2_000;
const UNIX_CONNECTIONS: usize = 500;

/// Figures of an address, all members of a group together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    accepts: u64,
    active: u64,
    half_closed: u64,
    closes: u64,
    aborted: u64,
    waits: u64,
    wait_unknown: u64,
    lifetimes: u64,
}

impl Totals {
    /// `None` while a figure is missing that BPF knows.
    fn of(view: &View, address: &str) -> Option<Self> {
        let mut totals = Self::default();
        for row in listeners(view, address) {
            let groups = row.connections.as_ref()?;
            totals.accepts += groups.accepts?;
            totals.active += groups.active?;
            totals.wait_unknown += groups.wait_unknown?;
            if row.protocol == "tcp" {
                totals.half_closed += groups.half_closed?;
                totals.closes += groups.closes?;
                totals.aborted += groups.aborted?;
                totals.waits += groups.wait.as_ref()?.count;
                totals.lifetimes += groups.lifetime.as_ref()?.count;
            }
        }
        Some(totals)
    }

    fn is_at_rest(&self) -> bool {
        self.active == 0 && self.half_closed == 0
    }
}

/// What is expected of an address.
struct Load {
    address: String,
    made: u64,
    before: Totals,
}

impl Load {
    fn is_seen(&self, view: &View) -> bool {
        Totals::of(view, &self.address).is_some_and(|totals| {
            totals.accepts >= self.before.accepts + self.made && totals.is_at_rest()
        })
    }

    /// Held against what the clients made, not against each other: the daemon derives some figures
    /// from others.
    fn check(&self, view: &View) -> Result<()> {
        let Self {
            address,
            made,
            before,
        } = self;
        let totals = Totals::of(view, address).context("a figure is missing")?;
        let is_tcp = !address.starts_with('/');
        let per_connection = if is_tcp { *made } else { 0 };
        let expected = Totals {
            accepts: before.accepts + made,
            closes: before.closes + per_connection,
            waits: before.waits + per_connection,
            lifetimes: before.lifetimes + per_connection,
            wait_unknown: if is_tcp { 0 } else { totals.wait_unknown },
            ..Totals::default()
        };
        assert_eq!(totals, expected, "{address}");
        for row in listeners(view, address) {
            let groups = connections(row)?;
            let by_workers = accepts_by_workers(view, row);
            assert_eq!(groups.accepts, Some(by_workers), "{address}: workers");
            for histogram in [&groups.wait, &groups.lifetime].into_iter().flatten() {
                let buckets = histogram
                    .buckets
                    .as_ref()
                    .context("buckets were asked for")?;
                let sum: u64 = buckets.iter().map(|(_, count)| count).sum();
                assert_eq!(sum, histogram.count, "{address}: {histogram:?}");
            }
            if is_tcp {
                assert_identities(address, groups);
            }
        }
        Ok(())
    }
}

fn check(started: &Server, tcp: usize) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    daemon::expect_bpf(&daemon.view()?)?;
    let tcp: Vec<_> = started.tcp[..tcp]
        .iter()
        .map(|address| (address.to_string(), TCP_CONNECTIONS))
        .collect();
    let unix = started.unix.iter();
    let unix = unix.map(|path| (path.display().to_string(), UNIX_CONNECTIONS));
    let wanted: Vec<_> = tcp.into_iter().chain(unix).collect();
    // The server was asked whether it serves, and those connections may still be closing.
    let before = daemon.until("a server at rest", |view| {
        wanted
            .iter()
            .all(|(address, _)| Totals::of(view, address).is_some_and(|totals| totals.is_at_rest()))
    })?;
    let loads = wanted.into_iter().map(|(address, made)| {
        if let Ok(address) = address.parse() {
            load::tcp(address, made)?;
        } else {
            load::unix(Path::new(&address), made)?;
        }
        let before = Totals::of(&before, &address).context("a figure is missing")?;
        Ok(Load {
            address,
            made: made as u64,
            before,
        })
    });
    let loads: Vec<Load> = loads.collect::<Result<_>>()?;

    let loaded = wait::monotonic_ns();
    daemon.until("all accepts, and no active connection", |view| {
        loads
            .iter()
            .all(|load| load.is_seen(view) && active_is_newer(view, &load.address, loaded))
    })?;
    let view = daemon.view_with_buckets()?;
    for load in &loads {
        load.check(&view)?;
    }
    let of_listeners: u64 = view
        .listeners
        .iter()
        .filter_map(|row| Some(row.connections.as_ref()?.wait.as_ref()?.count))
        .sum();
    let of_workers: u64 = view
        .workers
        .iter()
        .filter_map(|worker| Some(worker.wait.as_ref()?.count))
        .sum();
    assert_eq!(of_workers, of_listeners, "waits of all workers");
    Ok(())
}

/// Whether `active`, which is read seldom for unix listeners, was read after `at`.
fn active_is_newer(view: &View, address: &str, at: u64) -> bool {
    listeners(view, address).iter().all(|row| {
        let age = row.connections.as_ref().and_then(|it| it.active_age_ms);
        row.protocol == "tcp" || age.is_some_and(|age| wait::before_ns(view.monotonic_ns, age) > at)
    })
}

/// What the view promises for any view.
fn assert_identities(address: &str, groups: &raindrops_user::view::Connections) {
    let known = |figure: Option<u64>| figure.expect("BPF knows every figure of a TCP listener");
    let accepts = known(groups.accepts);
    let wait = groups.wait.as_ref().expect("a histogram of waits");
    assert_eq!(
        wait.count,
        accepts - known(groups.late_accepts) - known(groups.wait_unknown),
        "{address}: waits"
    );
    assert_eq!(
        known(groups.seeded) + accepts,
        known(groups.active) + known(groups.half_closed) + known(groups.closes),
        "{address}: connections"
    );
    assert!(groups.complete, "{address}: complete");
}

/// Check unicorn's totals.
#[test]
fn unicorn_totals() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| check(&unicorn::start()?, 3))
}

/// Check the totals of a puma cluster.
#[test]
fn puma_totals() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| check(&puma::start()?, 1))
}

/// Check the totals of Rainbows! with XEpollThreadPool.
#[test]
fn rainbows_totals() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("rainbows")]) {
        return Ok(());
    }
    netns::in_new(|| check(&rainbows::start()?, 1))
}

/// Check nginx's totals, summed over the members of its group.
#[test]
fn nginx_totals() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| check(&nginx::start()?, 1))
}
