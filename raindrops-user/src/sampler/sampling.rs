//! What the sampling thread does at each beat: asks every source, and makes a view of what they saw.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Options, SamplerError,
    control::Control,
    cross_check::CrossCheck,
    exits::ExitLedger,
    hidden::hide_turns,
    host,
    old_turns::old_turns,
    older_unix::OlderUnix,
    ownership::{Evidence, Ownership, acceptors},
    programs::{Choice, Programs},
    sources,
    suspects::Suspects,
    unseen::UnseenAccepts,
    watched::Watched,
};
use crate::{
    history::Recorder,
    host::Facts,
    ids::{Monotonic, Pid, Tid},
    plan::{Off, netns::namespaces},
    publish::Hub,
    select::Selector,
    snapshot::{ListenerCounts, ListenerKey},
    source::{bpf::Dumps, proc::ProcThread, puma::PumaControls, slab::SlabThread},
    view::{
        Gap, Host, View,
        durations::Counts,
        losses::Losses,
        merge::{Inputs, merge},
        recent::Marks,
        waiting::Waiting,
    },
};

/// Views are published no more often than this while somebody reads them; queues may be sampled
/// faster.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// The same while nobody does; who comes then is given one that is made for him.
const UNREAD_INTERVAL: Duration = Duration::from_secs(1);
/// How long the first view waits for the first look at the processes.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The sampling thread's state.
pub(super) struct Sampling {
    host: Host,
    watched: Watched,
    programs: Programs,
    cross_check: CrossCheck,
    unseen: UnseenAccepts,
    older_unix: OlderUnix,
    processes: ProcThread,
    puma: Arc<PumaControls>,
    slabs: SlabThread,
    suspects: Suspects,
    marks: Marks,
    waiting: Waiting,
    losses: Losses,
    ownership: Ownership,
    without_turns: Vec<Selector>,
    /// Listeners that these mean now.
    hidden: BTreeSet<ListenerKey>,
    /// Somebody reads the views.
    is_read: bool,
    exits: ExitLedger,
    /// Threads at old turns, by the last view.
    old_turns: BTreeSet<(Pid, Tid)>,
    may_read_others: bool,
    since: SystemTime,
    recorder: Recorder,
}

impl Sampling {
    pub(super) fn start(
        options: Options,
        puma: Arc<PumaControls>,
        recorder: Recorder,
    ) -> Result<Self, SamplerError> {
        let facts = Facts::gather(options.bpf);
        let mut processes =
            ProcThread::start(PathBuf::from("/proc")).map_err(SamplerError::Thread)?;
        let slabs = SlabThread::start(options.slabs).map_err(SamplerError::Thread)?;
        let namespaces = namespaces(&facts, options.netns).map_err(SamplerError::NotAllowed)?;
        let mut watched = Watched::open(namespaces)?;
        processes.request(watched.inodes(), BTreeSet::new(), BTreeSet::new());
        let choice = Choice {
            enabled: options.bpf,
            accept_hook: options.accept_hook,
            turns: options.turns,
            max_connections: options.max_connections,
            verbose: options.verbose,
        };
        let programs = Programs::start(&facts, choice, &mut watched);
        let since = SystemTime::now();
        let _ = processes.wait_for_first(FIRST_LOOK);
        Ok(Self {
            host: host(&facts),
            cross_check: CrossCheck::new(watched.own(), Monotonic::now()),
            watched,
            programs,
            unseen: UnseenAccepts::default(),
            older_unix: OlderUnix::default(),
            processes,
            puma,
            slabs,
            suspects: Suspects::default(),
            marks: Marks::default(),
            waiting: Waiting::default(),
            losses: Losses::default(),
            ownership: Ownership::default(),
            without_turns: options.without_turns,
            hidden: BTreeSet::new(),
            is_read: false,
            exits: ExitLedger::default(),
            old_turns: BTreeSet::new(),
            may_read_others: facts.capabilities.sys_ptrace,
            since,
            recorder,
        })
    }

    pub(super) fn run(&mut self, control: &Control, hub: &Hub) {
        let mut next = Instant::now();
        let mut published = Instant::now();
        loop {
            // Ends early when something is wanted otherwise, or a view at once.
            thread::park_timeout(next.saturating_duration_since(Instant::now()));
            let wanted = control.take();
            if wanted.stop {
                return;
            }
            if let Some(ask) = control.asks.take() {
                ask.answer(&mut self.programs, &self.hidden);
            }
            if wanted.reset {
                self.watched.reset_peaks();
            }
            let now = Instant::now();
            let is_asked = hub.takes_request();
            if now < next && !is_asked {
                continue;
            }
            let period = Duration::from_secs(1) / wanted.sample_hz.max(1);
            if now >= next {
                // Beats that were missed are not made up for.
                next = (next + period).max(now);
            }
            self.is_read = is_asked || hub.is_read();
            let is_read = self.is_read;
            self.processes.note_reader(is_read);
            self.puma.note_reader(is_read);
            self.slabs.note_reader(is_read);
            self.watched.sample(self.programs.activity());
            let interval = if is_read {
                PUBLISH_INTERVAL
            } else {
                UNREAD_INTERVAL
            };
            if is_asked || now.duration_since(published) + period / 2 >= interval {
                hub.publish(self.view());
                published = now;
            }
        }
    }

