use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::Bounds;
use crate::{
    ids::{Inode, Pid, StartTicks, Tid},
    snapshot::{Place, ProcSnapshot, Process, Thread},
    source::proc::{
        ProcReader,
        fake::{FAKE, Fake, FakeProc},
    },
};

const SERVER: Fake<'static> = Fake {
    pid: 50,
    links: &["socket:[7]", "/dev/null"],
    threads: 2,
    ..FAKE
};

fn scan(reader: &mut ProcReader) -> Arc<ProcSnapshot> {
    reader.scan(&[Inode(7)].into(), &[].into())
}

fn refresh(reader: &mut ProcReader, before: &ProcSnapshot) -> ProcSnapshot {
    // Looks must not be at one instant.
    std::thread::sleep(Duration::from_millis(1));
    reader.refresh(before).applied_to(before)
}

fn process(snapshot: &ProcSnapshot, pid: u32) -> &Process {
    &snapshot.processes[&Pid(pid)]
}

fn names(process: &Process) -> BTreeMap<u32, Vec<u8>> {
    let threads = process.each_thread.as_ref().unwrap();
    let names = threads.by_id.iter();
    names.map(|(tid, it)| (tid.0, it.comm.clone())).collect()
}

fn is_complete(process: &Process) -> bool {
    process.each_thread.as_ref().unwrap().complete
}

#[test]
fn reads_each_thread_whatever_its_name_is() {
    let proc = FakeProc::new();
    proc.write(SERVER);
    let comms: [&[u8]; 4] = [b"a) R (", b"x\ny\0 z", b"\xff\xfe)", b""];
    for (tid, comm) in (51..).zip(comms) {
        proc.write_thread(50, tid, comm, 'R');
    }
    let snapshot = scan(&mut ProcReader::new(proc.root()));
    let process = process(&snapshot, 50);
    let mut expected = BTreeMap::from([(50, b"app".to_vec())]);
    expected.extend((51..).zip(comms.map(<[u8]>::to_vec)));
    assert_eq!(names(process), expected);
    let threads = process.each_thread.as_ref().unwrap();
    assert!(threads.complete);
    let second = Thread {
        started: StartTicks(200),
        comm: b"a) R (".to_vec(),
        state: 'R',
        stall: None,
    };
    assert_eq!(threads.by_id[&Tid(51)], second);
    assert_eq!(threads.by_id[&Tid(50)].started, StartTicks(100));
}

#[test]
fn a_thread_that_is_gone_is_not_missed_and_one_that_cannot_be_read_is() {
    let proc = FakeProc::new();
    proc.write(SERVER);
    proc.write_thread(50, 51, b"one", 'S');
    // Listed, and gone when it is read.
    fs::create_dir(proc.path(50).join("task/52")).unwrap();
    let mut reader = ProcReader::new(proc.root());
    let snapshot = scan(&mut reader);
    assert_eq!(
        names(process(&snapshot, 50))
            .into_keys()
            .collect::<Vec<_>>(),
        [50, 51]
    );
    assert!(is_complete(process(&snapshot, 50)));

    for stat in [&b"52 (cut"[..], b"", b"\xff", &[b'('; 4096]] {
        proc.write_of_thread(50, 52, "stat", stat);
        let snapshot = refresh(&mut reader, &snapshot);
        assert_eq!(
            names(process(&snapshot, 50))
                .into_keys()
                .collect::<Vec<_>>(),
            [50, 51]
        );
        assert!(!is_complete(process(&snapshot, 50)));
    }
    proc.write_thread(50, 52, &[b'x'; 4096], 'S');
    assert!(!is_complete(process(&refresh(&mut reader, &snapshot), 50)));

    fs::remove_dir_all(proc.path(50).join("task")).unwrap();
    let snapshot = refresh(&mut reader, &snapshot);
    assert_eq!(process(&snapshot, 50).each_thread, None);
}

#[test]
fn a_process_with_one_thread_and_one_that_does_not_serve_are_not_asked_for_threads() {
    let proc = FakeProc::new();
    proc.write(Fake {
        threads: 1,
        ..SERVER
    });
    proc.write(Fake {
        pid: 60,
        threads: 2,
        ..FAKE
    });
    proc.write_thread(50, 51, b"one", 'S');
    proc.write_thread(60, 61, b"one", 'S');
    let snapshot = ProcReader::new(proc.root()).scan(&[Inode(7)].into(), &[Pid(60)].into());
    assert_eq!(
        names(process(&snapshot, 50))
            .into_keys()
            .collect::<Vec<_>>(),
        [50]
    );
    assert_eq!(process(&snapshot, 60).each_thread, None);
    assert_eq!(process(&snapshot, 60).fds, None);
}

