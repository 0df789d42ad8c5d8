//! `raindrops serve`: the order in which things start, what signals do, and the order in which
//! things end.
//!
//! It samples nothing and answers nobody itself: [`Sampler`] is a plain thread, [`server`] runs on
//! this one.

mod notify;
mod port;
mod reload;
mod signals;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    thread,
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::oneshot, time};

use self::{
    reload::tokens,
    signals::{Event, Signals},
};
use crate::{
    compat::tokens::TokensError,
    config::{self, ConfigError, Settings, Who},
    connections,
    logging::{self, LogError},
    publish::{Hub, STALE},
    render::openmetrics::Bounds,
    sampler::{self, Sampler, SamplerError},
    server::{
        self, Limits,
        claim::{Claim, ClaimError},
        compat::Compat,
        tcp::Port,
    },
    textfile::Textfile,
    view::{SourceState, View},
};

/// How long answers in flight may take after QUIT.
const GRACE: Duration = Duration::from_secs(10);
/// How long the sampler may take to detach. The kernel detaches the rest when the process ends.
const DETACH: Duration = Duration::from_secs(2);
/// Descriptors that a thousand clients and the sources need.
const DESCRIPTORS: u64 = 4096;

#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("cannot sample this host; `raindrops doctor` says what is missing")]
    Sampler(#[source] SamplerError),
    #[error("the sampler's thread ended before its first view; the log says why")]
    SamplerGone,
    #[error(
        "cannot listen on {address} (listen_tcp); `ss -tlnp` shows who does, and `ip address` which \
         addresses there are"
    )]
    Port {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot {operation}; check the limits on processes and descriptors")]
    System {
        operation: &'static str,
        source: io::Error,
    },
}

fn system(operation: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { operation, source }
}

/// What the command line said. It is kept, because it wins over every later configuration too.
#[derive(Clone, Debug)]
pub struct CommandLine {
    pub options: config::Options,
    pub config: Option<PathBuf>,
}

impl CommandLine {
    fn settings(&self) -> Result<Settings, ConfigError> {
        let file = match &self.config {
            Some(path) => config::Options::read(path)?,
            None => config::Options::default(),
        };
        Settings::decide(self.options.clone().or(file), &Who::of_this_process())
    }

    /// Warns where any user of the host may read the secrets of the configuration.
    fn warn_of_open_secrets(&self, settings: &Settings) {
        if let Some(path) = &self.config
            && settings.holds_secrets()
            && config::is_readable_by_all(path)
        {
            let path = path.display();
            log::warn!("{path}: holds a token and any user may read it; run chmod o-r {path}");
        }
    }
}

/// Runs until a signal ends it.
pub fn run(line: &CommandLine) -> Result<(), DaemonError> {
    let settings = line.settings()?;
    logging::start(settings.log.as_deref(), settings.verbose)?;
    line.warn_of_open_secrets(&settings);
    allow_descriptors();
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the server's loop"))
        .and_then(|runtime| runtime.block_on(live(line, settings)));
    log::logger().flush();
    ended
}

async fn live(line: &CommandLine, settings: Settings) -> Result<(), DaemonError> {
    let mut signals = Signals::install().map_err(system("handle signals"))?;
    let tokens = tokens(settings.puma_token_file.as_deref())?;
    let (claim, listener) = Claim::take(&settings.socket)?;
    let port = port::open(&settings.metrics)?;
    let hub = Arc::new(Hub::new());
    hub.bound_series(Bounds::of(settings.metrics.listeners));
    let Some(sampler) = first_view(&settings, &hub, &mut signals).await? else {
        return Ok(());
    };
    let asker = sampler.asker();
    let desk = server::Desk::open(move |question, until| {
        let ask = |listeners, patience| asker.connections(listeners, patience);
        connections::read(question, ask, until)
    });
    let resetter = sampler.resetter();
    let sources = Arc::new(server::Sources {
        hub: Arc::clone(&hub),
        desk: desk.map_err(system("start the thread that reads connections"))?,
        archive: server::Archive::new(sampler.history()),
        forget_peaks: Box::new(move || resetter.reset_peaks()),
        compat: Compat::default(),
    });
    sources.compat.set_tokens(tokens);
    let textfile = settings.metrics.textfile.clone();
    let textfile = textfile.map(|directory| Textfile::start(directory, Arc::clone(&hub)));
    let textfile = textfile.transpose().map_err(system(
        "start the thread that writes the file for node_exporter",
    ))?;
    let (quit, told_to_quit) = oneshot::channel::<()>();
    let (quit_port, port_told_to_quit) = oneshot::channel::<()>();
    announce(&claim, port.as_ref(), &hub);
    let unix = server::serve(listener, Arc::clone(&sources), Limits::default(), async {
        let _ = told_to_quit.await;
        let _ = quit_port.send(());
    });
    let tcp = port::serve(port, Arc::clone(&hub), async {
        let _ = port_told_to_quit.await;
    });
    let mut serving = Box::pin(async { tokio::try_join!(unix, tcp).map(|_| ()) });
    notify::ready();

    let mut running = Running {
        line,
        settings,
        sampler: &sampler,
        hub: &hub,
        compat: &sources.compat,
    };
    let ended = tokio::select! {
        ended = running.obey(&mut signals, quit, serving.as_mut()) => ended,
        never = notify::beat(|| is_at_work(&hub)) => match never {},
    };
    notify::stopping();
    drop(serving);
    drop(claim);
    if let Some(textfile) = textfile {
        textfile.stop();
    }
    detach(sampler).await;
    log::info!("stopped");
    ended.map_err(system("serve clients"))
}

