//! The latest view, and the answers made of it.
//!
//! One side publishes, any number of readers take what is there: nobody waits for a sample. An
//! answer is rendered on its first request and then shared, so that a thousand clients cost one.
//! This module knows no protocol and starts nothing.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use hyper::body::Bytes;

use crate::{
    diagnose::diagnose,
    render::{
        json::{self, Buckets},
        text::{self, Style},
    },
    view::View,
};

/// Age of the view from which on the sampler counts as stuck: it publishes at least once a second.
pub const STALE: Duration = Duration::from_secs(10);

/// An answer that is the same for every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    View(Buckets),
    Listeners(Buckets),
    Workers,
    Diagnosis,
}

/// One view and what has been rendered of it.
#[derive(Debug)]
pub struct Published {
    view: View,
    at: Instant,
    text: OnceLock<Bytes>,
    view_json: OnceLock<Bytes>,
    view_with_buckets: OnceLock<Bytes>,
    listeners: OnceLock<Bytes>,
    listeners_with_buckets: OnceLock<Bytes>,
    workers: OnceLock<Bytes>,
    diagnosis: OnceLock<Bytes>,
}

impl Published {
    fn new(view: View) -> Self {
        Self {
            view,
            at: Instant::now(),
            text: OnceLock::new(),
            view_json: OnceLock::new(),
            view_with_buckets: OnceLock::new(),
            listeners: OnceLock::new(),
            listeners_with_buckets: OnceLock::new(),
            workers: OnceLock::new(),
            diagnosis: OnceLock::new(),
        }
    }

    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Time since it was published.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// The whole answer, rendered at most once.
    #[must_use]
    pub fn answer(&self, form: Form) -> Bytes {
        let slot = match form {
            Form::Text => &self.text,
            Form::View(Buckets::Hidden) => &self.view_json,
            Form::View(Buckets::Shown) => &self.view_with_buckets,
            Form::Listeners(Buckets::Hidden) => &self.listeners,
            Form::Listeners(Buckets::Shown) => &self.listeners_with_buckets,
            Form::Workers => &self.workers,
            Form::Diagnosis => &self.diagnosis,
        };
        slot.get_or_init(|| rendered(|out| self.render(form, out)))
            .clone()
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
            Form::View(_) | Form::Listeners(_) | Form::Workers => self.answer(form),
        }
    }

    fn render(&self, form: Form, out: &mut Vec<u8>) -> io::Result<()> {
        match form {
            Form::Text => text::view(&self.view, Style::default(), out),
            Form::View(buckets) => json::view(&self.view, buckets, out),
            Form::Listeners(buckets) => json::listeners(&self.view.listeners, buckets, out),
            Form::Workers => json::write(&self.view.workers, out),
            Form::Diagnosis => json::write(&diagnose(&self.view), out),
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
#[derive(Debug, Default)]
pub struct Hub {
    latest: Mutex<Option<Arc<Published>>>,
    /// When a reader last came.
    read: Mutex<Option<Instant>>,
}

impl Hub {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the latest view. Readers keep the one that they took.
    pub fn publish(&self, view: View) {
        let published = Some(Arc::new(Published::new(view)));
        let previous = std::mem::replace(
            &mut *self.latest.lock().unwrap_or_else(PoisonError::into_inner),
            published,
        );
        // Freed here, after the lock is released: a large view takes a while.
        drop(previous);
    }

    /// The latest view; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Published>> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a reader came within this time: where nobody looks, views may be fewer.
    #[must_use]
    pub fn was_read_within(&self, time: Duration) -> bool {
        self.read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|last| last.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Hub};
    use crate::{render::json::Buckets, view::View};

    fn view() -> View {
        serde_json::from_str(include_str!("../tests/data/view.json")).unwrap()
    }

    #[test]
    fn an_answer_is_rendered_once() {
        let hub = Hub::new();
        assert!(hub.latest().is_none());
        hub.publish(view());
        let published = hub.latest().unwrap();
        for form in [
            Form::Text,
            Form::View(Buckets::Hidden),
            Form::View(Buckets::Shown),
            Form::Listeners(Buckets::Hidden),
            Form::Listeners(Buckets::Shown),
            Form::Workers,
            Form::Diagnosis,
        ] {
            let first = published.answer(form);
            assert!(!first.is_empty(), "{form:?}");
            assert_eq!(first.as_ptr(), published.answer(form).as_ptr(), "{form:?}");
        }
    }

    #[test]
    fn a_reader_keeps_the_view_that_it_took() {
        let hub = Hub::new();
        hub.publish(view());
        let old = hub.latest().unwrap();
        let mut newer = view();
        newer.listeners.clear();
        hub.publish(newer);
        assert_eq!(old.view().listeners.len(), 7);
        assert_eq!(hub.latest().unwrap().view().listeners.len(), 0);
    }
}
