//! Verdicts on one worker that gets nowhere while there is work for it.
//!
//! Four ways to see that: it is stopped, it sleeps where nothing can wake it, it is in a turn far
//! longer than turns take while others' end, or it leaves unread what clients sent. A turn that is
//! only long tells nothing: long polls are, and when no turn ends the workers are not stuck but wait
//! for the same thing.

mod alike;
#[cfg(test)]
mod tests;
mod turn;

use std::{collections::BTreeMap, time::Duration};

use self::turn::LongTurn;
use super::{
    Severity, Subject,
    finding::{Code, Finding, evidence},
    scene::{PATIENCE, SPIKE, Scene, Waiting, last_accept, oldest_turn},
    words,
};
use crate::{
    render::units::plural,
    view::{Class, Listener, Place, Stalled, Worker},
};

/// A worker that gets nowhere, and how that was seen.
#[derive(Debug)]
pub(super) struct Stuck<'v> {
    worker: &'v Worker,
    cause: Cause<'v>,
    work: Work<'v>,
}

#[derive(Debug)]
enum Cause<'v> {
    /// In state T (or t: by a debugger) in every look.
    Stopped(&'v Stalled),
    /// In state T now; since when is not known.
    StoppedNow,
    /// In state D in every look.
    Asleep(&'v Stalled),
    LongTurn(LongTurn),
    /// Data from clients lies unread.
    Unread(Waiting),
}

/// What there is for it to do.
#[derive(Debug)]
struct Work<'v> {
    /// Age of its oldest turn.
    turn: Option<Duration>,
    unread: u64,
    /// The longest of the queues that it serves.
    queue: Option<(&'v Listener, u64)>,
}

/// All workers that get nowhere, by pid.
pub(super) fn workers<'v>(scene: &Scene<'v>) -> BTreeMap<u32, Stuck<'v>> {
    let workers = scene.view.workers.iter();
    workers
        .filter_map(|worker| Some((worker.pid, stuck(scene, worker)?)))
        .collect()
}

fn stuck<'v>(scene: &Scene<'v>, worker: &'v Worker) -> Option<Stuck<'v>> {
    let work = work(scene, worker);
    let cause = stopped(scene, worker, &work)
        .or_else(|| asleep(scene, worker, &work).map(Cause::Asleep))
        .or_else(|| turn::long(scene, worker).map(Cause::LongTurn))
        .or_else(|| unread(scene, worker).map(Cause::Unread))?;
    Some(Stuck {
        worker,
        cause,
        work,
    })
}

fn work<'v>(scene: &Scene<'v>, worker: &Worker) -> Work<'v> {
    let turns = worker.turns.as_ref();
    let queued = |listener: &'v Listener| {
        let queued = listener.queue.queued.filter(|queued| *queued > 0)?;
        Some((listener, u64::from(queued)))
    };
    Work {
        turn: oldest_turn(worker),
        unread: turns.and_then(|turns| turns.waiting).unwrap_or(0),
        queue: scene
            .served(worker)
            .filter_map(queued)
            .max_by_key(|(_, queued)| *queued),
    }
}

/// A process that is stopped does nothing until it is told to: any work is work that waits.
fn stopped<'v>(scene: &Scene<'v>, worker: &'v Worker, work: &Work<'v>) -> Option<Cause<'v>> {
    let pending = work.turn.is_some() || work.unread > 0 || work.queue.is_some();
    match &worker.stalled {
        Some(stalled) if matches!(stalled.state.as_str(), "T" | "t") => {
            (lasted(stalled) >= PATIENCE && pending).then_some(Cause::Stopped(stalled))
        }
        // A debugger's stop (t) can be a matter of microseconds.
        _ if worker.state == "T" => waits_on_its_queues(scene, worker).then_some(Cause::StoppedNow),
        _ => None,
    }
}

/// Reading from a disk is the same state. So it must be the thread that has the work, and have had
/// it for as long.
fn asleep<'v>(scene: &Scene<'v>, worker: &'v Worker, work: &Work<'v>) -> Option<&'v Stalled> {
    let stalled = worker.stalled.as_ref().filter(|it| it.state == "D")?;
    let is_only = worker.threads == Some(1);
    let of_turn = worker.turns.as_ref().and_then(|turns| turns.oldest_thread);
    let in_turn = work.turn.is_some_and(|age| age >= PATIENCE)
        && (is_only || of_turn == Some(stalled.thread));
    let accepts_nothing = is_only
        && waits_on_its_queues(scene, worker)
        && last_accept(worker).is_some_and(|age| age >= PATIENCE);
    (lasted(stalled) >= PATIENCE && (in_turn || accepts_nothing)).then_some(stalled)
}

