//! Counters against what was done, and series that end.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{self, Place, User},
    listening, load, netns, processes,
    prometheus::{Found, Prometheus, get, scrape, values},
    servers::unicorn,
    skip::{Need, can_run},
    wait,
};
use rustix::process::Signal;

const REQUESTS: usize = 300;

/// Check accepts of a listener and of its workers against the clients' count, that a worker's series
/// end with it, and that promtool finds nothing to say about the text.
#[test]
fn accepts_are_the_clients_and_workers_end() -> Result<()> {
    let needs = [
        Need::Root,
        Need::Bpf,
        Need::Program("unicorn"),
        Need::Program("prometheus"),
    ];
    if !can_run(&needs) {
        return Ok(());
    }
    netns::in_new(|| {
        let unicorn = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &super::LISTEN)?;
        daemon::expect_bpf(&daemon.view()?)?;
        let address = format!("address=\"{}\"", unicorn.tcp[0]);
        let labels = [address.as_str()];
        let counts = || -> Result<(f64, f64, f64)> {
            let text = scrape(super::daemon())?;
            let one = |name: &str| values(&text, name, &labels).first().copied();
            let workers = values(&text, "raindrops_worker_accepts_total", &["index=\""]);
            // The daemon itself is one, and has none.
            Ok((
                one("raindrops_listener_accepts_total").context("no accepts")?,
                one("raindrops_listener_accept_wait_seconds_count").context("no waits")?,
                workers.iter().sum(),
            ))
        };
        let before = unicorn_accepts(&unicorn.workers())?;
        let (accepts, waits, _) = counts()?;
        load::tcp(unicorn.tcp[0], REQUESTS)?;
        let more = REQUESTS as f64;
        wait::until("every request", || {
            let now = counts()?;
            Ok(((now.0, now.1) == (accepts + more, waits + more)).then_some(()))
        })?;
        let by_workers = unicorn_accepts(&unicorn.workers())?;
        assert_eq!(by_workers, before + more);

        let text = scrape(super::daemon())?;
        let mut lint = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        lint.stdin
            .take()
            .context("a pipe")?
            .write_all(text.as_bytes())?;
        let said = lint.wait_with_output()?;
        let words = [said.stdout, said.stderr].concat();
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&words));
        assert_eq!(String::from_utf8_lossy(&words), "");
        let open = get(
            super::daemon(),
            "/metrics",
            "Accept: application/openmetrics-text\r\n",
        )?;
        assert!(
            open.head.contains("application/openmetrics-text"),
            "{}",
            open.head
        );
        assert!(open.body.ends_with("# EOF\n"));

        let prometheus = Prometheus::start(&[super::daemon()])?;
        let killed = unicorn.workers()[0];
        let of = |pid: u32| format!("{{__name__=~\"raindrops_worker.*\",pid=\"{pid}\"}}");
        let is_there = |found: &[Found]| !found.is_empty();
        prometheus.until(wait::CEILING, &of(killed), is_there)?;
        processes::signal(killed, Signal::KILL)?;
        let next = wait::until("another worker", || {
            let workers = unicorn.workers();
            let is_new = workers.len() == 2 && !workers.contains(&killed);
            Ok(is_new.then(|| workers[1]))
        })?;
        load::tcp(unicorn.tcp[0], 8)?;
        prometheus.until(wait::CEILING * 2, &of(killed), <[Found]>::is_empty)?;
        prometheus.until(wait::CEILING * 2, &of(next), is_there)?;
        Ok(())
    })
}

/// What the daemon says that some processes have accepted.
fn unicorn_accepts(pids: &[u32]) -> Result<f64> {
    let text = scrape(super::daemon())?;
    let each = pids.iter().map(|pid| {
        let label = format!("pid=\"{pid}\"");
        let found = values(&text, "raindrops_worker_accepts_total", &[&label]);
        found.first().copied().context(label)
    });
    each.sum()
}

/// Check that members of a group are one series that does not fall when one of them closes.
#[test]
fn a_group_is_one_series_and_goes_on() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let mut members = listening::group(2, 64)?;
        let address = members[0].local_addr()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &super::LISTEN)?;
        daemon::expect_bpf(&daemon.view()?)?;
        let label = format!("address=\"{address}\"");
        for member in &members {
            member.set_nonblocking(true)?;
        }
        let mut served = 0;
        let clients: Vec<_> = (0..40)
            .map(|_| listening::client(address))
            .collect::<Result<_>>()?;
        wait::until("all to be accepted", || {
            for member in &members {
                while member.accept().is_ok() {
                    served += 1;
                }
            }
            Ok((served == clients.len()).then_some(()))
        })?;
        let total = |name: &str| -> Result<Vec<f64>> {
            Ok(values(&scrape(super::daemon())?, name, &[&label]))
        };
        let accepts = || total("raindrops_listener_accepts_total");
        wait::until("all in one line", || {
            Ok((accepts()? == [clients.len() as f64]).then_some(()))
        })?;
        assert_eq!(total("raindrops_member_queued")?, [0.0, 0.0]);
        drop(members.pop());
        daemon.until("one member", |view| {
            let there = view.listeners.iter();
            there.filter(|it| it.address == address.to_string()).count() == 1
        })?;
        assert_eq!(accepts()?, [clients.len() as f64]);
        assert_eq!(
            total("raindrops_listener_accept_wait_seconds_count")?,
            [clients.len() as f64]
        );
        assert_eq!(total("raindrops_member_queued")?, [0.0; 0]);
        Ok(())
    })
}
