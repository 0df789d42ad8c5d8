use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use raindrops_slab::{
    Field, Layout, Reading, Schema, Slab, Unit, claim::Owner, process, read::Value,
};

use super::{Claims, DeclaredError, Judged, claims, directory, open};
use crate::ids::{Pid, StartTicks};

fn schema(slots: u32) -> Schema {
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
    ];
    Schema::new("shop", slots, fields).unwrap()
}

/// Opens, checks and reads.
fn read(path: &Path) -> Result<(Layout, Reading), DeclaredError> {
    let found = open(None, path)?;
    let layout = super::layout(found.length, |at, to| found.copy(at, to))?;
    let mut reading = Reading::default();
    super::read(&layout, &mut reading, |at, to| found.copy(at, to))?;
    Ok((layout, reading))
}

fn refusal(path: &Path) -> String {
    read(path).map(|_| ()).unwrap_err().to_string()
}

/// This process, as a slab names it.
fn me() -> Owner {
    process::own().unwrap()
}

#[test]
fn what_is_no_slab_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("text"), "a".repeat(500)).unwrap();
    fs::write(at("short"), b"\x89RDSLAB\n").unwrap();
    File::create(at("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    symlink("text", at("link")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let fifo = std::ffi::CString::new(at("fifo").to_str().unwrap()).unwrap();
    // SAFETY: a string that ends, and a mode.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let large = Slab::create(&at("large"), &schema(4096)).unwrap();
    let large = large.layout().total() as u64;
    OpenOptions::new()
        .write(true)
        .open(at("large"))
        .unwrap()
        .set_len(large + (1 << 20))
        .unwrap();
    Slab::create(&at("truncated"), &schema(2)).unwrap();
    let truncated = OpenOptions::new()
        .write(true)
        .open(at("truncated"))
        .unwrap();
    let length = truncated.metadata().unwrap().len();
    truncated.set_len(length - 1).unwrap();
    let cases = [
        ("text", "not a slab: it does not begin as one".to_owned()),
        ("short", "not a slab: only 8 bytes long".to_owned()),
        (
            "sparse",
            format!("{} bytes long; at most 1048576 are read", 1_u64 << 40),
        ),
        ("link", "it is a symbolic link, not a file".to_owned()),
        ("directory", "it is a directory, not a file".to_owned()),
        ("fifo", "it is a FIFO, not a file".to_owned()),
        ("socket", "it is a socket, not a file".to_owned()),
        (
            "large",
            format!("{} bytes long; at most 1048576 are read", large + (1 << 20)),
        ),
        (
            "truncated",
            format!("truncated: {} bytes of {length}", length - 1),
        ),
        (
            "nothing",
            "cannot be opened: No such file or directory (os error 2)".to_owned(),
        ),
    ];
    for (name, text) in cases {
        assert_eq!(refusal(&at(name)), text, "{name}");
    }
    let device = "it is a device, not a file";
    assert_eq!(refusal(Path::new("/dev/null")), device);
}

#[test]
fn a_file_that_is_shortened_under_the_reader_is_an_error_and_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.slab");
    Slab::create(&path, &schema(2)).unwrap();
    let found = open(None, &path).unwrap();
    let layout = super::layout(found.length, |at, to| found.copy(at, to)).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(layout.slots() as u64 + 1).unwrap();
    let result = super::read(&layout, &mut Reading::default(), |at, to| {
        found.copy(at, to)
    });
    assert_eq!(
        result.unwrap_err().to_string(),
        "shortened while it was read"
    );
}

#[test]
fn slots_count_for_the_process_that_has_them_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.slab");
    let slab = Slab::create(&path, &schema(4)).unwrap();
    let slots = [slab.claim().unwrap(), slab.claim().unwrap()];
    for slot in &slots {
        slot.counter("requests").unwrap().add(3);
        slot.gauge("calling").unwrap().add(1);
    }
    slab.claim().unwrap().counter("requests").unwrap().add(10);
    let (layout, reading) = read(&path).unwrap();
    let (pid, started) = (Pid(me().pid), StartTicks(me().started));
    let judged = |judged| {
        claims(&layout, &reading, move |owner| {
            assert_eq!(owner, me());
            judged
        })
    };

    let mine = judged(Judged::Is(pid, started));
    let own = vec![Value::Counter(6), Value::Gauge(2)];
    let workers: Vec<_> = mine.workers.into_iter().collect();
    assert_eq!(workers, [((pid, started), own)]);
    assert_eq!((mine.claimed, mine.ownerless, mine.unknown), (2, 0, 0));
    assert_eq!(mine.totals.counter("requests"), Some(16));
    assert_eq!(mine.totals.gauge("calling"), Some(2));

    for (judgement, counts) in [(Judged::Nobody, (2, 2, 0)), (Judged::Unknown, (2, 0, 2))] {
        let Claims {
            totals,
            workers,
            claimed,
            ownerless,
            unknown,
        } = judged(judgement);
        assert!(workers.is_empty());
        assert_eq!((claimed, ownerless, unknown), counts);
        // Counts are nobody's, and stay; gauges of nobody do not.
        assert_eq!(totals.counter("requests"), Some(16));
        assert_eq!(totals.gauge("calling"), Some(0));
    }
}

#[test]
fn a_users_part_of_the_directory_is_his_and_closed() {
    let root = tempfile::tempdir().unwrap();
    let uid = rustix::process::getuid().as_raw();
    let part = root.path().join(uid.to_string());
    fs::create_dir(&part).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["b.slab", "a.slab"] {
        Slab::create(&part.join(name), &schema(1)).unwrap();
    }
    fs::write(part.join(".unfinished"), "").unwrap();
    symlink("a.slab", part.join("c.slab")).unwrap();
    fs::create_dir(root.path().join("shop")).unwrap();
    fs::create_dir(root.path().join((uid + 1).to_string())).unwrap();
    symlink(&part, root.path().join((uid + 2).to_string())).unwrap();

    let listing = directory::list(root.path());
    let files: Vec<_> = listing
        .files
        .iter()
        .map(|(path, found)| (path.strip_prefix(&part).unwrap(), found.is_ok()))
        .collect();
    let named = |name, is_ok| (Path::new(name), is_ok);
    assert_eq!(
        files,
        [
            named("a.slab", true),
            named("b.slab", true),
            named("c.slab", false)
        ]
    );
    let refused: Vec<_> = listing
        .refused
        .iter()
        .map(|(_, why)| why.as_str())
        .collect();
    let of_another = format!("it belongs to user {uid}");
    assert_eq!(refused.len(), 3);
    assert!(refused.contains(&"its name is not a user's number"));
    assert!(refused.contains(&of_another.as_str()));
    assert!(!listing.beyond);

    fs::set_permissions(&part, fs::Permissions::from_mode(0o750)).unwrap();
    let listing = directory::list(root.path());
    assert!(listing.files.is_empty());
    let open = (part, "others may use it (mode 750): chmod 700".to_owned());
    assert!(listing.refused.contains(&open));
}

#[test]
fn no_more_than_so_many_files_are_opened() {
    let root = tempfile::tempdir().unwrap();
    let uid = rustix::process::getuid().as_raw();
    let part = root.path().join(uid.to_string());
    fs::create_dir(&part).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o700)).unwrap();
    for number in 0..=super::MOST {
        fs::write(part.join(number.to_string()), "").unwrap();
    }
    let listing = directory::list(root.path());
    assert_eq!(listing.files.len(), super::MOST);
    assert!(listing.beyond);
    assert!(
        directory::list(&root.path().join("nowhere"))
            .refused
            .is_empty()
    );
}
