//! Who fetches figures for top: from the daemon, or from a sampler in this process.
//!
//! Views and connections are fetched by a thread each, because connections may take seconds and a view
//! must not wait for them.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use raindrops_user::{
    config::{Options, Settings, Who},
    connections, daemon,
    ids::Pid,
    publish::Hub,
    sampler::{Asker, Sampler},
    select,
    view::{
        View,
        connections::{Listing, Question, USUAL_LIMIT},
        history::History,
    },
};
use serde::de::DeserializeOwned;

use super::super::client::{Answer, Daemon};

/// Between two views, and between two lists of connections.
const EVERY: Duration = Duration::from_secs(1);
/// For connections that this process reads itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long detaching may take. The kernel detaches the rest when the process ends.
const DETACH: Duration = Duration::from_secs(2);
/// What top remembers itself.
const HISTORY: &str = "/v1/history?since=15m&step=1s";

/// What came.
pub enum Told {
    View(Box<View>, Duration),
    Failed(String),
    History(Box<History>),
    Listing(u32, Box<Result<Listing, String>>),
}

pub struct Fetching {
    wanted: mpsc::Sender<Option<u32>>,
    /// The sampler of this process, once it runs.
    sampler: Option<mpsc::Receiver<Sampler>>,
}

/// Whether somebody still listens.
trait Tell: Fn(Told) -> bool + Clone + Send + 'static {}

impl<F: Fn(Told) -> bool + Clone + Send + 'static> Tell for F {}

impl Fetching {
    /// Asks a daemon, for ever: one that goes away may come back.
    pub fn ask(
        daemon: Daemon,
        tell: impl Fn(Told) -> bool + Clone + Send + 'static,
    ) -> anyhow::Result<Self> {
        let daemon = Arc::new(daemon);
        let (wanted, wants) = mpsc::channel();
        let (asked, told) = (Arc::clone(&daemon), tell.clone());
        start("views", move || ask_for_views(&asked, &told))?;
        start("connections", move || {
            list(&wants, &tell, |pid| {
                let path = format!("/v1/connections?worker={pid}&limit={USUAL_LIMIT}");
                get(&daemon, &path).map(|(listing, _)| listing)
            });
        })?;
        Ok(Self {
            wanted,
            sampler: None,
        })
    }

    /// Reads this host.
    pub fn read(tell: impl Fn(Told) -> bool + Clone + Send + 'static) -> anyhow::Result<Self> {
        let settings = Settings::decide(unconfigured(), &Who::of_this_process())?;
        let (wanted, wants) = mpsc::channel();
        let (keep, sampler) = mpsc::channel();
        start("views", move || {
            let hub = Arc::new(Hub::new());
            let options = daemon::sampler_options(&settings);
            let sampler = match Sampler::start(options, Arc::clone(&hub)) {
                Ok(sampler) => sampler,
                Err(error) => {
                    tell(Told::Failed(format!("cannot read this host: {error}")));
                    return;
                }
            };
            let asker = sampler.asker();
            let (read, told) = (Arc::clone(&hub), tell.clone());
            let lists = start("connections", move || {
                list(&wants, &told, |pid| connections_of(pid, &read, &asker));
            });
            if let Err(error) = lists {
                tell(Told::Failed(format!("{error:#}")));
            }
            // Fails when top has ended meanwhile: then the process does, too.
            let _ = keep.send(sampler);
            publish(&hub, &tell);
        })?;
        Ok(Self {
            wanted,
            sampler: Some(sampler),
        })
    }

    /// Connections of a worker from now on, or of none.
    pub fn list(&self, worker: Option<u32>) {
        // Who reads them has fallen, which is told at the end; the rest goes on.
        let _ = self.wanted.send(worker);
    }

    /// Never waits for ever: a source can hang on a thrashing host.
    pub fn stop(self) {
        let Some(sampler) = self.sampler.and_then(|it| it.try_recv().ok()) else {
            return;
        };
        let (done, stopped) = mpsc::channel();
        let stopping = start("stop", move || {
            sampler.stop();
            let _ = done.send(());
        });
        if stopping.is_ok() {
            let _ = stopped.recv_timeout(DETACH);
        }
    }
}

/// Nobody has configured anything: top has no socket of its own, but settings want to know where.
fn unconfigured() -> Options {
    Options {
        socket: Some("/nowhere".into()),
        ..Options::default()
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .with_context(|| format!("cannot start the thread of {name}"))?;
    Ok(())
}

fn get<T: DeserializeOwned>(daemon: &Daemon, path: &str) -> anyhow::Result<(T, Duration)> {
    let answer = daemon.get(path)?;
    let age = answer.age.unwrap_or_default();
    Ok((read(daemon, &answer)?, age))
}

fn read<T: DeserializeOwned>(daemon: &Daemon, answer: &Answer) -> anyhow::Result<T> {
    serde_json::from_slice(&answer.body)
        .with_context(|| format!("{daemon}: its answer is of another version"))
}

/// `None` where the daemon keeps no past.
fn past(daemon: &Daemon) -> anyhow::Result<Option<History>> {
    let answer = daemon.find(HISTORY)?;
    answer.map(|answer| read(daemon, &answer)).transpose()
}

/// The past is asked for at first until it is told, and again when a daemon has come back.
fn ask_for_views(daemon: &Daemon, tell: &impl Tell) {
    let mut knows_past = false;
    let mut next = Instant::now();
    loop {
        let told = match get::<View>(daemon, "/v1/view?buckets=1") {
            Ok((view, age)) => {
                if !knows_past && let Ok(past) = past(daemon) {
                    knows_past = true;
                    if let Some(history) = past {
                        tell(Told::History(Box::new(history)));
                    }
                }
                Told::View(Box::new(view), age)
            }
            Err(error) => {
                knows_past = false;
                Told::Failed(format!("{error:#}"))
            }
        };
        if !tell(told) {
            return;
        }
        wait(&mut next);
    }
}

/// A beat that does not drift, and does not hurry after it was held up.
fn wait(next: &mut Instant) {
    let now = Instant::now();
    *next = (*next + EVERY).max(now);
    thread::sleep(next.saturating_duration_since(now));
}

fn publish(hub: &Hub, tell: &impl Tell) {
    let mut next = Instant::now();
    loop {
        if let Some(published) = hub.latest() {
            let view = Box::new(published.view().clone());
            if !tell(Told::View(view, published.age())) {
                return;
            }
        }
        wait(&mut next);
    }
}

/// Lists the connections of who is wanted, again and again.
fn list(
    wants: &mpsc::Receiver<Option<u32>>,
    tell: &impl Tell,
    read: impl Fn(u32) -> anyhow::Result<Listing>,
) {
    let mut wanted = None;
    loop {
        let next = if wanted.is_some() {
            wants.recv_timeout(EVERY)
        } else {
            wants.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(next) => wanted = next,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(newest) = wants.try_iter().last() {
            wanted = newest;
        }
        let Some(pid) = wanted else { continue };
        let listing = read(pid).map_err(|error| format!("{error:#}"));
        if !tell(Told::Listing(pid, Box::new(listing))) {
            return;
        }
    }
}

fn connections_of(pid: u32, hub: &Hub, asker: &Asker) -> anyhow::Result<Listing> {
    let published = hub.latest().context("there are no figures yet")?;
    let question = Question {
        places: select::places(published.view(), &[])?,
        worker: Some(Pid(pid)),
        allowed: None,
        limit: USUAL_LIMIT,
    };
    let ask = |listeners, patience| asker.connections(listeners, patience);
    Ok(connections::read(
        &question,
        ask,
        Instant::now() + PATIENCE,
    )?)
}