#[test]
fn too_many_threads_are_cut_and_it_is_said() {
    let proc = FakeProc::new();
    // Pid, and threads beside the first.
    for (pid, others) in [(1000, 7), (2000, 8), (3000, 4), (4000, 7), (5000, 1)] {
        proc.write(Fake { pid, ..SERVER });
        for tid in 1..=others {
            proc.write_thread(pid, pid + tid, b"", 'S');
        }
    }
    proc.write(Fake {
        pid: 6000,
        threads: 1,
        ..SERVER
    });
    let mut reader = ProcReader::new(proc.root());
    reader.closer.bounds = Bounds {
        of_one_process: 8,
        in_all: 20,
    };
    let cut = |snapshot: &ProcSnapshot| {
        [1000, 2000, 3000, 4000, 5000, 6000].map(|pid| {
            let process = process(snapshot, pid);
            (names(process).len(), is_complete(process))
        })
    };
    let expected = [
        (8, true),
        (8, false),
        (5, true),
        (3, false),
        (1, false),
        (1, true),
    ];
    let snapshot = scan(&mut reader);
    assert_eq!(cut(&snapshot), expected);
    assert_eq!(cut(&refresh(&mut reader, &snapshot)), expected);
}

#[test]
fn a_stalled_thread_is_told_what_it_is_at_and_since_when() {
    let proc = FakeProc::new();
    proc.write(SERVER);
    proc.write_thread(50, 51, b"pool", 'D');
    let call = b"0 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffefe9c7c38 0x7f0a495a2503\n";
    proc.write_of_thread(50, 51, "syscall", call);
    proc.write_of_thread(50, 51, "wchan", b"io_schedule");
    proc.write_of_thread(50, 51, "schedstat", b"5 5 9\n");
    let mut reader = ProcReader::new(proc.root());
    let first = scan(&mut reader);
    let stalled = |snapshot: &ProcSnapshot| {
        let threads = process(snapshot, 50).each_thread.as_ref().unwrap();
        let stalled = threads.stalled(None);
        stalled.map(|(tid, _, time)| (tid.0, threads.looked.0 - time))
    };
    // Once is not for long.
    assert_eq!((stalled(&first), &first.places), (None, &BTreeMap::new()));
    let since = process(&first, 50).each_thread.as_ref().unwrap().looked.0;

    let second = refresh(&mut reader, &first);
    assert_eq!(stalled(&second), Some((51, since)));
    let place = Place {
        state: 'D',
        syscall: Some(
            if cfg!(target_arch = "x86_64") {
                "read"
            } else {
                "io_setup"
            }
            .to_owned(),
        ),
        wchan: Some("io_schedule".to_owned()),
    };
    assert_eq!(second.places, [((Pid(50), Tid(51)), place)].into());

    // A scan goes on with it, as with what a thread that was left behind has found.
    reader.known = Some(Arc::new(second));
    let third = scan(&mut reader);
    assert_eq!(stalled(&third), Some((51, since)));

    proc.write_of_thread(50, 51, "schedstat", b"6 5 10\n");
    let fourth = refresh(&mut reader, &third);
    assert_eq!((stalled(&fourth), &fourth.places), (None, &BTreeMap::new()));
    let fifth = refresh(&mut reader, &fourth);
    assert!(stalled(&fifth).is_some_and(|(_, later)| later > since));
    proc.write_thread(50, 51, b"pool", 'S');
    assert_eq!(stalled(&refresh(&mut reader, &fifth)), None);
}

#[test]
fn the_first_thread_of_a_stopped_process_is_stalled_until_another_has_its_pid() {
    let proc = FakeProc::new();
    let stopped = Fake {
        threads: 1,
        state: 'T',
        ..SERVER
    };
    proc.write(stopped);
    let mut reader = ProcReader::new(proc.root());
    let first = scan(&mut reader);
    let second = refresh(&mut reader, &first);
    let stalled = |snapshot: &ProcSnapshot| {
        let threads = process(snapshot, 50).each_thread.as_ref().unwrap();
        threads
            .stalled(None)
            .map(|(tid, thread, _)| (tid.0, thread.state))
    };
    assert_eq!(stalled(&second), Some((50, 'T')));
    proc.write(Fake {
        started: 300,
        ..stopped
    });
    assert_eq!(stalled(&scan(&mut reader)), None);
}

