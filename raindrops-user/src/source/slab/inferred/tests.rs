//! Servers, their memory, and what is told of it.

mod counters;
mod ticks;

use std::{collections::BTreeMap, time::Duration};

use raindrops_slab::read::Value;

use super::{Copied, Host, Mapped, Mapping, Maps, Recogniser, is_candidate, stride};
use crate::{
    ids::{Monotonic, Pid, StartTicks},
    snapshot::slabs::{Memory, Place, SlabKind, Suspect},
    view::servers::{Kind, Member, Role},
};

const HOST: Host = Host {
    stride: 64,
    musl_stride: 128,
    page: 4096,
    ticks_per_second: 100,
};
const ZERO: &str = "/dev/zero (deleted)";
/// Seconds at which the servers were started, and of the first look.
const STARTED: u64 = 5_000;
const NOW: u64 = 10_000;
const MASTER: u32 = 100;

/// Processes, what they have mapped, and what is in it.
#[derive(Clone, Debug, Default)]
struct Scene {
    processes: BTreeMap<Pid, (Suspect, Maps)>,
    unread: Vec<Pid>,
    /// Device of what is mapped next.
    major: u32,
    bytes: BTreeMap<Memory, Vec<u8>>,
}

/// What is told of one memory: its totals, and figures of its workers by pid.
type Told = (
    SlabKind,
    Vec<(String, Option<i64>)>,
    Vec<(u32, Vec<Option<i64>>)>,
);

impl Scene {
    /// A master and so many workers, whose pids follow its own.
    fn of(kind: Kind, workers: u32) -> Self {
        let mut scene = Self::default();
        for nr in 0..=workers {
            let suspect = Suspect {
                started: StartTicks(STARTED * 100),
                ns_pid: None,
                parent: Pid(if nr == 0 { 1 } else { MASTER }),
                member: Member {
                    kind,
                    role: if nr == 0 { Role::Master } else { Role::Worker },
                    index: nr.checked_sub(1),
                    server: Some(format!("{kind}:{MASTER}")),
                    title: String::new(),
                },
            };
            let maps = Maps {
                has_raindrops: kind != Kind::Nginx,
                has_nginx: kind == Kind::Nginx,
                ..Maps::default()
            };
            scene.processes.insert(Pid(MASTER + nr), (suspect, maps));
        }
        scene
    }

    fn map(mut self, inode: u64, pids: &[u32], label: &str, bytes: Vec<u8>) -> Self {
        let memory = Memory {
            major: self.major,
            ..memory(inode)
        };
        for pid in pids {
            let (_, maps) = self.processes.get_mut(&Pid(*pid)).unwrap();
            maps.shared.push(Mapping {
                memory,
                address: 0x1000 * inode,
                length: bytes.len() as u64,
                path: (!label.ends_with("(deleted)")).then(|| label.into()),
                label: label.as_bytes().to_vec(),
            });
        }
        self.bytes.insert(memory, bytes);
        self
    }

    fn on_disk(mut self) -> Self {
        self.major = 8;
        self
    }

    /// Anonymous memory of all processes.
    fn share(self, inode: u64, bytes: Vec<u8>) -> Self {
        let pids: Vec<u32> = self.processes.keys().map(|pid| pid.0).collect();
        self.map(inode, &pids, ZERO, bytes)
    }

    fn each(mut self, change: impl Fn(&mut Suspect, &mut Maps)) -> Self {
        for (suspect, maps) in self.processes.values_mut() {
            change(suspect, maps);
        }
        self
    }

    fn write(&mut self, inode: u64, words: &[u64]) {
        self.bytes.insert(memory(inode), page(words));
    }

    fn look(&self, recogniser: &mut Recogniser, now: u64) -> Vec<Told> {
        let processes: BTreeMap<Pid, Mapped<'_>> = self
            .processes
            .iter()
            .map(|(pid, (process, maps))| {
                let is_read = !self.unread.contains(pid);
                (
                    *pid,
                    Mapped {
                        process,
                        maps,
                        is_read,
                    },
                )
            })
            .collect();
        let mut bytes = self.bytes.clone();
        bytes.retain(|memory, _| {
            let mut holders = processes.values();
            holders.any(|it| {
                let mapping = it.maps.shared.iter().find(|it| it.memory == *memory);
                mapping.is_some_and(|mapping| is_candidate(*it, mapping))
            })
        });
        let copied = Copied {
            began: Monotonic(Duration::from_secs(now)),
            ended: Monotonic(Duration::from_millis(now * 1000 + 1)),
            suspended: Duration::ZERO,
        };
        let slabs = recogniser.recognise(&processes, &bytes, copied);
        slabs
            .into_iter()
            .map(|slab| {
                let numbers = |values: Vec<Option<Value>>| -> Vec<Option<i64>> {
                    values.into_iter().map(|it| it.map(number)).collect()
                };
                let names = slab.fields.into_iter().map(|field| field.name);
                let workers = slab.workers.into_iter();
                (
                    slab.kind,
                    names.zip(numbers(slab.totals)).collect(),
                    workers
                        .map(|((pid, _), values)| (pid.0, numbers(values)))
                        .collect(),
                )
            })
            .collect()
    }

