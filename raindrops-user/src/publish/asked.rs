//! Which forms keep being asked for, and how long each takes to render.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{Form, lock};

/// A form that was asked for within this time is rendered ahead.
pub(super) const KEEPS_COMING: Duration = Duration::from_millis(500);
/// The sampler's time is not spent on a rendering that takes longer.
pub(super) const CHEAP: Duration = Duration::from_millis(1);

/// Which forms were asked for, of any view.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Vec<Request>>);

/// The last request for a form, and how long its last rendering took.
#[derive(Debug)]
pub(super) struct Request {
    form: Form,
    pub(super) at: Option<Instant>,
    took: Duration,
}

impl Asked {
    pub(super) fn note(&self, form: Form) {
        self.change(form, |request| request.at = Some(Instant::now()));
    }

    pub(super) fn took(&self, form: Form, took: Duration) {
        self.change(form, |request| request.took = took);
    }

    pub(super) fn change(&self, form: Form, change: impl FnOnce(&mut Request)) {
        let mut requests = lock(&self.0);
        if let Some(request) = requests.iter_mut().find(|request| request.form == form) {
            return change(request);
        }
        let mut request = Request {
            form,
            at: None,
            took: Duration::ZERO,
        };
        change(&mut request);
        requests.push(request);
    }

    pub(super) fn last_took(&self, form: Form) -> Duration {
        let requests = lock(&self.0);
        let request = requests.iter().find(|request| request.form == form);
        request.map_or(Duration::ZERO, |request| request.took)
    }

    /// Forms of which more requests are likely, and that are rendered quickly.
    pub(super) fn ahead(&self) -> Vec<Form> {
        let is_likely = |request: &&Request| {
            request.took <= CHEAP && request.at.is_some_and(|at| at.elapsed() < KEEPS_COMING)
        };
        let requests = lock(&self.0);
        requests
            .iter()
            .filter(is_likely)
            .map(|it| it.form)
            .collect()
    }
}
