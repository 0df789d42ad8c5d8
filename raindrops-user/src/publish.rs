//! The latest view, and the answers made of it.
//!
//! One side publishes, any number of readers take what is there. An answer is rendered at most once
//! and then shared, so that a thousand clients cost one: on its first request, or, where requests
//! for that form keep coming, before the view is published. This module knows no protocol and starts
//! nothing.

mod asked;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified};

use self::asked::Asked;
use crate::{
    diagnose::diagnose,
    render::{
        json::{self, Buckets},
        openmetrics::{self, Bounds, Continuity, Dialect},
        text::{self, Style},
    },
    view::View,
};

/// Age of the view from which on the sampler counts as stuck: it publishes at least once a second.
pub const STALE: Duration = Duration::from_secs(10);

/// How long a reader counts as one.
const READER_STAYS: Duration = Duration::from_secs(10);
/// As young as views are while somebody reads.
const YOUNG: Duration = Duration::from_millis(100);

/// Who serves others, too, does not spend longer on a rendering.
const QUICK: Duration = Duration::from_millis(2);
/// A form whose rendering takes longer is not rendered of each view.
const DEAR: Duration = Duration::from_millis(20);
/// The part of the time that rendering such a form may take: one in so many.
const SPARING: u32 = 10;

/// An answer that is the same for every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    View(Buckets, Audience),
    Listeners(Buckets),
    Workers(Audience),
    Diagnosis,
    Metrics(Dialect),
}

/// Who an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Who may see all that the daemon knows.
    Trusted,
    /// Command lines are left out.
    Others,
}

/// One view and what has been rendered of it.
#[derive(Debug)]
pub struct Published {
    view: View,
    continuity: Continuity,
    at: Instant,
    asked: Arc<Asked>,
    text: OnceLock<Bytes>,
    view_json: ByAudience,
    view_with_buckets: ByAudience,
    listeners: OnceLock<Bytes>,
    listeners_with_buckets: OnceLock<Bytes>,
    workers: ByAudience,
    diagnosis: OnceLock<Bytes>,
    openmetrics: OnceLock<Bytes>,
    prometheus: OnceLock<Bytes>,
}

#[derive(Debug, Default)]
struct ByAudience {
    trusted: OnceLock<Bytes>,
    others: OnceLock<Bytes>,
}

impl ByAudience {
    const fn of(&self, audience: Audience) -> &OnceLock<Bytes> {
        match audience {
            Audience::Trusted => &self.trusted,
            Audience::Others => &self.others,
        }
    }
}

impl Published {
    fn new(view: View, continuity: Continuity, asked: Arc<Asked>) -> Self {
        Self {
            view,
            continuity,
            at: Instant::now(),
            asked,
            text: OnceLock::new(),
            view_json: ByAudience::default(),
            view_with_buckets: ByAudience::default(),
            listeners: OnceLock::new(),
            listeners_with_buckets: OnceLock::new(),
            workers: ByAudience::default(),
            diagnosis: OnceLock::new(),
            openmetrics: OnceLock::new(),
            prometheus: OnceLock::new(),
        }
    }

    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// When it was published.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }

    /// Time since it was published.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// The whole answer, rendered at most once.
    #[must_use]
    pub fn answer(&self, form: Form) -> Bytes {
        self.asked.note(form);
        self.rendered(form)
    }

    const fn slot(&self, form: Form) -> &OnceLock<Bytes> {
        match form {
            Form::Text => &self.text,
            Form::View(Buckets::Hidden, audience) => self.view_json.of(audience),
            Form::View(Buckets::Shown, audience) => self.view_with_buckets.of(audience),
            Form::Listeners(Buckets::Hidden) => &self.listeners,
            Form::Listeners(Buckets::Shown) => &self.listeners_with_buckets,
            Form::Workers(audience) => self.workers.of(audience),
            Form::Diagnosis => &self.diagnosis,
            Form::Metrics(Dialect::OpenMetrics) => &self.openmetrics,
            Form::Metrics(Dialect::Prometheus) => &self.prometheus,
        }
    }