    fn first_look(&self) -> Vec<Told> {
        self.look(&mut Recogniser::new(HOST), NOW)
    }
}

fn memory(inode: u64) -> Memory {
    Memory {
        major: 0,
        minor: 1,
        inode,
    }
}

fn number(value: Value) -> i64 {
    match value {
        Value::Gauge(level) => level,
        Value::Counter(count) => count.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn page(words: &[u64]) -> Vec<u8> {
    strided(words, 64)
}

fn strided(words: &[u64], stride: usize) -> Vec<u8> {
    let mut page = vec![0; 4096];
    for (word, to) in words.iter().zip(page.chunks_exact_mut(stride)) {
        to[..8].copy_from_slice(&word.to_ne_bytes());
    }
    page
}

fn totals(names: &[&str], values: &[i64]) -> Vec<(String, Option<i64>)> {
    let names = names.iter().map(|name| (*name).to_owned());
    names.zip(values.iter().map(|it| Some(*it))).collect()
}

fn calls(calling: i64, writing: i64) -> Vec<Told> {
    let totals = totals(&["calling", "writing"], &[calling, writing]);
    vec![(SlabKind::RaindropsRb, totals, vec![])]
}

fn numbered(values: &[i64]) -> Vec<Told> {
    let totals = (0..)
        .zip(values)
        .map(|(nr, it)| (format!("counter_{nr}"), Some(*it)));
    vec![(SlabKind::RaindropsRb, totals.collect(), vec![])]
}

fn ages(ages: &[(u32, Option<i64>)]) -> Vec<Told> {
    let ages = ages.iter().map(|(pid, age)| (*pid, vec![*age]));
    let totals = vec![("tick_age_s".to_owned(), None)];
    vec![(SlabKind::UnicornTick, totals, ages.collect())]
}

fn clients(of: &[(u32, i64)]) -> Vec<Told> {
    let slab = |(pid, count): &(u32, i64)| {
        (
            SlabKind::RainbowsN,
            vec![("clients".to_owned(), None)],
            vec![(*pid, vec![Some(*count)])],
        )
    };
    of.iter().map(slab).collect()
}

#[test]
fn strides_are_those_of_the_library() {
    assert_eq!(stride(Some(64), false), 64);
    assert_eq!(stride(Some(0), false), 128);
    assert_eq!(stride(None, false), 128);
    assert_eq!(stride(Some(64), true), 8);
}

#[test]
fn what_is_read_at_all() {
    let ruby = || Scene::of(Kind::Unicorn, 0);
    let nginx = || Scene::of(Kind::Nginx, 0);
    let foreign = |scene: Scene| {
        scene.each(|_, maps| {
            maps.has_raindrops = false;
            maps.has_nginx = false;
        })
    };
    for (scene, label, length, is_file, expected) in [
        (ruby(), ZERO, 4096, false, true),
        (ruby(), "/run/app/counters", 4096, true, true),
        (ruby(), "/run/app/counters (deleted)", 4096, true, true),
        (ruby(), "/memfd:counters (deleted)", 4096, false, true),
        (ruby(), "/SYSV00000000 (deleted)", 4096, false, false),
        (ruby(), ZERO, 65537, false, false),
        (nginx(), ZERO, 4096, false, true),
        (nginx(), "/run/nginx/zone", 4096, true, false),
        (foreign(ruby()), ZERO, 4096, false, false),
        (foreign(nginx()), ZERO, 4096, false, false),
    ] {
        let scene = if is_file { scene.on_disk() } else { scene };
        let scene = scene.map(7, &[MASTER], label, vec![0; length]);
        let (process, maps) = &scene.processes[&Pid(MASTER)];
        let mapped = Mapped {
            process,
            maps,
            is_read: true,
        };
        assert_eq!(is_candidate(mapped, &maps.shared[0]), expected, "{label}");
    }
}

/// Lock of accepting, connections, temporary files; accepts, handled, requests, active, reading,
/// writing, waiting.
const STUB: [u64; 10] = [0, 6, 3, 5, 5, 9, 2, 0, 1, 1];

#[test]
fn figures_of_nginx() {
    let names = [
        "accepts", "handled", "requests", "active", "reading", "writing", "waiting",
    ];
    let told = |values: &[i64; 7]| vec![(SlabKind::NginxStub, totals(&names, values), vec![])];
    let tell = |words: [u64; 10]| {
        Scene::of(Kind::Nginx, 2)
            .share(1, strided(&words, 128))
            .first_look()
    };
    assert_eq!(tell(STUB), told(&[5, 5, 9, 2, 0, 1, 1]));
    let with = |changes: &[(usize, u64)]| {
        let mut words = STUB;
        for (line, word) in changes {
            words[*line] = *word;
        }
        words
    };
    // A worker has the lock; connections of HTTP/2 write more than there are.
    assert_eq!(
        tell(with(&[(0, 4711), (8, 100)])),
        told(&[5, 5, 9, 2, 0, 100, 1])
    );
    for (changes, why) in [
        (&[(1, 1), (3, 0), (4, 0)][..], "nobody has come yet"),
        (
            &[(3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0)],
            "built without",
        ),
        (&[(4, 6)], "more handled than accepted"),
        (&[(1, 1)], "none were counted"),
        (&[(0, u64::MAX)], "the lock is no pid"),
        (&[(6, u64::MAX)], "less than none active"),
        (&[(3, 9999), (4, 9000)], "more than there were connections"),
    ] {
        assert_eq!(tell(with(changes)), vec![], "{why}");
    }

    let twice = Scene::of(Kind::Nginx, 2)
        .share(1, strided(&STUB, 128))
        .share(2, strided(&STUB, 128));
    assert_eq!(twice.first_look(), vec![]);

    // Told once, it stays while it has the shape: a figure may be copied later than another.
    let mut scene = Scene::of(Kind::Nginx, 2).share(1, strided(&STUB, 128));
    let mut recogniser = Recogniser::new(HOST);
    scene.look(&mut recogniser, NOW);
    scene
        .bytes
        .insert(memory(1), strided(&with(&[(4, 6)]), 128));
    assert_eq!(
        scene.look(&mut recogniser, NOW),
        told(&[5, 6, 9, 2, 0, 1, 1])
    );
}

#[test]
fn hostile_bytes_are_nothing() {
    let mut between = page(&[1, 1]);
    between[72] = 1;
    for (kind, bytes) in [
        (Kind::Unicorn, between.clone()),
        (Kind::Unicorn, vec![0xff; 4096]),
        (Kind::Unicorn, vec![]),
        (Kind::Unicorn, vec![1]),
        (Kind::Rainbows, vec![1; 65]),
        (Kind::Nginx, vec![0xff; 4096]),
        (Kind::Nginx, vec![]),
        (Kind::Nginx, vec![0; 1279]),
        (Kind::Nginx, {
            let mut bytes = strided(&STUB, 128);
            bytes[4095] = 1;
            bytes
        }),
        (Kind::Nginx, between),
    ] {
        let told = Scene::of(kind, 2).share(1, bytes).first_look();
        assert_eq!(told, vec![]);
    }
    let all = Scene::of(Kind::Unicorn, 2).share(1, page(&[u64::MAX; 64]));
    assert_eq!(all.first_look(), numbered(&[-1; 64]));
}

#[test]
fn it_is_said_where_it_is() {
    let place = |scene: Scene| {
        let processes = scene
            .processes
            .iter()
            .map(|(pid, (process, maps))| {
                let is_read = true;
                let mapped = Mapped {
                    process,
                    maps,
                    is_read,
                };
                (*pid, mapped)
            })
            .collect();
        let copied = Copied {
            began: Monotonic(Duration::from_secs(NOW)),
            ended: Monotonic(Duration::from_secs(NOW)),
            suspended: Duration::ZERO,
        };
        let slabs = Recogniser::new(HOST).recognise(&processes, &scene.bytes, copied);
        slabs.into_iter().map(|it| it.place).next()
    };
    let mut scene = Scene::of(Kind::Unicorn, 1).share(1, page(&[1]));
    assert_eq!(place(scene.clone()), Some(Place::Process(Pid(MASTER))));
    // Pids have begun anew since the master was started.
    for pid in [MASTER, MASTER + 1] {
        let (suspect, _) = scene.processes.get_mut(&Pid(pid)).unwrap();
        suspect.member.role = match suspect.member.role {
            Role::Master => Role::Worker,
            _ => Role::Master,
        };
    }
    assert_eq!(place(scene), Some(Place::Process(Pid(MASTER + 1))));
    let file = Scene::of(Kind::Unicorn, 1);
    let file = file.map(1, &[101], "/run/app/counters", page(&[1]));
    assert_eq!(place(file), Some(Place::File("/run/app/counters".into())));
}