/// Check that a process whose command line cannot be read while a thread of it is in D does not hold
/// up who looks at it.
#[test]
fn the_title_of_a_process_that_may_hold_its_memory_stays_what_it_was() {
    let proc = FakeProc::new();
    proc.write(SERVER);
    proc.write_thread(50, 51, b"pool", 'S');
    let mut reader = ProcReader::new(proc.root());
    let first = scan(&mut reader);
    proc.freeze(50);
    proc.write_thread(50, 51, b"pool", 'D');
    let second = refresh(&mut reader, &first);
    assert_eq!(process(&second, 50).title, Some(b"app".to_vec()));
    reader.known = Some(Arc::new(refresh(&mut reader, &second)));
    let third = scan(&mut reader);
    assert_eq!(process(&third, 50).title, Some(b"app".to_vec()));
    let threads = process(&third, 50).each_thread.as_ref().unwrap();
    assert!(threads.stalled(None).is_some());
}

#[test]
fn threads_that_are_asked_about_are_told_what_they_are_at() {
    let proc = FakeProc::new();
    proc.write(SERVER);
    proc.write(Fake { pid: 60, ..FAKE });
    let mut reader = ProcReader::new(proc.root());
    for tid in 51..=54 {
        proc.write_thread(50, tid, b"pool", 'S');
    }
    proc.write_of_thread(50, 51, "syscall", b"running\n");
    proc.write_of_thread(50, 51, "wchan", b"0");
    proc.write_of_thread(50, 52, "syscall", b"");
    proc.write_of_thread(50, 52, "wchan", b"\xff\n\x1b[2J");
    proc.write_of_thread(50, 53, "syscall", &[b'7'; 4096]);
    proc.write_of_thread(50, 53, "wchan", b"futex_wait_queue");
    let asked = [(50, 51), (50, 52), (50, 53), (50, 99), (60, 60), (70, 70)];
    let asked = asked.map(|(pid, tid)| (Pid(pid), Tid(tid))).into();
    reader.closer.ask(&asked);
    let snapshot = scan(&mut reader);
    let place = |wchan: Option<&str>| Place {
        state: 'S',
        syscall: None,
        wchan: wchan.map(str::to_owned),
    };
    let expected = BTreeMap::from([
        ((Pid(50), Tid(51)), place(None)),
        ((Pid(50), Tid(52)), place(None)),
        ((Pid(50), Tid(53)), place(Some("futex_wait_queue"))),
    ]);
    assert_eq!(snapshot.places, expected);
    assert_eq!(refresh(&mut reader, &snapshot).places, expected);
    reader.closer.ask(&[].into());
    assert_eq!(refresh(&mut reader, &snapshot).places, BTreeMap::new());
}

#[test]
fn counts_descriptors_and_reads_their_limit() {
    let proc = FakeProc::new();
    proc.write(SERVER);
    let limits = proc.path(50).join("limits");
    fs::write(&limits, "Max open files  64  128  files\n").unwrap();
    let mut reader = ProcReader::new(proc.root());
    let snapshot = scan(&mut reader);
    let told = |snapshot: &ProcSnapshot| {
        let process = process(snapshot, 50);
        (process.fds, process.fd_limit)
    };
    assert_eq!(told(&snapshot), (Some(2), Some(64)));
    // What a refresh does not read stays.
    fs::write(&limits, b"Max open files \xff\n").unwrap();
    assert_eq!(told(&refresh(&mut reader, &snapshot)), (Some(2), Some(64)));
    assert_eq!(told(&scan(&mut reader)), (Some(2), None));
}

/// Check that it counts as many as the kernel lists.
#[test]
fn counts_descriptors_as_the_kernel_lists_them() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = fs::File::from(rustix::io::dup(&listener).unwrap());
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(inode.try_clone().unwrap())
        .spawn()
        .unwrap();
    let inode = Inode(inode.metadata().unwrap().ino());
    // It answers, so it has loaded its libraries.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"x").unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0]).unwrap();

    let fds = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let fds = Some(fds.count() as u64);
    let mut reader = ProcReader::new("/proc".into());
    let snapshot = reader.scan(&[inode].into(), &[].into());
    let refreshed = refresh(&mut reader, &snapshot);
    drop(input);
    child.wait().unwrap();
    let process = process(&snapshot, child.id());
    assert_eq!(
        (process.fds, refreshed.processes[&Pid(child.id())].fds),
        (fds, fds)
    );
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert_eq!(process.fd_limit, limit.current);
    assert_eq!(names(process).into_values().collect::<Vec<_>>(), [b"cat"]);
}
