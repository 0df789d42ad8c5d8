//! Loads the object with the offsets of this kernel and attaches what the plan names.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    env, fs,
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, Queue},
    programs::{FExit, Program, RawTracePoint, TracePoint},
};
use raindrops_ebpf::{globals::setting, miss, names::map, overlooked::LOOKS, turns::mode};

use super::{
    Bpf, BpfError, Hooks,
    info::memory_of,
    reconcile::Reconciler,
    shared::SharedArray,
    sizes::{Host, WORKER_ROWS},
    tracefs,
    turns::Turns,
};
use crate::{
    causes::with_causes,
    host::KernelTypes,
    ids::NetnsId,
    plan::{AcceptWay, BpfPlan, StateHook, TurnsPlan},
};

const STATE_TRACEPOINT: &str = "inet_sock_set_state";

/// Instead of the built-in object, for testing a rebuilt one.
const OBJECT_VARIABLE: &str = "RAINDROPS_BPF_OBJECT";

/// The compiled programs.
///
/// # Errors
/// When the environment names another object that cannot be read.
pub fn object() -> std::io::Result<Cow<'static, [u8]>> {
    match env::var_os(OBJECT_VARIABLE) {
        Some(path) => fs::read(path).map(Cow::Owned),
        None => Ok(Cow::Borrowed(aya::include_bytes_aligned!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../raindrops-ebpf/prebuilt/raindrops-ebpf.bpf.o"
        )))),
    }
}