    fn rendered(&self, form: Form) -> Bytes {
        let render = || {
            let began = Instant::now();
            let bytes = rendered(|out| self.render(form, out));
            self.asked.took(form, began.elapsed());
            bytes
        };
        self.slot(form).get_or_init(render).clone()
    }

    /// The whole answer, with a warning where the form has a place for one. Rendered for each
    /// request, because the age in it is another one each time.
    #[must_use]
    pub fn stale_answer(&self, form: Form, age: Duration) -> Bytes {
        match form {
            Form::Text => rendered(|out| {
                text::stale(age, Style::default(), out)?;
                out.extend_from_slice(&self.answer(form));
                Ok(())
            }),
            Form::Diagnosis => rendered(|out| json::write(&diagnose(&self.view).aged(age), out)),
            Form::View(..) | Form::Listeners(_) | Form::Workers(_) | Form::Metrics(_) => {
                self.answer(form)
            }
        }
    }

    fn render(&self, form: Form, out: &mut Vec<u8>) -> io::Result<()> {
        match form {
            Form::Text => text::view(&self.view, Style::default(), out),
            Form::View(buckets, audience) => json::view(&self.view, buckets, audience, out),
            Form::Listeners(buckets) => json::listeners(&self.view.listeners, buckets, out),
            Form::Workers(audience) => json::workers(&self.view.workers, audience, out),
            Form::Diagnosis => json::write(&diagnose(&self.view), out),
            Form::Metrics(dialect) => openmetrics::view(&self.view, &self.continuity, dialect, out),
        }
    }
}

