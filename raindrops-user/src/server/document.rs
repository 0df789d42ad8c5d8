//! Answers that are the same for everybody: a view in some form, rendered at most once.
//!
//! What takes long is rendered away from the loop that serves everybody, one after another.

use std::{sync::Arc, time::Duration};

use tokio::task;

use super::answer::{Answer, JSON, OPENMETRICS, PROMETHEUS, TEXT, of_age, ok};
use crate::{
    publish::{Form, Hub, Published},
    render::openmetrics::Dialect,
};

pub async fn answer(form: Form, latest: Arc<Published>, hub: &Hub, stale: Duration) -> Answer {
    let published = rendered(form, latest, hub).await;
    let age = published.age();
    let body = if age > stale {
        published.stale_answer(form, age)
    } else {
        published.answer(form)
    };
    let kind = match form {
        Form::Text => TEXT,
        Form::Metrics(Dialect::OpenMetrics) => OPENMETRICS,
        Form::Metrics(Dialect::Prometheus) => PROMETHEUS,
        Form::View(..) | Form::Listeners(_) | Form::Workers(_) | Form::Diagnosis => JSON,
    };
    of_age(ok(kind, body), age)
}

/// The latest view, or the one that can be afforded, with nothing left to do for that form.
pub async fn rendered(form: Form, latest: Arc<Published>, hub: &Hub) -> Arc<Published> {
    let published = hub.affordable(form, &latest);
    if !hub.takes_long(form, &published) {
        return published;
    }
    let Some(turn) = hub.turn_to_render().await else {
        return published;
    };
    // Who had the turn before may have rendered just this.
    let published = hub.affordable(form, &hub.latest().unwrap_or(latest));
    if hub.takes_long(form, &published) {
        let published = Arc::clone(&published);
        let rendering = task::spawn_blocking(move || {
            let _turn = turn;
            let _ = published.answer(form);
        });
        if let Err(error) = rendering.await {
            log::error!("cannot render an answer: {error}");
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, sync::Arc, task::Context};

    use super::rendered;
    use crate::{
        publish::{Audience, Form, Hub},
        render::json::Buckets,
        view::View,
    };

    const FORM: Form = Form::View(Buckets::Shown, Audience::Trusted);

    fn view(listeners: usize) -> View {
        let mut view: View =
            serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap();
        view.listeners = vec![view.listeners[0].clone(); listeners];
        view
    }

    /// Whether the loop that asks for it renders it.
    fn is_rendered_here(hub: &Hub) -> bool {
        let mut rendering = pin!(rendered(FORM, hub.latest().unwrap(), hub));
        let mut context = Context::from_waker(std::task::Waker::noop());
        rendering.as_mut().poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn what_takes_long_is_rendered_elsewhere_and_once() {
        let hub = Hub::new();
        hub.publish(view(2_000));
        assert!(is_rendered_here(&hub), "how long it takes is not known yet");
        let _ = hub.latest().unwrap().answer(FORM);
        hub.publish(view(2_001));
        assert!(!is_rendered_here(&hub));
        let latest = || rendered(FORM, hub.latest().unwrap(), &hub);
        let (first, second) = tokio::join!(latest(), latest());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!hub.takes_long(FORM, &first));
    }
}