    pub(super) fn tick(&mut self) -> View {
        self.watched.sample(None);
        self.view()
    }

    fn view(&mut self) -> View {
        self.watched.take_report();
        let listeners = self.watched.listeners();
        let listed = self.watched.listed();
        let dumps = Dumps {
            listeners: &listeners,
            listed: &listed,
        };
        let proc = self.processes.latest();
        let counted = match &mut self.programs {
            Programs::On(running) => running.sample(dumps, proc.as_deref(), self.is_read),
            Programs::Off(_) => Ok(None),
        };
        let mut bpf = match counted {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let reason = crate::causes::with_causes(&error);
                log::error!("continuing without BPF: {reason}");
                let grant = Some("restart the daemon".to_owned());
                self.programs = Programs::Off(Off { reason, grant });
                None
            }
        };
        if let Some(bpf) = &mut bpf
            && self.watched.shows_own()
        {
            let found_later = self.programs.found_later().total();
            self.cross_check.step(bpf, found_later, Monotonic::now());
        }
        if let Some(bpf) = &mut bpf {
            self.unseen.find(bpf, dumps);
            let namespaces = self.watched.for_view();
            self.older_unix
                .keep(&namespaces.iter().map(|it| it.netns).collect());
            for namespace in namespaces {
                if let Some((active, unix)) = namespace.unix_active.zip(namespace.unix) {
                    self.older_unix
                        .note(namespace.netns, active, !unix.interrupted);
                }
            }
            if let Some(turns) = &mut bpf.turns {
                let accepts = |key: &_| bpf.listeners.get(key).map(ListenerCounts::accepts);
                turns.with_older = self.older_unix.unread(turns, accepts);
            }
            self.hidden = hide_turns(bpf, &self.without_turns, &listeners);
        }
        self.watched.note_arrivals(bpf.as_ref());
        if let Some(bpf) = &bpf {
            self.marks.note(bpf);
        }
        let inodes = self.watched.inodes();
        let acceptors = acceptors(bpf.as_ref());
        let pids = acceptors.values().flatten().copied().collect();
        self.processes
            .request(inodes.clone(), pids, self.old_turns.clone());
        if let Some(proc) = &proc {
            let evidence = Evidence {
                processes: Arc::clone(proc),
                listeners: inodes,
                acceptors,
            };
            self.ownership.tell(evidence);
            if let Some(servers) = self.ownership.servers() {
                self.exits.note(proc, servers);
                let suspects = self.suspects.of(proc, servers);
                self.slabs.request(Arc::clone(suspects));
            }
        }
        let now = Monotonic::now();
        let slabs = self.slabs.latest();
        let mut gaps: Vec<Gap> = sources::gaps(&self.watched).collect();
        gaps.extend(sources::not_seeded(&self.programs));
        gaps.extend(self.cross_check.gap());
        let mut view = merge(Inputs {
            host: &self.host,
            sources: vec![
                sources::bpf(
                    &self.programs,
                    bpf.as_ref(),
                    self.cross_check.last(now),
                    now,
                ),
                sources::sock_diag(&self.watched, now),
                sources::netns(&self.watched, now, self.may_read_others),
                sources::processes(
                    proc.as_deref(),
                    self.processes.busy_since(),
                    now,
                    self.may_read_others,
                ),
                sources::slabs(
                    slabs.as_deref(),
                    self.slabs.busy_since(),
                    now,
                    self.may_read_others,
                ),
            ],
            gaps,
            now,
            wall: SystemTime::now(),
            since: self.since,
            namespaces: &self.watched.for_view(),
            ledger: Some(self.watched.ledger()),
            bpf: bpf.as_ref(),
            marks: &self.marks,
            proc: proc.as_deref(),
            servers: self.ownership.servers(),
            exits: &self.exits.by_server(now),
            puma: self.puma.latest().as_ref(),
            slabs: slabs.as_deref(),
        });
        self.waiting.carry(&mut view);
        let compared = self.cross_check.agreed(now);
        let compared = compared.and_then(|age| view.taken_at.checked_sub(age));
        if self.losses.carry(&mut view, compared) {
            self.cross_check.hurry(now);
        }
        self.old_turns = old_turns(&view.workers);
        if self.recorder.is_due(now) {
            let ledger = self.watched.ledger();
            let wait = |key: &ListenerKey| {
                let counts = bpf.as_ref()?.listeners.get(key)?;
                Some(Counts::of(&counts.wait))
            };
            self.recorder
                .end_step(&view, |key| ledger.step_peak(key), wait);
            self.watched.begin_step();
        }
        view
    }
}
