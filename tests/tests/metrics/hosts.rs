//! Two daemons in two network namespaces, as two hosts on one Prometheus.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{Place, User},
    netns::{self, Inhabited, ip},
    prometheus::Prometheus,
    same_address::{connect, listen},
    skip::{Need, can_run},
    wait::CEILING,
};

/// Check that the same address on two hosts is two series, each with its own figures.
#[test]
fn two_hosts_on_one_prometheus() -> Result<()> {
    let needs = [Need::Root, Need::Program("ip"), Need::Program("prometheus")];
    if !can_run(&needs) {
        return Ok(());
    }
    netns::in_new(|| {
        let mut hosts = Vec::new();
        for (number, queued) in [(1u8, 2usize), (2, 3)] {
            let host = Inhabited::unnamed()?;
            let pid = host.pid().context("its process")?.to_string();
            let link = format!("host{number}");
            let address = SocketAddr::from(([10, 77, number, 2], super::PORT));
            ip(&[
                "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid,
            ])?;
            ip(&[
                "address",
                "add",
                &format!("10.77.{number}.1/24"),
                "dev",
                &link,
            ])?;
            ip(&["link", "set", &link, "up"])?;
            host.enter(|| {
                ip(&[
                    "address",
                    "add",
                    &format!("10.77.{number}.2/24"),
                    "dev",
                    "eth0",
                ])?;
                ip(&["link", "set", "eth0", "up"])
            })?;
            let listener = host.enter(listen)?;
            let waiting = host.enter(|| connect(queued))?;
            let place = Place::new()?;
            let typed = address.to_string();
            let arguments = ["--listen-tcp", &typed, "--allow-remote"];
            let daemon = host.enter(|| place.start(User::Same, &arguments))?;
            daemon.until_logged("allow_remote: whoever reaches 10.77.")?;
            hosts.push((address, queued, (host, listener, waiting, place, daemon)));
        }
        let targets: Vec<SocketAddr> = hosts.iter().map(|(address, ..)| *address).collect();
        let prometheus = Prometheus::start(&targets)?;
        for (address, queued, _) in &hosts {
            let queue = format!(
                "raindrops_listener_queued{{instance=\"{address}\",address=\"127.0.0.1:18080\",netns=\"\"}}"
            );
            prometheus.until(CEILING, &queue, |found| {
                found.len() == 1 && found[0].value == *queued as f64
            })?;
        }
        let sum = "sum(raindrops_listener_queued{address=\"127.0.0.1:18080\"})";
        let found = prometheus.query(sum)?;
        assert_eq!(found.first().map(|it| it.value), Some(5.0));
        Ok(())
    })
}
