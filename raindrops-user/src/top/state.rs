//! What top shows, and how keys, views and time change that. No terminal, no clock, no daemon.

mod order;
mod rows;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(super) use self::{order::Order, rows::Row};
use super::{keys::Key, past::Past};
use crate::{
    diagnose::{Diagnosis, diagnose},
    view::{Listener, View, Worker, connections::Listing, history::History},
};

/// Rows that PgUp and PgDn go over.
const PAGE: usize = 10;
const SECOND_MS: u64 = 1_000;
/// Bytes; a filter is typed by a person.
const LONGEST_FILTER: usize = 64;

/// Whether top goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Stay,
    Quit,
}

/// Whose figures these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Daemon(String),
    /// Nobody answers, so this process reads itself: since when, once it does.
    Own(Option<SystemTime>),
}

/// The time, of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since top was started.
    pub running: Duration,
    pub wall: SystemTime,
}

/// A view, and what was made of it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub view: Arc<View>,
    pub diagnosis: Arc<Diagnosis>,
    /// When it came, and how old it was then.
    at: Duration,
    age: Duration,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Listeners,
    /// The workers of one.
    Listener(String),
    /// The connections of one.
    Worker(Whom),
    Verdicts,
    Help,
}

/// A process id may be given to another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whom {
    pub pid: u32,
    pub started_at: Option<SystemTime>,
}

impl Whom {
    fn of(worker: &Worker) -> Self {
        Self {
            pid: worker.pid,
            started_at: worker.started_at,
        }
    }

    pub(super) fn is(&self, worker: &Worker) -> bool {
        let starts = self.started_at.zip(worker.started_at);
        self.pid == worker.pid && starts.is_none_or(|(one, other)| one == other)
    }
}

/// Connections of a worker, or why there are none.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub pid: u32,
    pub listing: Result<Listing, String>,
    /// When they came.
    pub at: Duration,
}

#[derive(Debug)]
pub struct State {
    pub(super) look: super::Look,
    pub(super) from: From,
    pub(super) now: Now,
    pub(super) latest: Option<Seen>,
    /// What is shown while paused.
    pub(super) held: Option<Seen>,
    /// Why the latest question was not answered, and since when none was.
    pub(super) failure: Option<(String, Duration)>,
    pub(super) past: Past,
    /// The step that is shown instead of now, by its end in milliseconds since 1970.
    pub(super) back_at: Option<u64>,
    /// What was entered, the present one last. Never empty.
    screens: Vec<Screen>,
    pub(super) order: Order,
    pub(super) filter: String,
    /// What is being typed as the next filter.
    pub(super) typing: Option<String>,
    /// The listener, and the worker, that are chosen.
    listener: Option<String>,
    worker: Option<u32>,
    /// The first row, of what is only looked at.
    pub(super) scroll: usize,
    pub(super) listed: Option<Listed>,
}

impl State {
    #[must_use]
    pub fn new(look: super::Look, from: From, now: Now) -> Self {
        Self {
            look,
            from,
            now,
            latest: None,
            held: None,
            failure: None,
            past: Past::default(),
            back_at: None,
            screens: vec![Screen::Listeners],
            order: Order::Trouble,
            filter: String::new(),
            typing: None,
            listener: None,
            worker: None,
            scroll: 0,
            listed: None,
        }
    }

    pub const fn at(&mut self, now: Now) {
        self.now = now;
    }

    /// A view that was `age` old when it came.
    pub fn take(&mut self, view: View, age: Duration) {
        let view = Arc::new(view);
        self.past.note(&view);
        if let From::Own(since @ None) = &mut self.from {
            *since = Some(view.since);
        }
        let diagnosis = Arc::new(diagnose(&view));
        self.failure = None;
        self.latest = Some(Seen {
            view,
            diagnosis,
            at: self.now.running,
            age,
        });
    }

    /// Nobody answered.
    pub fn fail(&mut self, why: String) {
        let since = match self.failure.take() {
            Some((_, since)) => since,
            None => (self.latest.as_ref()).map_or(self.now.running, |latest| latest.at),
        };
        self.failure = Some((why, since));
    }

    pub fn remember(&mut self, history: &History) {
        self.past.fill(history);
    }

