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
/// What turns may add.
const TURNS_MB: u64 = 2;

/// Check that the maps of a small host take at most 4 MB while no connection is open, more where
/// memory is taken at once, and that nothing is said where the kernel does not tell.
#[test]
fn idle_maps_are_small() -> Result<()> {
    idle_maps_take(0, &["--turns", "off"])
}

/// Check the same while turns are followed.
#[test]
fn idle_maps_of_turns_are_small() -> Result<()> {
    idle_maps_take(TURNS_MB, &["--turns", "on"])
}

fn idle_maps_take(more_mb: u64, arguments: &[&str]) -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let _listening = (0..LISTENERS)
            .map(|_| listening::tcp(16))
            .collect::<Result<Vec<TcpListener>>>()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, arguments)?;
        let view = daemon.view()?;
        daemon::expect_bpf(&view)?;
        if view.host.cpus > 2 {
            skip::report("this host cannot: it has more than 2 CPUs");
            return Ok(());
        }
        let bytes = daemon::source(&view, "bpf")?.detail.get("map_bytes");
        let doctor = daemon::raindrops(["doctor", "--socket", &daemon.socket().to_string_lossy()])?;
        let doctor = String::from_utf8(doctor.stdout)?;
        assert_eq!(
            doctor.contains("its maps take"),
            bytes.is_some(),
            "{doctor}"
        );
        let Some(limit) = ability::idle_maps_mb()? else {
            assert_eq!(bytes, None);
            return state(more_mb, "not told by the kernel");
        };
        let limit = limit + more_mb;
        let bytes: u64 = bytes.context("no map_bytes")?.parse()?;
        assert!(bytes > 0 && bytes <= limit * MB, "{bytes}");
        state(more_mb, &format!("at most {limit} MB"))
    })
}

/// The fact is that of the daemon without options.
fn state(more_mb: u64, fact: &str) -> Result<()> {
    if more_mb == 0 {
        return Ok(());
    }
    ability::state("memory of all maps, idle", fact)
}
