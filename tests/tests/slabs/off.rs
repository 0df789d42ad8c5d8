//! Slabs that are not to be inferred.

use std::fs;

use anyhow::Result;
use raindrops_tests::{
    client::{self, Address},
    daemon::{Place, User},
    netns,
    servers::{nginx, unicorn},
    skip::{Need, can_run},
    slabs,
};

/// Check that a line in the configuration is enough, and that it is what makes the difference.
#[test]
fn none_is_shown() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn"), Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let (unicorn, nginx) = (unicorn::start()?, nginx::start()?);
        for server in [&unicorn, &nginx] {
            client::short(&Address::Tcp(server.tcp[0]), "/")?;
        }
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        for kind in ["unicorn-tick", "nginx-stub"] {
            daemon.until_slab(kind)?;
        }
        drop(daemon);

        let config = place.path().join("raindrops.toml");
        fs::write(&config, "inferred_slabs = false\n")?;
        let daemon = place.start(User::Same, &["--config", &config.to_string_lossy()])?;
        daemon.until("all workers", |view| view.workers.len() == 4)?;
        for _ in 0..10 {
            let view = daemon.slabs_anew()?;
            assert_eq!(view.slabs, []);
            for worker in &view.workers {
                assert_eq!(slabs::of_worker(&view, worker.pid).ok(), None);
            }
        }
        Ok(())
    })
}