    pub fn list(&mut self, pid: u32, listing: Result<Listing, String>) {
        if self.wants() != Some(pid) {
            return;
        }
        // What was read is more than why it cannot be read again: its age tells.
        self.listed = Some(Listed {
            pid,
            listing,
            at: self.now.running,
        });
    }

    /// The worker whose connections are looked at.
    #[must_use]
    pub fn wants(&self) -> Option<u32> {
        let Screen::Worker(Whom { pid, .. }) = *self.screen() else {
            return None;
        };
        let is_listed = self.listed.as_ref().is_some_and(|it| it.pid == pid);
        let stands_still = self.held.is_some() && is_listed;
        (self.back_at.is_none() && !stands_still).then_some(pid)
    }

    pub fn on(&mut self, key: Key) -> Flow {
        if key == Key::Interrupt {
            return Flow::Quit;
        }
        if let Some(typed) = self.typing.take() {
            self.typing = self.type_on(typed, key);
            return Flow::Stay;
        }
        match key {
            Key::Char('q') => return Flow::Quit,
            Key::Up | Key::Char('k') => self.go(|at, _| at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.go(|at, _| at + 1),
            Key::PageUp => self.go(|at, _| at.saturating_sub(PAGE)),
            Key::PageDown => self.go(|at, _| at + PAGE),
            Key::Home => self.go(|_, _| 0),
            Key::End | Key::Char('n') if self.back_at.is_some() => self.back_at = None,
            Key::End => self.go(|_, rows| rows),
            Key::Left => self.earlier(1),
            Key::Right => self.later(1),
            Key::Char('[') => self.earlier(60),
            Key::Char(']') => self.later(60),
            Key::Enter => self.enter(),
            Key::Escape | Key::Backspace => self.leave(),
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('S') => self.order = self.order.before(),
            Key::Char('/') => self.typing = Some(self.filter.clone()),
            Key::Char('p' | ' ') => self.pause(),
            Key::Char('v') => self.open(Screen::Verdicts),
            Key::Char('?' | 'h') => self.open(Screen::Help),
            Key::Char(_) | Key::Interrupt => {}
        }
        Flow::Stay
    }

    /// What is typed so far; `None` once that is over.
    fn type_on(&mut self, mut typed: String, key: Key) -> Option<String> {
        match key {
            Key::Enter => {
                self.filter = typed;
                return None;
            }
            Key::Escape => return None,
            Key::Backspace => {
                typed.pop();
            }
            Key::Char(character) if !character.is_control() && typed.len() < LONGEST_FILTER => {
                typed.push(character);
            }
            _ => {}
        }
        Some(typed)
    }

    fn pause(&mut self) {
        self.held = match self.held.take() {
            Some(_) => None,
            None => self.latest.clone(),
        };
    }

    fn earlier(&mut self, seconds: u64) {
        let from = match self.back_at {
            Some(at) => Some(at),
            None => (self.seen()).and_then(|seen| super::past::millis(seen.view.taken_at)),
        };
        let Some(from) = from.or_else(|| self.past.last()) else {
            return;
        };
        // A step is not exactly a second long.
        let wanted = from
            .saturating_sub(seconds * SECOND_MS - SECOND_MS / 2)
            .min(from - 1);
        self.back_at = self
            .past
            .nearest(wanted)
            .filter(|at| *at < from)
            .or(self.back_at);
    }

    fn later(&mut self, seconds: u64) {
        let Some(at) = self.back_at else { return };
        let wanted = at + seconds * SECOND_MS + SECOND_MS / 2;
        let next = self.past.after(at);
        self.back_at = if self
            .past
            .last()
            .is_none_or(|last| wanted > last + SECOND_MS / 2)
        {
            None
        } else {
            self.past.nearest(wanted).filter(|it| *it > at).or(next)
        };
    }

    fn enter(&mut self) {
        match self.screen() {
            Screen::Listeners => {
                if let Some(id) = self.chosen_listener() {
                    self.listener = Some(id.clone());
                    self.worker = None;
                    self.open(Screen::Listener(id));
                }
            }
            Screen::Listener(_) if self.back_at.is_none() => {
                if let Some(whom) = self.chosen_worker().map(Whom::of) {
                    self.worker = Some(whom.pid);
                    self.open(Screen::Worker(whom));
                }
            }
            Screen::Listener(_) | Screen::Worker(_) => {}
            Screen::Verdicts | Screen::Help => self.leave(),
        }
    }

    fn leave(&mut self) {
        let is_text = matches!(self.screen(), Screen::Verdicts | Screen::Help);
        if self.back_at.is_some() && !is_text {
            self.back_at = None;
        } else if self.screens.len() > 1 {
            self.screens.pop();
            self.scroll = 0;
        } else {
            self.filter.clear();
        }
    }

    fn open(&mut self, screen: Screen) {
        if *self.screen() == screen {
            return self.leave();
        }
        if matches!(self.screen(), Screen::Verdicts | Screen::Help) {
            self.screens.pop();
        }
        self.screens.push(screen);
        self.scroll = 0;
    }

    /// Moves what is chosen, or what is looked at, to another row: `to` gets where it is, and how many
    /// rows there are.
    fn go(&mut self, to: fn(usize, usize) -> usize) {
        match self.screen() {
            Screen::Listeners => {
                let ids: Vec<String> = self.rows().into_iter().map(|row| row.id).collect();
                let at = self.chosen(&ids).unwrap_or(0);
                let last = ids.len().saturating_sub(1);
                self.listener = ids.into_iter().nth(to(at, last).min(last));
            }
            Screen::Listener(_) => {
                let pids: Vec<u32> = self.workers().iter().map(|it| it.pid).collect();
                let at = pids.iter().position(|pid| Some(*pid) == self.worker);
                let last = pids.len().saturating_sub(1);
                self.worker = pids.get(to(at.unwrap_or(0), last).min(last)).copied();
            }
            Screen::Worker(_) => {
                let listing = self.listed.as_ref().and_then(|it| it.listing.as_ref().ok());
                let last = listing.map_or(0, |it| it.connections.len().saturating_sub(1));
                self.scroll = to(self.scroll, last).min(last);
            }
            // How many lines these are, the width tells; drawing keeps the last in sight.
            Screen::Verdicts | Screen::Help => {
                let last = 20 + self.seen().map_or(0, |it| 6 * it.diagnosis.verdicts.len());
                self.scroll = to(self.scroll, last).min(last);
            }
        }
    }

    pub(super) fn screen(&self) -> &Screen {
        self.screens.last().unwrap_or(&Screen::Listeners)
    }

    /// What is shown: the latest, or what was held.
    pub(super) fn seen(&self) -> Option<&Seen> {
        self.held.as_ref().or(self.latest.as_ref())
    }

    pub(super) fn view(&self) -> Option<&View> {
        self.seen().map(|seen| &*seen.view)
    }

    /// How old the figures of a view are.
    pub(super) fn age(&self, seen: &Seen) -> Duration {
        self.now.running.saturating_sub(seen.at) + seen.age
    }

    /// The row that is chosen; the first, while none is.
    pub(super) fn chosen(&self, ids: &[String]) -> Option<usize> {
        let chosen = self.listener.as_ref();
        let found = ids.iter().position(|id| Some(id) == chosen);
        found.or((!ids.is_empty()).then_some(0))
    }

    pub(super) fn chosen_listener(&self) -> Option<String> {
        let ids: Vec<String> = self.rows().into_iter().map(|row| row.id).collect();
        let at = self.chosen(&ids)?;
        ids.into_iter().nth(at)
    }

    pub(super) fn chosen_worker(&self) -> Option<&Worker> {
        let workers = self.workers();
        let found = workers.iter().find(|it| Some(it.pid) == self.worker);
        found.or(workers.first()).copied()
    }

    /// A listener of the view that is shown.
    pub(super) fn find(&self, id: &str) -> Option<&Listener> {
        self.view()?.listeners.iter().find(|it| it.id == id)
    }

    /// The workers of the listener that was entered.
    pub(super) fn workers(&self) -> Vec<&Worker> {
        let entered = self.screens.iter().rev().find_map(|screen| match screen {
            Screen::Listener(id) => Some(id),
            _ => None,
        });
        let found = self.view().zip(entered.and_then(|id| self.find(id)));
        let Some((view, listener)) = found else {
            return Vec::new();
        };
        let pids = listener.workers.as_deref().unwrap_or_default();
        let workers = view.workers.iter().filter(|it| pids.contains(&it.pid));
        let mut workers: Vec<&Worker> = workers.collect();
        self.order.sort_workers(&mut workers);
        workers
    }
}
