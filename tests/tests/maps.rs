//! What the programs keep in the kernel.

use std::net::TcpListener;

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Place, User},
    listening, netns,
    skip::{self, Need, can_run},
};

const LISTENERS: usize = 64;

/// Check that the maps of a small host take at most 4 MB while no connection is open.
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
        assert!(bytes > 0 && bytes <= 4_000_000, "{bytes}");
        let doctor = daemon::raindrops(["doctor", "--socket", &daemon.socket().to_string_lossy()])?;
        let shown = String::from_utf8(doctor.stdout)?;
        assert!(shown.contains("its maps take"), "{shown}");
        Ok(())
    })
}
