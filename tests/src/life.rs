//! One life of a connection or of a listener, in a network namespace of its own beside a daemon.
//!
//! While it goes on, whole rows are compared with what the kernel and the one who leads that life
//! know. When it is over, nothing of it may be left: no row, no entry in the programs' maps, and
//! no gap but those that were announced.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    env,
    os::fd::AsFd,
    process,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_user::view::{SourceState, View};
use rustix::fs::fstat;

use crate::{
    daemon::{self, Daemon, Place, User, source},
    kernel, maps, netns,
    row::{Figures, Row, shown_path},
    skip::{self, Need, can_run},
    wait,
};

/// Maps in which an entry stands for one connection.
const OF_CONNECTIONS: [&str; 3] = ["CONNECTIONS", "SEEDS", "BORN_WHILE_SEED"];

/// The map of threads that have read or answered: this process's live as long as it does.
const OF_THREADS: &str = "THREADS";

/// How the daemon sees accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Fexit,
    Syscall,
    /// BPF is off.
    None,
}

/// What must be there, beside a daemon that counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// Variables of the network namespace, without `net.`; where the kernel has none of that name
    /// the life cannot be led.
    pub sysctls: &'a [(&'a str, &'a str)],
    /// Options of the daemon.
    pub arguments: &'a [&'a str],
}

#[derive(Debug)]
pub struct Life {
    place: Place,
    daemon: Daemon,
    pub hook: Hook,
    /// Whether a TCP connection's listener is told by `sk_data_ready`.
    pub tells_members: bool,
    overflows: u64,
    rows: BTreeSet<u64>,
    entries: BTreeMap<String, usize>,
    gaps: Mutex<BTreeSet<&'static str>>,
    possible_gaps: Mutex<BTreeSet<&'static str>>,
}

/// Leads a life.
pub fn led(setting: Setting<'_>, life: impl FnOnce(&Life) -> Result<()> + Send) -> Result<()> {
    led_after(setting, || Ok(()), |it, ()| life(it))
}

/// Leads a life that began before the daemon did.
pub fn led_after<T>(
    setting: Setting<'_>,
    before: impl FnOnce() -> Result<T> + Send,
    life: impl FnOnce(&Life, T) -> Result<()> + Send,
) -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        for (name, value) in setting.sysctls {
            if !kernel::sysctl(name, value)? {
                skip::report(&format!("this host cannot: the kernel has no net.{name}"));
                return Ok(());
            }
        }
        let before = before()?;
        let it = Life::begin(setting.arguments)?;
        life(&it, before)?;
        it.is_over()
    })
}