/// Starts the sampler on a thread of its own, because signals count from the first moment on.
/// `None` when one of them ended it.
async fn first_view(
    settings: &Settings,
    hub: &Arc<Hub>,
    signals: &mut Signals,
) -> Result<Option<Sampler>, DaemonError> {
    let options = sampler_options(settings);
    let hub = Arc::clone(hub);
    let (done, started) = oneshot::channel();
    thread::Builder::new()
        .name("start".to_owned())
        .spawn(move || {
            // Fails when nobody waits any more: then the process is about to end.
            let _ = done.send(Sampler::start(options, hub));
        })
        .map_err(system("start the sampler's thread"))?;
    let mut started = pin!(started);
    loop {
        tokio::select! {
            started = &mut started => return match started {
                Ok(Ok(sampler)) => Ok(Some(sampler)),
                Ok(Err(error)) => Err(DaemonError::Sampler(error)),
                Err(_) => Err(DaemonError::SamplerGone),
            },
            event = signals.next() => match event {
                Event::Stop(name) => {
                    log::info!("{name}: stopped before the first view");
                    return Ok(None);
                }
                Event::Quit => {
                    log::info!("QUIT: stopped before the first view");
                    return Ok(None);
                }
                Event::Reopen => reopen(),
                Event::Reload => log::info!("HUP: ignored, still starting"),
                Event::Ignored(name) => log::info!("{name}: ignored"),
            },
        }
    }
}

/// What a sampler is told by settings.
#[must_use]
pub fn sampler_options(settings: &Settings) -> sampler::Options {
    sampler::Options {
        bpf: settings.bpf,
        accept_hook: settings.accept_hook,
        sample_hz: settings.sample_hz,
        max_connections: settings.max_connections,
        netns: settings.netns.clone(),
        turns: settings.turns,
        without_turns: settings.without_turns.clone(),
        verbose: settings.verbose,
        puma: settings.puma.clone(),
        slabs: settings.slabs.clone(),
        history: settings.history,
    }
}

/// A daemon that serves.
struct Running<'a> {
    line: &'a CommandLine,
    settings: Settings,
    sampler: &'a Sampler,
    hub: &'a Hub,
    compat: &'a Compat,
}

impl Running<'_> {
    async fn obey(
        &mut self,
        signals: &mut Signals,
        quit: oneshot::Sender<()>,
        mut serving: Pin<&mut impl Future<Output = io::Result<()>>>,
    ) -> io::Result<()> {
        loop {
            let event = tokio::select! {
                ended = &mut serving => return ended,
                event = signals.next() => event,
            };
            match event {
                Event::Stop(name) => {
                    log::info!("{name}: stopping at once");
                    return Ok(());
                }
                Event::Quit => break,
                Event::Reload => self.reload(),
                Event::Reopen => reopen(),
                Event::Ignored(name) => log::info!("{name}: ignored"),
            }
        }
        log::info!("QUIT: finishing the answers in flight");
        let _ = quit.send(());
        let mut deadline = pin!(time::sleep(GRACE));
        loop {
            tokio::select! {
                ended = &mut serving => return ended,
                () = &mut deadline => {
                    log::warn!("some answers took more than {} s", GRACE.as_secs());
                    return Ok(());
                }
                event = signals.next() => if let Event::Stop(name) = event {
                    log::info!("{name}: stopping at once");
                    return Ok(());
                }
            }
        }
    }
}

fn reopen() {
    match logging::reopen() {
        Ok(()) => log::info!("USR1: log reopened"),
        Err(error) => log::error!("USR1: {error}; the old log stays"),
    }
}

/// A daemon that only answers, with figures that stand still, is worth a restart.
fn is_at_work(hub: &Hub) -> bool {
    hub.age().is_some_and(|age| age < STALE)
}

/// Never waits for ever: a source can hang on a thrashing host.
async fn detach(sampler: Sampler) {
    let (done, stopped) = oneshot::channel();
    let stopping = thread::Builder::new()
        .name("stop".to_owned())
        .spawn(move || {
            sampler.stop();
            let _ = done.send(());
        });
    if stopping.is_ok() && time::timeout(DETACH, stopped).await.is_err() {
        log::warn!("the sampler does not stop; leaving it to the kernel");
    }
}

fn announce(claim: &Claim, port: Option<&Port>, hub: &Hub) {
    let sources = hub
        .latest()
        .map_or_else(String::new, |published| sources(published.view()));
    log::info!(
        "raindrops {} serves on {}; sources: {sources}",
        env!("CARGO_PKG_VERSION"),
        claim.path().display()
    );
    if let Some(port) = port {
        log::info!("/metrics and /healthz on http://{}", port.address());
    }
}

fn sources(view: &View) -> String {
    let names = view.sources.iter().map(|source| {
        let reason = source.reason.as_deref().unwrap_or("no reason given");
        match source.state {
            SourceState::On => format!("{} on", source.name),
            SourceState::Degraded => format!("{} degraded ({reason})", source.name),
            SourceState::Off => format!("{} off ({reason})", source.name),
        }
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Every client is a descriptor, and the usual soft limit is 1,024.
fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if let Some(current) = limit.current
        && current < DESCRIPTORS
    {
        limit.current = Some(limit.maximum.map_or(DESCRIPTORS, |it| it.min(DESCRIPTORS)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::warn!("cannot raise the limit on descriptors above {current}: {error}");
        }
    }
}
