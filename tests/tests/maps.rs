//! What the programs keep in the kernel.

use std::net::TcpListener;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    ability,
    daemon::{self, Place, User},
    listening, netns,
    skip::{self, Need, can_run},
};

const LISTENERS: usize = 64;

/// Of what the maps of an idle host may take.
const MB: u64 = 1_000_000;

/// Check that the maps of a small host take at most 4 MB while no connection is open; more where
/// memory is taken at once, and without a limit where the kernel does not tell what is taken.
#[test]
fn idle_maps_are_small() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let _listening = (0..LISTENERS)
            .map(|_| listening::tcp(16))
            .collect::<Result<Vec<TcpListener>>>()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let view = daemon.view()?;
        daemon::expect_bpf(&view)?;
        if view.host.cpus > 2 {
            skip::report("this host cannot: it has more than 2 CPUs");
            return Ok(());
        }
        let detail = &daemon::source(&view, "bpf")?.detail;
        let bytes: u64 = detail.get("map_bytes").context("no map_bytes")?.parse()?;
        let limit = ability::idle_maps_mb()?;
        assert!(bytes > 0, "the maps take memory");
        assert!(limit.is_none_or(|limit| bytes <= limit * MB), "{bytes}");
        let doctor = daemon::raindrops(["doctor", "--socket", &daemon.socket().to_string_lossy()])?;
        let shown = String::from_utf8(doctor.stdout)?;
        assert!(shown.contains("its maps take"), "{shown}");
        let value = limit.map_or_else(
            || "not told by the kernel".to_owned(),
            |limit| format!("at most {limit} MB"),
        );
        ability::state("memory of all maps, idle", &value)
    })
}