impl Life {
    fn begin(arguments: &[&str]) -> Result<Self> {
        let overflows = netns::listen_overflows()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, arguments)?;
        let view = daemon.view()?;
        let hook = hook(&view)?;
        let bpf = source(&view, "bpf")?;
        let tells = |detail: &str| bpf.detail.values().any(|value| value == detail);
        let own = own_rows(&view, &daemon);
        Ok(Self {
            tells_members: hook == Hook::Fexit || tells("sk_data_ready"),
            entries: maps::entries(daemon.pid())?,
            rows: own,
            place,
            daemon,
            hook,
            overflows,
            gaps: Mutex::default(),
            possible_gaps: Mutex::default(),
        })
    }

    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The daemon beside it.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Whether accepts are counted at all.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.hook != Hook::None
    }

    /// Announces a gap that this life must leave.
    pub fn leaves_gap(&self, what: &'static str) {
        if self.is_counted() {
            let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
            gaps.insert(what);
        }
    }

    /// Announces a gap that chance decides on.
    pub fn may_leave_gap(&self, what: &'static str) {
        let gaps = &self.possible_gaps;
        gaps.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(what);
    }

    /// Waits until a listener's whole row is as it must be, every accept being this process's.
    pub fn shows(&self, listening: impl AsFd, figures: Figures) -> Result<View> {
        // An accept that no hook saw is nobody's.
        let accepts = figures.accepts - figures.late_accepts;
        self.shows_by(listening, figures, &[(process::id(), accepts)])
    }

    /// The same with accepts by pid.
    pub fn shows_by(
        &self,
        listening: impl AsFd,
        figures: Figures,
        accepts: &[(u32, u64)],
    ) -> Result<View> {
        let accepts = accepts.iter().copied().filter(|(_, count)| *count > 0);
        let accepts = accepts.collect();
        let socket = listening.as_fd();
        let inode = fstat(socket)?.st_ino;
        let last = RefCell::new(String::new());
        let found = wait::until("the row that must be shown", || {
            // The kernel is asked before and after the view, and has to say the same.
            let expected = || {
                let overflows = netns::listen_overflows()? - self.overflows;
                let row = Row::expected(socket, figures, &accepts, overflows)?;
                Ok(if self.is_counted() {
                    row
                } else {
                    row.without_connections()
                })
            };
            let before: Result<Row> = expected();
            let view = self.daemon.view()?;
            let after: Result<Row> = expected();
            let rows = view.listeners.iter().filter(|row| row.inode == inode);
            let (Ok(before), Ok(after)) = (&before, &after) else {
                *last.borrow_mut() = format!("{after:?}");
                return Ok(None);
            };
            let shown: Vec<Row> = rows.map(|row| before.shown(&view, row)).collect();
            let agrees = before == after && shown == std::slice::from_ref(before);
            *last.borrow_mut() = format!("shown {shown:#?}\nexpected {after:#?}\n{:?}", view.gaps);
            Ok(agrees.then_some(view))
        });
        found.with_context(|| last.borrow().clone())
    }

    /// Waits until a listener is not shown any more.
    pub fn shows_no(&self, inode: u64) -> Result<View> {
        self.daemon
            .until("no row of a listener that is gone", |view| {
                view.listeners.iter().all(|row| row.inode != inode)
            })
    }

    /// Nothing is left when all is closed.
    fn is_over(&self) -> Result<()> {
        let netns = kernel::netns_inode()?;
        let rows = |view: &View| {
            let here = view.listeners.iter();
            let here = here.filter(|row| row.netns.inode == netns);
            here.map(|row| row.inode).collect()
        };
        let view = self
            .daemon
            .until("no row of this life's listeners", |view| {
                self.rows.is_superset(&rows(view))
            })?;
        let last = RefCell::new(String::new());
        let gone = wait::until("the programs' maps to be as they were", || {
            let entries = maps::entries(self.daemon.pid())?;
            *last.borrow_mut() = format!("before {:?}, now {entries:?}", self.entries);
            let mut of_sockets = entries.iter().filter(|(name, _)| *name != OF_THREADS);
            let is_over = of_sockets.all(|(name, count)| {
                let before = self.entries.get(name).copied().unwrap_or(0);
                let is_of_connections = OF_CONNECTIONS.contains(&name.as_str());
                *count <= if is_of_connections { 0 } else { before }
            });
            Ok(is_over.then_some(()))
        });
        gone.with_context(|| last.borrow().clone())?;
        let gaps: BTreeSet<&str> = view.gaps.iter().map(|gap| gap.what.as_str()).collect();
        let announced = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        let possible = self
            .possible_gaps
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unexpected = gaps
            .iter()
            .any(|gap| !announced.contains(gap) && !possible.contains(gap));
        ensure!(
            announced.is_subset(&gaps) && !unexpected,
            "announced were the gaps {announced:?}: {:?}",
            view.gaps
        );
        Ok(())
    }
}

/// Inodes of the listeners there are when a life begins whose rows may stay: the daemon's own.
fn own_rows(view: &View, daemon: &Daemon) -> BTreeSet<u64> {
    let own = shown_path(daemon.socket());
    view.listeners
        .iter()
        .filter(|row| row.address == own)
        .map(|row| row.inode)
        .collect()
}

/// How the daemon sees accepts. BPF may be off only where the daemon was told so.
fn hook(view: &View) -> Result<Hook> {
    let bpf = source(view, "bpf")?;
    if env::var(daemon::ACCEPT_HOOK).as_deref() == Ok("none") {
        ensure!(bpf.state == SourceState::Off, "BPF is on: {bpf:?}");
        ensure!(bpf.reason.is_some(), "BPF is off without a reason");
        return Ok(Hook::None);
    }
    daemon::expect_bpf(view)?;
    match bpf.detail.get("accept").map(String::as_str) {
        Some("fexit") => Ok(Hook::Fexit),
        Some("syscall") => Ok(Hook::Syscall),
        _ => anyhow::bail!("unknown way to see accepts: {bpf:?}"),
    }
}