/// What a renderer writes. Writing to memory does not fail, and every type of the view serializes;
/// were it otherwise, the answer would be empty rather than the daemon gone.
#[must_use]
pub fn rendered(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Bytes {
    let mut out = Vec::new();
    match render(&mut out) {
        Ok(()) => {
            out.shrink_to_fit();
            Bytes::from(out)
        }
        Err(error) => {
            log::error!("cannot render an answer: {error}");
            Bytes::new()
        }
    }
}

/// Where views are published.
#[derive(Debug)]
pub struct Hub {
    latest: Mutex<Option<Arc<Published>>>,
    asked_forms: Arc<Asked>,
    /// How many may have series in /metrics.
    series: Mutex<Bounds>,
    /// Taken by who renders what takes long.
    rendering: Arc<Semaphore>,
    /// Views that dear forms were rendered of last.
    dear: Mutex<Vec<(Form, Arc<Published>)>>,
    /// When a reader last came.
    read: Mutex<Option<Instant>>,
    /// Who publishes, and whether it is asked for a view at once.
    publisher: OnceLock<Thread>,
    asked: AtomicBool,
    /// Tells those who wait for the next view.
    replaced: Notify,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    #[must_use]
    pub fn new() -> Self {
        Self {
            latest: Mutex::default(),
            asked_forms: Arc::default(),
            series: Mutex::default(),
            rendering: Arc::new(Semaphore::new(1)),
            dear: Mutex::default(),
            read: Mutex::default(),
            publisher: OnceLock::new(),
            asked: AtomicBool::new(false),
            replaced: Notify::new(),
        }
    }

    /// From the next view on.
    pub fn bound_series(&self, bounds: Bounds) {
        *lock(&self.series) = bounds;
    }

    /// Who is woken to publish a view at once: the calling thread sees to [`Hub::takes_request`]
    /// whenever it is unparked.
    pub fn published_by(&self, publisher: Thread) {
        let _ = self.publisher.set(publisher);
    }

    /// Whether a view is asked for at once. The question is then answered by the next.
    pub fn takes_request(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    /// Replaces the latest view. Readers keep the one that they took.
    pub fn publish(&self, view: View) {
        let before = lock(&self.latest).clone();
        let bounds = *lock(&self.series);
        let continuity = match &before {
            Some(before) => before.continuity.next(&before.view, &view, bounds),
            None => Continuity::of(&view, bounds),
        };
        drop(before);
        let asked = Arc::clone(&self.asked_forms);
        let published = Arc::new(Published::new(view, continuity, asked));
        for form in self.asked_forms.ahead() {
            published.rendered(form);
        }
        let no_longer_asked = {
            let mut dear = lock(&self.dear);
            let is_late = |it: &mut (Form, Arc<Published>)| !self.is_young_enough(it.0, &it.1);
            dear.extract_if(.., is_late).collect::<Vec<_>>()
        };
        let previous = lock(&self.latest).replace(published);
        self.replaced.notify_waiters();
        // Freed here, after the locks are released: a large view takes a while.
        drop((previous, no_longer_asked));
    }

    /// The latest view; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Published>> {
        *lock(&self.read) = Some(Instant::now());
        lock(&self.latest).clone()
    }

    /// What to answer a form of: the latest view, or where its rendering takes long an earlier one that
    /// is rendered already, so that no more than a tenth of the time is spent on it.
    #[must_use]
    pub fn affordable(&self, form: Form, latest: &Arc<Published>) -> Arc<Published> {
        let mut dear = lock(&self.dear);
        dear.retain(|(it, earlier)| *it != form || self.is_young_enough(form, earlier));
        if self.asked_forms.last_took(form) < DEAR {
            return Arc::clone(latest);
        }
        if let Some((_, earlier)) = dear.iter().find(|(it, _)| *it == form) {
            return Arc::clone(earlier);
        }
        dear.push((form, Arc::clone(latest)));
        Arc::clone(latest)
    }

    /// Whether answering takes so long that others who are served should not wait for it.
    #[must_use]
    pub fn takes_long(&self, form: Form, published: &Published) -> bool {
        published.slot(form).get().is_none() && self.asked_forms.last_took(form) > QUICK
    }

    /// A turn to render what takes long: one has it at a time.
    pub async fn turn_to_render(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.rendering).acquire_owned().await.ok()
    }

    /// Long before it would look as though the sampler were stuck.
    fn is_young_enough(&self, form: Form, earlier: &Published) -> bool {
        let rest = self.asked_forms.last_took(form) * SPARING;
        earlier.age() < rest.min(STALE / 2)
    }

    /// The latest view, for who does not count as a reader: no more views need be made for him.
    #[must_use]
    pub fn peeked(&self) -> Option<Arc<Published>> {
        lock(&self.latest).clone()
    }

    /// Ends when a view is published after the call.
    pub fn replaced(&self) -> Notified<'_> {
        self.replaced.notified()
    }

    /// Age of the latest view; `None` before the first. Who only asks this is no reader.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        lock(&self.latest).as_ref().map(|latest| latest.age())
    }

    /// Whether somebody reads: where nobody looks, views may be fewer.
    #[must_use]
    pub fn is_read(&self) -> bool {
        lock(&self.read).is_some_and(|last| last.elapsed() < READER_STAYS)
    }

    /// Has a view made now and waits for it, where views are few because nobody reads and the
    /// latest is not young. Ends at once otherwise. The caller bounds how long he waits.
    pub async fn freshened(&self) {
        let latest = lock(&self.latest).clone();
        let Some(latest) = latest.filter(|it| !self.is_read() && it.age() > YOUNG) else {
            return;
        };
        self.renew(Some(&latest)).await;
    }

    /// Has a view made now and waits for it. The caller bounds how long.
    pub async fn renewed(&self) {
        let latest = lock(&self.latest).clone();
        self.renew(latest.as_ref()).await;
    }

    async fn renew(&self, latest: Option<&Arc<Published>>) {
        self.asked.store(true, Ordering::Release);
        if let Some(publisher) = self.publisher.get() {
            publisher.unpark();
        }
        let _ = self.after(latest).await;
    }

    /// The latest view, as soon as it is another one than that.
    pub async fn after(&self, that: Option<&Arc<Published>>) -> Arc<Published> {
        loop {
            // Before the look: a view that is published in between is not missed.
            let replaced = self.replaced.notified();
            let latest = self.latest();
            if let Some(latest) = latest.filter(|it| that.is_none_or(|that| !Arc::ptr_eq(it, that)))
            {
                return latest;
            }
            replaced.await;
        }
    }
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