impl Bpf {
    /// Makes the maps, with everything set but nothing attached. `netns` is the only network
    /// namespace to follow; `None` for all.
    ///
    /// # Errors
    /// When the kernel refuses what the plan needs.
    pub fn load(
        object: &[u8],
        plan: &BpfPlan,
        types: &KernelTypes,
        netns: Option<NetnsId>,
        host: Host,
    ) -> Result<Self, BpfError> {
        if plan.raise_memlock {
            raise_memlock();
        }
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for (global, offset) in &types.offsets {
            loader.override_global(global, offset, true);
        }
        let settings = [
            (setting::NETNS, netns.map_or(0, |netns| netns.0)),
            (
                setting::HAS_DATA_READY,
                u32::from(plan.data_ready.is_some()),
            ),
            (setting::SHARDS, host.shards()),
            (
                setting::TURNS,
                match &plan.turns {
                    Ok(turns) if turns.sees_ends => mode::ON,
                    Ok(_) => mode::LIGHT,
                    Err(_) => mode::OFF,
                },
            ),
            (
                setting::SEES_UNIX_TURNS,
                u32::from(plan.turns.as_ref().is_ok_and(TurnsPlan::sees_unix)),
            ),
        ];
        for (global, value) in &settings {
            loader.override_global(global, value, true);
        }
        let log_level = if host.logs {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        loader.override_global(aya_log::LEVEL, &log_level, true);
        let sizes = host.entries();
        for (name, entries) in sizes {
            loader.map_max_entries(name, entries);
        }
        let changed = if plan.preallocate {
            preallocated(object)
        } else {
            None
        };
        let object = changed.as_deref().unwrap_or(object);
        let mut ebpf = loader.load(object).map_err(BpfError::Object)?;
        drop(loader);

        let memory: Option<u64> = ebpf.maps().map(|(_, map)| memory_of(map)).sum();
        let memory = memory.filter(|_| plan.tells_map_memory);
        let connections = ebpf.map(map::CONNECTIONS).and_then(memory_of);
        let fixed_memory = memory.zip(connections).map(|(all, some)| all - some);
        let grows = plan.tells_map_memory && !plan.preallocate;
        let mut free_rows: Queue<_, u32> = take(&mut ebpf, map::FREE_LISTENER_ROWS)?;
        for slot in 0..host.listener_rows() {
            free_rows
                .push(slot, 0)
                .map_err(BpfError::map(map::FREE_LISTENER_ROWS))?;
        }
        let mut free_worker_rows: Queue<_, u32> = take(&mut ebpf, map::FREE_WORKER_ROWS)?;
        for row in 0..WORKER_ROWS {
            free_worker_rows
                .push(row, 0)
                .map_err(BpfError::map(map::FREE_WORKER_ROWS))?;
        }
        let logger = if host.logs {
            aya_log::EbpfLogger::init_with_logger(&mut ebpf, log::logger()).ok()
        } else {
            None
        };
        Ok(Self {
            hooks: Hooks {
                lifecycle: "raw_tp",
                accept: "none",
                listener: "address",
                turns: plan.turns.clone().map(|_| "none"),
                refused: Vec::new(),
                memory,
            },
            logger,
            shards: host.shards() as usize,
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            listeners: take(&mut ebpf, map::LISTENERS)?,
            by_sock: take(&mut ebpf, map::LISTENER_BY_SOCK)?,
            by_address: take(&mut ebpf, map::LISTENER_BY_ADDRESS)?,
            free_rows,
            used_rows: Vec::new(),
            unused_rows: (0..host.listener_rows()).collect(),
            rows: shared(&ebpf, map::LISTENER_ROWS, host.listener_rows())?,
            counters: shared(&ebpf, map::LISTENER_COUNTERS, host.listener_counters())?,
            workers: take(&mut ebpf, map::WORKERS)?,
            free_worker_rows,
            worker_rows: shared(&ebpf, map::WORKER_ROWS, WORKER_ROWS)?,
            misses: shared(&ebpf, map::MISSES, miss::ALL.len() as u32)?,
            seeds: take(&mut ebpf, map::SEEDS)?,
            born_while_seeding: take(&mut ebpf, map::BORN_WHILE_SEEDING)?,
            seeding: take(&mut ebpf, map::SEEDING)?,
            seeding_complete: false,
            has_seeded: false,
            no_seeds_left: false,
            known: BTreeMap::new(),
            late: BTreeSet::new(),
            read_at: BTreeMap::new(),
            rowless: BTreeSet::new(),
            missing: BTreeMap::new(),
            accept_programs: Vec::new(),
            skipped_accepts: 0,
            skipped_arrivals: 0,
            infos: BTreeMap::new(),
            fixed_memory,
            empty_table: connections.filter(|_| grows),
            reconciler: None,
            turns: match &plan.turns {
                Ok(turns) => {
                    let sees_data = plan.data_ready.is_some();
                    Some(Turns::load(&mut ebpf, &host, turns, sees_data)?)
                }
                Err(_) => None,
            },
            cached: std::iter::repeat_with(|| None)
                .take(host.listener_rows() as usize)
                .collect(),
            ebpf,
        })
    }

    /// Attaches what the plan names: from now on events are counted.
    ///
    /// # Errors
    /// When the kernel refuses what the plan needs.
    pub fn attach(&mut self, plan: &BpfPlan) -> Result<(), BpfError> {
        self.attach_accept(&plan.accept)?;
        if let Some(data_ready) = plan.data_ready {
            raw_tracepoint(&mut self.ebpf, data_ready, "sk_data_ready")?;
            self.hooks.listener = "sk_data_ready";
        }
        // Last: a connection whose birth is seen must also be seen accepted. Programs on one
        // tracepoint run in the order in which they were attached.
        raw_tracepoint(&mut self.ebpf, plan.socket_state, STATE_TRACEPOINT)?;
        self.attach_state_again(&plan.socket_state_again)?;
        let looks = shared(&self.ebpf, map::LOOKS, LOOKS)?;
        match Reconciler::load(&mut self.ebpf, plan.reconcile, looks) {
            Ok(reconciler) => self.reconciler = Some(reconciler),
            Err(error) => self.hooks.refused.push(format!("reconcile: {error}")),
        }
        if let Ok(turns) = &plan.turns {
            self.attach_turns(turns);
        }
        Ok(())
    }

    fn attach_state_again(&mut self, hooks: &[StateHook]) -> Result<(), BpfError> {
        let mut result = Ok(());
        for hook in hooks {
            let (name, attached) = match *hook {
                StateHook::RawTracepoint(program) => (
                    "raw_tp",
                    raw_tracepoint(&mut self.ebpf, program, STATE_TRACEPOINT),
                ),
                StateHook::Tracepoint(program) => {
                    let hooks = [("sock", STATE_TRACEPOINT)];
                    (
                        "raw_tp+tracepoint",
                        tracepoints(&mut self.ebpf, program, &hooks),
                    )
                }
            };
            match attached {
                Ok(()) => {
                    self.hooks.lifecycle = name;
                    return Ok(());
                }
                Err(error) => {
                    self.hooks.refused.push(format!("{name}: {error}"));
                    result = Err(error);
                }
            }
        }
        result
    }

    fn attach_accept(&mut self, ways: &[AcceptWay]) -> Result<(), BpfError> {
        for way in ways {
            let (name, attached) = match *way {
                AcceptWay::Fexit { tcp, unix } => {
                    let unix = unix.map(|program| (program, "unix_accept"));
                    let functions = [Some((tcp, "inet_csk_accept")), unix];
                    let functions: Vec<_> = functions.into_iter().flatten().collect();
                    ("fexit", fexits(&mut self.ebpf, &functions))
                }
                AcceptWay::Syscall { program } => {
                    ("syscall", syscall_exits(&mut self.ebpf, program))
                }
            };
            match attached {
                Ok(()) => {
                    self.hooks.accept = name;
                    self.accept_programs = match *way {
                        AcceptWay::Fexit { tcp, unix } => {
                            [Some(tcp), unix].into_iter().flatten().collect()
                        }
                        AcceptWay::Syscall { program } => vec![program],
                    };
                    return Ok(());
                }
                Err(error) => self.hooks.refused.push(format!("{name}: {error}")),
            }
        }
        Err(BpfError::NoAcceptHook {
            reasons: std::mem::take(&mut self.hooks.refused),
        })
    }
}

pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BpfError>
where
    M: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(BpfError::Missing(name))?;
    M::try_from(map).map_err(BpfError::map(name))
}

