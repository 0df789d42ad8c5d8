//! The file for node_exporter.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::Duration,
};

use anyhow::Result;
use raindrops_tests::{
    daemon::{Place, User},
    netns,
    prometheus::values,
    skip::{Need, can_run},
    wait,
};
use rustix::process::Signal;

/// It is written every 15 seconds.
const ROUNDS: Duration = Duration::from_secs(60);

/// Check that a directory that is not there is told once and taken once it is, that a reader never
/// sees a part of the file, that it is another file each time, and that it is gone in the end.
#[test]
fn a_whole_file_or_none() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let directory = place.path().join("textfile");
        let path = directory.join("raindrops.prom");
        let typed = directory.to_str().expect("a temporary path is UTF-8");
        let mut daemon = place.start(User::Same, &["--textfile", typed])?;
        daemon.until_logged("cannot write it")?;
        fs::create_dir(&directory)?;
        let first = wait::within(ROUNDS, "the first file", || Ok(fs::metadata(&path).ok()))?;
        assert_eq!(first.permissions().mode() & 0o777, 0o644);
        daemon.until_logged("written again")?;
        assert_eq!(daemon.log().matches("cannot write it").count(), 1);
        wait::within(ROUNDS, "the second file", || {
            let text = fs::read_to_string(&path)?;
            assert_eq!(values(&text, "raindrops_build_info", &[]), [1.0]);
            assert!(text.ends_with('\n'));
            Ok((fs::metadata(&path)?.ino() != first.ino()).then_some(()))
        })?;
        daemon.signal(Signal::TERM)?;
        daemon.wait_for_end()?;
        assert_eq!(fs::read_dir(&directory)?.count(), 0);
        Ok(())
    })
}

/// Check that a daemon that could not write says nothing else when it ends.
#[test]
fn what_was_never_written_is_not_written_again() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let directory = place.path().join("textfile");
        let typed = directory.to_str().expect("a temporary path is UTF-8");
        let mut daemon = place.start(User::Same, &["--no-bpf", "--textfile", typed])?;
        daemon.until_logged("cannot write it")?;
        daemon.signal(Signal::TERM)?;
        daemon.wait_for_end()?;
        let log = daemon.log();
        assert!(log.contains("stopped"), "{log}");
        assert!(!log.contains("written again"), "{log}");
        Ok(())
    })
}
