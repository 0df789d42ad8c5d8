use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Audience, DEAR, Form, Hub, SPARING, YOUNG,
    asked::{CHEAP, KEEPS_COMING},
};
use crate::{render::json::Buckets, view::View};

fn view() -> View {
    serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
}

#[test]
fn an_answer_is_rendered_once() {
    let hub = Hub::new();
    assert!(hub.latest().is_none());
    hub.publish(view());
    let published = hub.latest().unwrap();
    for form in [
        Form::Text,
        Form::View(Buckets::Hidden, Audience::Trusted),
        Form::View(Buckets::Shown, Audience::Trusted),
        Form::View(Buckets::Hidden, Audience::Others),
        Form::Listeners(Buckets::Hidden),
        Form::Listeners(Buckets::Shown),
        Form::Workers(Audience::Others),
        Form::Diagnosis,
    ] {
        let first = published.answer(form);
        assert!(!first.is_empty(), "{form:?}");
        assert_eq!(first.as_ptr(), published.answer(form).as_ptr(), "{form:?}");
    }
}

#[test]
fn only_what_is_asked_for_is_rendered_ahead() {
    let hub = Hub::new();
    hub.publish(view());
    let first = hub.latest().unwrap();
    assert!(first.text.get().is_none() && first.diagnosis.get().is_none());
    let _ = first.answer(Form::Text);
    hub.asked_forms.took(Form::Text, Duration::ZERO);
    hub.publish(view());
    let second = hub.latest().unwrap();
    assert!(second.text.get().is_some());
    assert!(second.diagnosis.get().is_none());
    // Rendering ahead is not a request: it ends when requests do.
    hub.asked_forms.change(Form::Text, |request| {
        request.at = Instant::now().checked_sub(KEEPS_COMING);
    });
    hub.publish(view());
    assert!(hub.latest().unwrap().text.get().is_none());
}

#[test]
fn a_dear_form_is_not_rendered_ahead() {
    let hub = Hub::new();
    hub.publish(view());
    let _ = hub.latest().unwrap().answer(Form::Text);
    hub.asked_forms.took(Form::Text, CHEAP * 2);
    hub.publish(view());
    assert!(hub.latest().unwrap().text.get().is_none());
}

#[tokio::test]
async fn the_first_reader_after_a_pause_gets_a_view_of_his_own() {
    let hub = Arc::new(Hub::new());
    let publisher = {
        let hub = Arc::clone(&hub);
        thread::spawn(move || {
            hub.publish(view());
            hub.published_by(thread::current());
            while Arc::strong_count(&hub) > 1 {
                thread::park();
                if hub.takes_request() {
                    let mut newer = view();
                    newer.listeners.clear();
                    hub.publish(newer);
                }
            }
        })
    };
    while hub.publisher.get().is_none() {
        thread::yield_now();
    }
    thread::sleep(YOUNG * 2);
    hub.freshened().await;
    assert_eq!(hub.latest().unwrap().view().listeners.len(), 0);
    // He reads now, so views come by themselves.
    let his = hub.latest().unwrap();
    thread::sleep(YOUNG * 2);
    hub.freshened().await;
    assert!(Arc::ptr_eq(&his, &hub.latest().unwrap()));
    drop(hub);
    publisher.thread().unpark();
    publisher.join().unwrap();
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

#[test]
fn who_asks_for_the_age_is_no_reader() {
    let hub = Hub::new();
    assert_eq!(hub.age(), None);
    hub.publish(view());
    assert!(hub.age().is_some() && !hub.is_read());
}

#[test]
fn what_takes_long_to_render_is_rendered_a_tenth_of_the_time() {
    let hub = Hub::new();
    hub.publish(view());
    let answered = || {
        let latest = hub.latest().unwrap();
        let published = hub.affordable(Form::Text, &latest);
        let _ = published.answer(Form::Text);
        (Arc::ptr_eq(&published, &latest), published)
    };
    assert!(answered().0);
    hub.asked_forms.took(Form::Text, DEAR);
    let (_, dear) = answered();
    hub.publish(view());
    let (is_latest, published) = answered();
    assert!(!is_latest && Arc::ptr_eq(&published, &dear));
    let others = hub.affordable(Form::Diagnosis, &hub.latest().unwrap());
    assert!(!Arc::ptr_eq(&others, &dear), "that is not dear");
    drop((published, others));
    thread::sleep(DEAR * SPARING);
    assert_eq!(Arc::strong_count(&dear), 2);
    hub.publish(view());
    assert_eq!(Arc::strong_count(&dear), 1, "nobody asks for it any more");
    assert!(answered().0);
}