pub(super) fn shared<T: super::shared::Words>(
    ebpf: &Ebpf,
    name: &'static str,
    length: u32,
) -> Result<SharedArray<T>, BpfError> {
    let map = ebpf.map(name).ok_or(BpfError::Missing(name))?;
    let Map::Array(data) = map else {
        return Err(BpfError::Missing(name));
    };
    SharedArray::new(data.fd(), length as usize)
        .map_err(|source| BpfError::Memory { map: name, source })
}

pub(super) fn load_program<'a, P>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut P, BpfError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(BpfError::Missing(name))
}

pub(super) fn refused<E: std::error::Error>(program: &'static str) -> impl FnOnce(E) -> BpfError {
    move |error| BpfError::Attach {
        program,
        reason: chain(&error),
    }
}

/// An error with its causes; of the verifier's log, which can be megabytes, only the end.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    const LAST: usize = 300;
    let text = with_causes(error).trim_end().replace('\n', " ");
    match text.char_indices().rev().nth(LAST) {
        Some((start, _)) => format!("…{}", &text[start..]),
        None => text,
    }
}

pub(super) fn raw_tracepoint(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
) -> Result<(), BpfError> {
    let program: &mut RawTracePoint = load_program(ebpf, name)?;
    program.load().map_err(refused(name))?;
    program.attach(tracepoint).map_err(refused(name))?;
    Ok(())
}

/// Attaches to the exits of functions, by program and function: all of them, or none where the kernel
/// does not take one of the programs.
pub(super) fn fexits(
    ebpf: &mut Ebpf,
    functions: &[(&'static str, &'static str)],
) -> Result<(), BpfError> {
    let Some((first, _)) = functions.first() else {
        return Ok(());
    };
    let btf = Btf::from_sys_fs().map_err(refused(first))?;
    for (name, function) in functions {
        let program: &mut FExit = load_program(ebpf, name)?;
        program.load(function, &btf).map_err(refused(name))?;
    }
    for (name, _) in functions {
        let program: &mut FExit = load_program(ebpf, name)?;
        program.attach().map_err(refused(name))?;
    }
    Ok(())
}

fn syscall_exits(ebpf: &mut Ebpf, name: &'static str) -> Result<(), BpfError> {
    let exits = [
        ("syscalls", "sys_exit_accept"),
        ("syscalls", "sys_exit_accept4"),
    ];
    tracepoints(ebpf, name, &exits)
}

pub(super) fn tracepoints(
    ebpf: &mut Ebpf,
    name: &'static str,
    places: &[(&str, &str)],
) -> Result<(), BpfError> {
    let program: &mut TracePoint = load_program(ebpf, name)?;
    program.load().map_err(refused(name))?;
    tracefs::visible(|mounted| {
        for (category, tracepoint) in places {
            if let Err(error) = program.attach(category, tracepoint) {
                let hidden = mounted.as_ref().err().map_or(String::new(), |mount| {
                    format!(" (tracefs is not mounted, and mounting it failed: {mount})")
                });
                let reason = format!("{}{hidden}", chain(&error));
                return Err(BpfError::Attach {
                    program: name,
                    reason,
                });
            }
        }
        Ok(())
    })
}

/// Clears the flag that lets hash maps allocate as they go, in the object's section of legacy map
/// definitions: records of seven `u32`, of which the fifth is the flags.
fn preallocated(object: &[u8]) -> Option<Vec<u8>> {
    use object::{Object as _, ObjectSection as _};
    const RECORD: usize = 28;
    const FLAGS: usize = 16;
    /// `BPF_F_NO_PREALLOC`, in the lowest byte.
    const NO_PREALLOC: u8 = 1;
    let file = object::File::parse(object).ok()?;
    let (start, length) = file.section_by_name("maps")?.file_range()?;
    let (start, length) = (usize::try_from(start).ok()?, usize::try_from(length).ok()?);
    let mut changed = object.to_vec();
    for record in changed
        .get_mut(start..start + length)?
        .chunks_exact_mut(RECORD)
    {
        record[FLAGS] &= !NO_PREALLOC;
    }
    Some(changed)
}

fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Without the right to raise it the load itself fails, with the kernel's own reason.
    let _ = setrlimit(
        Resource::Memlock,
        Rlimit {
            current: None,
            maximum: None,
        },
    );
}

/// Gives what parsing the kernel's types took back to the system.
pub fn trim_heap() {
    // SAFETY: `malloc_trim` may be called at any time.
    unsafe { libc::malloc_trim(0) };
}
