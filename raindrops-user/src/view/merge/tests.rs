mod puma;
mod slabs;
mod turns;
mod workers;

use raindrops_ebpf::{histogram::Histogram, miss::Miss};

use super::*;
use crate::{
    address::UnixName,
    ids::{Cookie, Inode, StartTicks},
    snapshot::{Process, WorkerCounts, WorkerKey},
    view::servers::classify,
};

const NETNS: NetnsId = NetnsId(4);
const SECOND: Duration = Duration::from_secs(1);
const AT: Monotonic = Monotonic(Duration::from_secs(100));

/// What the sources saw; each test changes what it is about.
struct Seen {
    tcp: QueueSnapshot,
    unix: QueueSnapshot,
    unix_active: UnixActiveSnapshot,
    bpf: Option<BpfSnapshot>,
    proc: ProcSnapshot,
    puma: Option<PumaSnapshot>,
    exits: BTreeMap<String, Exits>,
    slabs: Option<SlabSnapshot>,
    marks: Marks,
}

fn key(inode: u64) -> ListenerKey {
    ListenerKey {
        netns: NETNS,
        inode: Inode(inode),
    }
}

fn socket(address: Address, cookie: u64, queued: u32, limit: u32) -> ListenSocket {
    let is_tcp = matches!(address, Address::Tcp { .. });
    ListenSocket {
        address,
        cookie: Some(Cookie(cookie)),
        queued: Some(queued),
        limit: Some(limit),
        drops: is_tcp.then_some(7),
        bound_path: None,
    }
}

fn tcp(port: u16) -> Address {
    let ip = [127, 0, 0, 1].into();
    Address::Tcp { ip, port }
}

fn counts(accepts: u64, closes: u64, unattributed: u64) -> ListenerCounts {
    let mut wait = Histogram::EMPTY;
    wait.buckets[20] = accepts;
    let mut lifetime = Histogram::EMPTY;
    lifetime.buckets[40] = closes;
    ListenerCounts {
        unattributed,
        wait,
        lifetime,
        ..ListenerCounts::UNTOUCHED
    }
}

fn process(title: &str, parent: u32, held: &[u64]) -> Process {
    Process {
        parent: Pid(parent),
        started: StartTicks(500),
        ns_pid: None,
        comm: b"ruby".to_vec(),
        title: Some(title.as_bytes().to_vec()),
        uid: Some(0),
        threads: Some(1),
        state: 'S',
        unit: None,
        container: None,
        listeners: Some(held.iter().map(|inode| Inode(*inode)).collect()),
        each_thread: None,
        fds: None,
        fd_limit: None,
    }
}

/// unicorn with two workers on :80 (inode 1), on both members of a group on :81 (2 and 3), and on
/// a unix socket (4).
fn seen() -> Seen {
    let held = [1, 2, 3, 4];
    let worker = |pid: u32, inode: u64, accepts: u64| {
        let key = WorkerKey {
            pid: Pid(pid),
            started: StartTicks(500),
            listener: key(inode),
        };
        let counts = WorkerCounts {
            accepts,
            active: (inode != 4).then_some(1),
            last_accept: Some(Monotonic(AT.0 - SECOND)),
            wait_count: accepts,
            wait_sum_ns: 2_000 * accepts,
            wait_max_ns: 3_000,
        };
        (key, counts)
    };
    let snapshot = |listeners| QueueSnapshot {
        began: AT,
        taken: AT,
        source: QueueSource::SockDiag,
        interrupted: false,
        listeners,
    };
    Seen {
        tcp: snapshot(BTreeMap::from([
            (key(1), socket(tcp(80), 11, 3, 64)),
            (key(2), socket(tcp(81), 12, 1, 511)),
            (key(3), socket(tcp(81), 13, 2, 511)),
        ])),
        unix: snapshot(BTreeMap::from([(
            key(4),
            socket(
                Address::Unix(UnixName::Path(b"/run/a".to_vec())),
                14,
                0,
                4096,
            ),
        )])),
        unix_active: UnixActiveSnapshot {
            taken: Monotonic(AT.0 - SECOND / 2),
            active: BTreeMap::from([(key(4), vec![Inode(100), Inode(101)])]),
        },
        bpf: Some(BpfSnapshot {
            turns: None,
            taken: AT,
            listeners: BTreeMap::from([
                (key(1), counts(4, 2, 0)),
                (key(2), counts(5, 4, 0)),
                (key(3), counts(6, 5, 0)),
                (key(4), counts(3, 0, 0)),
            ]),
            workers: BTreeMap::from([
                worker(20, 1, 1),
                worker(21, 1, 3),
                worker(20, 2, 5),
                worker(21, 3, 6),
                worker(21, 4, 3),
            ]),
            misses: BTreeMap::new(),
            skipped_accepts: 0,
            sees_arrivals: true,
        }),
        proc: ProcSnapshot {
            taken: AT,
            since_boot: AT.0,
            processes: BTreeMap::from([
                (Pid(10), process("unicorn master -c x.rb", 1, &held)),
                (Pid(20), process("unicorn worker[0] -c x.rb", 10, &held)),
                (Pid(21), process("unicorn worker[1] -c x.rb", 10, &held)),
            ]),
            unreadable: 0,
            quarantined: BTreeSet::new(),
            ticks_per_second: 100,
            boot_time: 1_000,
            ended: Vec::new(),
            places: BTreeMap::new(),
        },
        puma: None,
        exits: BTreeMap::new(),
        slabs: None,
        marks: Marks::default(),
    }
}

