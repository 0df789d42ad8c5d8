//! Samples the sources, merges what they saw, publishes the view: the daemon's one beat.
//!
//! One plain thread, because a namespace belongs to a thread and because nothing here may wait for
//! a client. Reads of other processes happen on yet another one ([`ProcThread`]), which may hang.

mod ask;
mod control;
mod cross_check;
mod exits;
mod foreign;
mod hidden;
mod looks;
mod old_turns;
mod older_unix;
mod once;
mod ownership;
mod programs;
mod queues;
mod sampling;
mod sources;
mod suspects;
mod unseen;
mod watched;

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

pub use self::{
    ask::Asker,
    control::Resetter,
    foreign::ForeignError,
    looks::{Look, Looks},
    once::one_tick,
};
use self::{
    ask::Asks,
    control::{Control, Wanted},
    sampling::Sampling,
};
use crate::{
    config::{PumaControl, SlabPlaces},
    history::{History, Recorder},
    host::Facts,
    plan::{AcceptHook, Off, Turns, netns::NetnsChoice},
    publish::Hub,
    select::Selector,
    source::{diag::DiagError, puma::PumaControls},
    view::Host,
};

/// What the operator chose.
#[derive(Clone, Debug)]
pub struct Options {
    pub bpf: bool,
    pub accept_hook: AcceptHook,
    pub sample_hz: u32,
    pub max_connections: u32,
    pub netns: Option<NetnsChoice>,
    pub turns: Turns,
    /// Listeners whose turns are not shown.
    pub without_turns: Vec<Selector>,
    pub verbose: bool,
    pub puma: Vec<PumaControl>,
    pub slabs: SlabPlaces,
    /// How long the past is kept.
    pub history: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    #[error("cannot look at the network namespace")]
    Namespace(#[from] DiagError),
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    #[error("{}; {}", .0.reason, .0.grant.as_deref().unwrap_or_default())]
    NotAllowed(Off),
    #[error("the sampling thread ended before the first view; its log says why")]
    Ended,
}

/// Runs until stopped.
#[derive(Debug)]
pub struct Sampler {
    control: Arc<Control>,
    puma: Arc<PumaControls>,
    history: Arc<History>,
    thread: JoinHandle<()>,
}

impl Sampler {
    /// Starts sampling in the network namespace of the calling thread. Returns when the first
    /// whole view has been published.
    ///
    /// # Errors
    /// When there can be no view at all. A source that does not work is not an error: the view
    /// says so.
    pub fn start(options: Options, hub: Arc<Hub>) -> Result<Self, SamplerError> {
        let wanted = Wanted {
            sample_hz: options.sample_hz,
            stop: false,
            reset: false,
        };
        let control = Arc::new(Control {
            wanted: Mutex::new(wanted),
            asks: Asks::default(),
        });
        let puma = Arc::new(PumaControls::default());
        puma.aim(options.puma.clone());
        let history = Arc::new(History::reaching(options.history));
        let (first, published) = mpsc::channel();
        let thread = {
            let (control, puma) = (Arc::clone(&control), Arc::clone(&puma));
            let recorder = Recorder::new(Arc::clone(&history));
            thread::Builder::new()
                .name("sampler".to_owned())
                .spawn(move || match Sampling::start(options, puma, recorder) {
                    Ok(mut sampling) => {
                        hub.publish(sampling.tick());
                        hub.published_by(thread::current());
                        let _ = first.send(Ok(()));
                        sampling.run(&control, &hub);
                    }
                    Err(error) => {
                        let _ = first.send(Err(error));
                    }
                })
                .map_err(SamplerError::Thread)?
        };
        published.recv().unwrap_or(Err(SamplerError::Ended))?;
        Ok(Self {
            control,
            puma,
            history,
            thread,
        })
    }

    /// Changes the rate of sampling. Counts are kept.
    pub fn reconfigure(&self, sample_hz: u32) {
        self.control.wanted().sample_hz = sample_hz;
        self.thread.thread().unpark();
    }

    /// Asks these control servers of puma from now on.
    pub fn ask_puma(&self, controls: Vec<PumaControl>) {
        self.puma.aim(controls);
    }

    /// What was, for who asks.
    #[must_use]
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Who has peaks forgotten.
    #[must_use]
    pub fn resetter(&self) -> Resetter {
        Resetter::new(Arc::clone(&self.control), self.thread.thread().clone())
    }

    /// Who asks the programs for what no view has.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker::new(Arc::clone(&self.control), self.thread.thread().clone())
    }

    /// Ends sampling; nothing stays attached in the kernel.
    pub fn stop(self) {
        self.control.wanted().stop = true;
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            log::error!("the sampling thread had panicked");
        }
    }
}

fn host(facts: &Facts) -> Host {
    Host {
        name: facts.host_name.clone(),
        kernel: facts.release.clone(),
        boot_id: facts.boot_id.clone(),
        cpus: facts.cpus,
    }
}