fn lasted(stalled: &Stalled) -> Duration {
    Duration::from_millis(stalled.for_ms)
}

fn waits_on_its_queues(scene: &Scene<'_>, worker: &Worker) -> bool {
    let mut queues = scene.served(worker).filter_map(|it| scene.queue(it));
    queues.any(|queue| queue.lasted >= PATIENCE)
}

/// Something is unread in every look, no thread works on anything that would explain it, and
/// nothing else gets done either. Under load something is unread in every look as well.
fn unread(scene: &Scene<'_>, worker: &Worker) -> Option<Waiting> {
    let waiting = scene
        .inside_of(worker)
        .filter(|waiting| waiting.lasted >= SPIKE)?;
    let turns = worker.turns.as_ref()?;
    let free = match worker.class? {
        Class::Loop => true,
        Class::Direct | Class::Handoff => scene.hands(worker)?.busy == 0,
        Class::Learning => false,
    };
    let answered = match turns.last_answer_age_us {
        Some(age) => Duration::from_micros(age) < SPIKE,
        None => turns.answer.count > 0,
    };
    let accepted = worker.accepts.is_none() || last_accept(worker).is_some_and(|age| age < SPIKE);
    (free && !answered && !accepted).then_some(waiting)
}

pub(super) fn findings(scene: &Scene<'_>, stuck: &BTreeMap<u32, Stuck<'_>>) -> Vec<Finding> {
    alike::findings(scene, stuck)
}

/// Whether every worker of its server is stuck, as a whole.
fn nobody_is_left(scene: &Scene<'_>, one: &Stuck<'_>, all: &BTreeMap<u32, Stuck<'_>>) -> bool {
    one.is_whole()
        && scene
            .peers(one.worker)
            .all(|peer| all.get(&peer.pid).is_some_and(Stuck::is_whole))
}

fn finding(scene: &Scene<'_>, stuck: &Stuck<'_>, nobody_is_left: bool) -> Finding {
    let Stuck {
        worker,
        cause,
        work,
    } = stuck;
    let lasted = cause.lasted();
    let thread = cause.thread();
    let millis = |duration: Duration| words::to_millis(duration);
    Finding {
        code: Code::StuckWorker,
        amount: lasted.map_or(0, millis),
        severity: if nobody_is_left {
            Severity::Critical
        } else {
            Severity::Warning
        },
        subject: subject(scene, worker, work),
        since: lasted.and_then(|lasted| words::began(scene.view, lasted)),
        text: cause.text(scene, worker, work),
        evidence: evidence([
            ("stuck_ms", lasted.map(millis)),
            ("turn_ms", work.turn.map(millis)),
            ("answer_p99_us", cause.usual().map(words::to_micros)),
            ("thread", thread.map(u64::from)),
            ("unread", Some(work.unread).filter(|unread| *unread > 0)),
            ("queued", work.queue.map(|(_, queued)| queued)),
        ]),
        next: cause.next(worker),
    }
}

/// Its listener is the one that waits, or the only one.
fn subject(scene: &Scene<'_>, worker: &Worker, work: &Work<'_>) -> Subject {
    let queue = work.queue.map(|(listener, _)| listener);
    let listener = queue.or_else(|| scene.only_listener(&[worker]));
    Subject {
        server: worker.server.value().cloned(),
        pid: Some(worker.pid),
        ..listener.map(words::subject).unwrap_or_default()
    }
}

impl Stuck<'_> {
    /// No thread of it gets anywhere.
    pub(super) const fn is_whole(&self) -> bool {
        !matches!(self.cause, Cause::LongTurn(_))
    }
}