fn own(seen: &Seen) -> Namespace<'_> {
    Namespace {
        netns: NETNS,
        name: Fact::Nothing,
        is_own: true,
        tcp: Some(&seen.tcp),
        unix: Some(&seen.unix),
        unix_active: Some(&seen.unix_active),
        somaxconn: Some(4096),
    }
}

fn merged(seen: &Seen) -> View {
    merged_of(seen, &[own(seen)])
}

fn merged_of(seen: &Seen, namespaces: &[Namespace<'_>]) -> View {
    let inodes = (1..=4).map(Inode).collect();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000);
    merge(Inputs {
        host: &Host {
            name: "web3".to_owned(),
            kernel: "6.18".to_owned(),
            boot_id: None,
            cpus: 2,
        },
        sources: Vec::new(),
        gaps: Vec::new(),
        now: AT,
        wall,
        since: wall,
        namespaces,
        ledger: None,
        bpf: seen.bpf.as_ref(),
        marks: &seen.marks,
        proc: Some(&seen.proc),
        servers: Some(&classify(&seen.proc, &inodes, &BTreeMap::new())),
        puma: seen.puma.as_ref(),
        exits: &seen.exits,
        slabs: seen.slabs.as_ref(),
    })
}

#[test]
fn a_listener_joins_what_every_source_says_of_it() {
    let view = merged(&seen());
    let listener = &view.listeners[0];
    assert_eq!(listener.id, "4:11");
    assert_eq!(listener.server, Fact::Is("unicorn:10".to_owned()));
    assert_eq!(listener.holders, Some(vec![10, 20, 21]));
    assert_eq!(listener.workers, Some(vec![20, 21]));
    let queue = &listener.queue;
    assert_eq!((queue.queued, queue.limit), (Some(3), Some(64)));
    assert_eq!(queue.limit_from, LimitFrom::App);
    assert_eq!((queue.drops, queue.overflows), (Some(7), None));
    let connections = listener.connections.as_ref().unwrap();
    assert_eq!(
        (connections.accepts, connections.closes),
        (Some(4), Some(2))
    );
    assert_eq!(connections.active, Some(2));
}

