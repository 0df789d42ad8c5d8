use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, symlink},
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::Barrier,
};

use super::{Claim, ClaimError, Owner, group_id};

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("raindrops/raindrops.sock");
    (directory, path)
}

fn us() -> Owner {
    Owner::of(Some(std::process::id()))
}

#[test]
fn modes_are_as_promised_and_nothing_is_left() {
    let (_directory, path) = directory();
    let (claim, listener) = Claim::take(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
    let parent = path.parent().unwrap();
    assert_eq!(fs::metadata(parent).unwrap().mode() & 0o7777, 0o755);
    let name = listener.local_addr().unwrap();
    assert_eq!(name.as_pathname(), Some(path.as_path()));
    drop(claim);
    assert_eq!(fs::read_dir(parent).unwrap().count(), 0);
}

#[test]
fn a_second_daemon_is_told_whose_it_is() {
    let (_directory, path) = directory();
    let (claim, _listener) = Claim::take(&path).unwrap();
    match Claim::take(&path) {
        Err(ClaimError::Locked { owner, .. }) => assert_eq!(owner, us()),
        other => panic!("{other:?}"),
    }
    // A cleaner of temporary files took the lock file away: the socket still answers.
    fs::remove_file(&claim.lock_path).unwrap();
    match Claim::take(&path) {
        Err(ClaimError::Live { owner, .. }) => assert_eq!(owner, us()),
        other => panic!("{other:?}"),
    }
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn of_many_that_start_at_once_one_wins() {
    let (_directory, path) = directory();
    fs::create_dir(path.parent().unwrap()).unwrap();
    for _ in 0..20 {
        drop(UnixListener::bind(&path).unwrap());
        let barrier = Barrier::new(8);
        let claims: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                Claim::take(&path)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let winners = claims.iter().filter(|claim| claim.is_ok()).count();
        assert_eq!(winners, 1, "{claims:?}");
        assert!(UnixStream::connect(&path).is_ok());
        drop(claims);
        assert!(!path.exists());
    }
}

#[test]
fn what_a_killed_daemon_left_is_replaced() {
    let (_directory, path) = directory();
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    fs::write(path.with_extension("sock.lock"), "1\n").unwrap();
    let _claim = Claim::take(&path).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let (_directory, path) = directory();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    let target = parent.join("target");
    drop(UnixListener::bind(&target).unwrap());
    for what in ["a regular file", "a symbolic link", "a directory"] {
        match what {
            "a regular file" => fs::write(&path, "precious").unwrap(),
            "a symbolic link" => symlink(&target, &path).unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }
        let error = Claim::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("there is {what}")), "{error}");
        assert!(fs::symlink_metadata(&path).is_ok(), "{what}");
        fs::rename(&path, parent.join(what)).unwrap();
    }
    assert!(!path.with_extension("sock.lock").exists());
}

#[test]
fn a_socket_that_is_no_longer_ours_stays() {
    let (_directory, path) = directory();
    let (claim, _listener) = Claim::take(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop(claim);
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn errors_say_what_to_do() {
    let long = PathBuf::from(format!("/tmp/{}", "x".repeat(108)));
    let error = Claim::take(&long).unwrap_err();
    assert!(matches!(error, ClaimError::TooLong { .. }), "{error:?}");
    let error = Claim::take("/proc/raindrops/x.sock".as_ref()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/proc/raindrops: cannot make the directory: No such file or directory (os error 2); \
         check that directory, or pass --socket PATH"
    );
}

#[test]
fn a_group_is_found_by_its_whole_name() {
    let groups = b"root:x:0:\nraindrops-old:x:7:\n#raindrops:x:8:\nraindrops:x:998:deploy,www\n";
    for (groups, id) in [
        (&groups[..], Some(998)),
        (b"raindrops:x:", None),
        (b"raindrops:x:many:", None),
        (b"raindrops", None),
        (b"", None),
        (b"\xff:x:1:\nraindrops:!:5:", Some(5)),
    ] {
        assert_eq!(group_id(groups, "raindrops"), id);
    }
}