impl Cause<'_> {
    fn lasted(&self) -> Option<Duration> {
        match self {
            Self::Stopped(stalled) | Self::Asleep(stalled) => Some(lasted(stalled)),
            Self::StoppedNow => None,
            Self::LongTurn(turn) => Some(turn.age),
            Self::Unread(waiting) => Some(waiting.lasted),
        }
    }

    /// What a worker is that has it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Stopped(_) | Self::StoppedNow => "stopped",
            Self::Asleep(_) => "in uninterruptible sleep (state D)",
            Self::LongTurn(_) => "in a turn far longer than turns take",
            Self::Unread(_) => "not reading what clients sent",
        }
    }

    fn thread(&self) -> Option<u32> {
        match self {
            Self::Stopped(stalled) | Self::Asleep(stalled) => Some(stalled.thread),
            Self::LongTurn(turn) => turn.thread,
            Self::StoppedNow | Self::Unread(_) => None,
        }
    }

    fn usual(&self) -> Option<Duration> {
        match self {
            Self::LongTurn(turn) => Some(turn.usual),
            Self::Stopped(_) | Self::StoppedNow | Self::Asleep(_) | Self::Unread(_) => None,
        }
    }

    fn text(&self, scene: &Scene<'_>, worker: &Worker, work: &Work<'_>) -> String {
        let who = words::worker(scene.view, worker);
        let place = self.place(worker);
        let mut text = match self {
            Self::Stopped(stalled) => format!(
                "{who} has been stopped (state {}) for {}",
                stalled.state,
                words::time(lasted(stalled))
            ),
            Self::StoppedNow => format!("{who} is stopped (state T)"),
            Self::Asleep(stalled) => format!(
                "{} has been in uninterruptible sleep (state D) for {}",
                whose_thread(stalled, worker, &who),
                words::time(lasted(stalled))
            ),
            Self::LongTurn(turn) => {
                let other = turn.thread.filter(|thread| *thread != worker.pid);
                let state = match (&place, other) {
                    (Some(place), _) => Some(&place.state),
                    (None, None) => Some(&worker.state),
                    (None, Some(_)) => None,
                };
                let state = state.map_or(String::new(), |state| format!(" (state {state})"));
                let thread = other.map_or(String::new(), |it| format!("thread {it} of "));
                format!(
                    "{thread}{who} has been in one turn for {}{state}, while turns of others end \
                     and 99% are answered within {}",
                    words::time(turn.age),
                    words::time(turn.usual)
                )
            }
            Self::Unread(waiting) => format!(
                "{who} has left something unread in every look for {}, and has answered and \
                 accepted nothing for {} or more (state {})",
                words::time(waiting.lasted),
                words::time(SPIKE),
                worker.state
            ),
        };
        let mut pending = Vec::new();
        if let (Some(age), Self::Stopped(_) | Self::StoppedNow | Self::Asleep(_)) =
            (work.turn, self)
        {
            pending.push(format!("a turn of {} is open", words::time(age)));
        }
        if work.unread > 0 {
            let of = plural(work.unread, "client");
            pending.push(format!("what {of} sent is unread"));
        }
        if let Some((listener, queued)) = work.queue {
            pending.push(format!(
                "{} on {}",
                words::wait(queued, "connection"),
                words::place(scene.view, listener)
            ));
        }
        if !pending.is_empty() {
            text.push_str(&format!("; {}", pending.join(", ")));
        }
        text.push_str(&place.and_then(|it| sits_in(&it)).unwrap_or_default());
        text
    }

    /// Where the kernel has it, if that was read of this very thread.
    fn place(&self, worker: &Worker) -> Option<Place> {
        let thread = self.thread()?;
        let stalled = worker.stalled.as_ref().filter(|it| it.thread == thread);
        let turns = worker.turns.as_ref();
        let is_at_oldest = turns.is_some_and(|turns| turns.oldest_thread == Some(thread));
        match stalled {
            Some(stalled) => Some(Place {
                state: stalled.state.clone(),
                syscall: stalled.syscall.clone(),
                wchan: stalled.wchan.clone(),
            }),
            None => worker.oldest_place.clone().filter(|_| is_at_oldest),
        }
    }

    fn next(&self, worker: &Worker) -> String {
        let pid = worker.pid;
        let thread = self.thread().unwrap_or(pid);
        match self {
            Self::Stopped(stalled) if stalled.state == "t" => {
                format!("see which debugger or tracer holds it: TracerPid in /proc/{pid}/status")
            }
            Self::Stopped(_) | Self::StoppedNow => {
                format!("see who stopped it; kill -CONT {pid} lets it go on")
            }
            Self::Asleep(_) => format!(
                "see what it waits for (/proc/{pid}/task/{thread}/stack): a disk, or a file \
                 server that does not answer"
            ),
            Self::LongTurn(_) => format!(
                "see what it waits for: /proc/{pid}/task/{thread}/stack, or a stack dump of the \
                 application"
            ),
            Self::Unread(_) => format!(
                "see what it does (/proc/{pid}/stack, a stack dump of the application): \
                 something keeps it from reading"
            ),
        }
    }
}

fn sits_in(place: &Place) -> Option<String> {
    match (&place.syscall, &place.wchan) {
        (Some(syscall), Some(wchan)) => Some(format!("; it is in {syscall}, in {wchan}")),
        (Some(within), None) | (None, Some(within)) => Some(format!("; it is in {within}")),
        (None, None) => None,
    }
}

fn whose_thread(stalled: &Stalled, worker: &Worker, who: &str) -> String {
    if stalled.thread == worker.pid {
        who.to_owned()
    } else {
        format!(
            "thread {} ({}) of {who}",
            stalled.thread, stalled.thread_name
        )
    }
}