/// Check that a listener is told by its namespace, by that namespace's limit, and that the age of a
/// foreign queue is shown.
#[test]
fn one_address_in_two_namespaces_is_two_listeners() {
    let mut seen = seen();
    seen.bpf = None;
    let there = ListenerKey {
        netns: NetnsId(5),
        inode: Inode(9),
    };
    let tcp = QueueSnapshot {
        began: Monotonic(AT.0 - SECOND),
        taken: Monotonic(AT.0 - SECOND),
        source: QueueSource::SockDiag,
        interrupted: false,
        listeners: BTreeMap::from([(there, socket(tcp(80), 19, 5, 64))]),
    };
    let other = Namespace {
        netns: NetnsId(5),
        name: Fact::Is("blue".to_owned()),
        is_own: false,
        tcp: Some(&tcp),
        unix: None,
        unix_active: None,
        somaxconn: Some(64),
    };
    let view = merged_of(&seen, &[own(&seen), other]);
    let [first, second] = &view.listeners[..2] else {
        panic!("{:?}", view.listeners);
    };
    assert_eq!((&*first.id, &*second.id), ("4:11", "5:19"));
    assert_eq!(second.address, first.address);
    assert_eq!((&first.group, &second.group), (&None, &None));
    assert_eq!(first.netns.name, Fact::Nothing);
    assert_eq!(second.netns.name, Fact::Is("blue".to_owned()));
    assert_eq!(second.queue.limit_from, LimitFrom::AtSomaxconn);
    let ages = [first, second].map(|listener| listener.queue.age_ms);
    assert_eq!(ages, [None, Some(1000)]);
}

#[test]
fn what_nothing_tells_of_a_unix_listener_is_absent() {
    let view = merged(&seen());
    let unix = &view.listeners[3];
    assert_eq!(unix.queue.limit_from, LimitFrom::AtSomaxconn);
    assert_eq!((unix.queue.drops, unix.queue.overflows), (None, None));
    let connections = unix.connections.as_ref().unwrap();
    assert_eq!(
        (connections.active, connections.active_age_ms),
        (Some(2), Some(500))
    );
    assert_eq!(connections.accepts, Some(3));
    let absent = (
        connections.closes,
        connections.half_closed,
        connections.seeded,
    );
    assert_eq!(absent, (None, None, None));
    assert_eq!(connections.lifetime, None);
}

#[test]
fn without_bpf_the_groups_that_it_supplies_are_absent() {
    let view = merged(&Seen {
        bpf: None,
        ..seen()
    });
    assert_eq!(view.listeners[0].connections, None);
    assert_eq!(view.listeners[0].recent.accepts_per_s, None);
    let unix = view.listeners[3].connections.as_ref().unwrap();
    assert_eq!((unix.active, unix.accepts), (Some(2), None));
    let worker = &view.workers[0];
    assert_eq!(
        (worker.accepts, worker.active, &worker.wait),
        (None, None, &None)
    );
    assert_eq!(worker.listeners[0].share, None);
}

#[test]
fn a_group_is_the_sum_of_its_members() {
    let view = merged(&seen());
    let [group] = &view.groups[..] else {
        panic!("one group")
    };
    assert_eq!(group.members, ["4:12", "4:13"]);
    assert_eq!(
        (group.queue.queued, group.queue.limit),
        (Some(3), Some(1022))
    );
    let connections = group.connections.as_ref().unwrap();
    assert_eq!(
        (connections.accepts, connections.active),
        (Some(11), Some(2))
    );
    assert_eq!(view.listeners[1].group.as_ref(), Some(&group.id));
    assert_eq!(view.listeners[0].group, None);
}

#[test]
fn what_could_not_be_counted_is_a_gap() {
    let mut seen = seen();
    let bpf = seen.bpf.as_mut().unwrap();
    bpf.misses = BTreeMap::from([(Miss::ConnectionsFull, 136), (Miss::ResetBeforeAccept, 5)]);
    let view = merged(&seen);
    let [gap] = &view.gaps[..] else {
        panic!("one gap")
    };
    assert_eq!((gap.what.as_str(), gap.count), ("map-full", 136));
    assert!(gap.hint.contains("--max-connections"));
}

#[test]
fn accepts_that_the_kernel_kept_back_leave_unix_listeners_incomplete() {
    let mut seen = seen();
    let complete = |seen: &Seen| {
        let view = merged(seen);
        let of = |index: usize| view.listeners[index].connections.as_ref().unwrap().complete;
        (of(0), of(3), view.gaps.len())
    };
    assert_eq!(complete(&seen), (true, true, 0));
    seen.bpf.as_mut().unwrap().skipped_accepts = 3;
    assert_eq!(complete(&seen), (true, false, 1));
}
