//! Slabs that are not to be inferred.

use std::fs;

use anyhow::Result;
use raindrops_tests::{
    client::{self, Address},
    daemon::{Place, User},
    lookup, netns,
    servers::{nginx, unicorn},
    skip::{Need, can_run},
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
        let workers = [unicorn.workers(), nginx.workers()].concat();
        daemon.until("all workers", |view| {
            let mut workers = workers.iter();
            workers.all(|pid| lookup::worker(view, *pid).is_ok())
        })?;
        for _ in 0..10 {
            let view = daemon.slabs_anew()?;
            assert_eq!(view.slabs, []);
            for pid in &workers {
                assert_eq!(lookup::worker(&view, *pid)?.slab, None);
            }
        }
        Ok(())
    })
}
