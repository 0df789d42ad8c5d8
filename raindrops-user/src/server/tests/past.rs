//! The past, and having peaks forgotten.

use std::{sync::Arc, time::Duration};

use super::{CEILING, no_desk, start, start_with_history, view};
use crate::{
    history::{History, Recorder},
    publish::Hub,
    server::Limits,
    view::history,
};

#[tokio::test]
async fn what_was_is_told_by_listener() {
    let kept = Arc::new(History::reaching(CEILING));
    let mut recorder = Recorder::new(Arc::clone(&kept));
    let mut view = view();
    let id = view.listeners[0].id.clone();
    view.taken_at = std::time::SystemTime::now();
    for queued in 1..=3 {
        view.listeners[0].queue.queued = Some(queued);
        recorder.end_step(&view, |_| Some(queued + 1), |_| None);
    }
    drop(recorder);
    let hub = Hub::new();
    hub.publish(view.clone());
    let kept = Arc::into_inner(kept).unwrap();
    let server = start_with_history(kept, no_desk(), hub, Limits::default());
    let past = |query: &str| {
        let path = format!("/v1/history?{query}");
        async {
            let path = path;
            let reply = server.get(&path).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            serde_json::from_str::<history::History>(&reply.body).unwrap()
        }
    };
    let all = past("").await;
    assert!(all.listeners.len() > 1);
    let one = past(&format!("since=10m&step=1s&listener={id}")).await;
    assert_eq!(one.listeners.len(), 1);
    assert_eq!(one.listeners[0].queued, [Some(1), Some(2), Some(3)]);
    assert_eq!(one.listeners[0].peak, [Some(2), Some(3), Some(4)]);
    // It is gone, and told by its id; by its address with the one that came after it.
    let mut later = view.clone();
    later.listeners[0].id = "1:99999".to_owned();
    let address = later.listeners[0].address.clone();
    server.hub.publish(later);
    for listener in [&id, &address] {
        let gone = past(&format!("listener={listener}")).await;
        assert_eq!(gone.listeners[0].queued, [Some(1), Some(2), Some(3)]);
    }
    let new = past("listener=1:99999").await;
    assert!(new.listeners.is_empty(), "no step has it yet");
    for (query, status) in [
        ("since=1", 400),
        ("step=2h", 400),
        ("step=1s&step=1s", 400),
        ("listener=:1", 404),
        ("until=1s", 400),
    ] {
        let reply = server.get(&format!("/v1/history?{query}")).await;
        assert_eq!(reply.status, status, "{query}");
    }
}

#[tokio::test]
async fn no_past_is_no_empty_one() {
    let server = start(Limits::default());
    let reply = server.get("/v1/history").await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["error"], "no history is kept");
}

#[tokio::test]
async fn peaks_are_forgotten_by_post_only() {
    let limits = Limits {
        reading: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start(limits);
    let reply = server.get("/v1/reset").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    let reply = server.ask("POST", "/v1/view").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, HEAD"))
    );
    // Nobody publishes another view: that they are forgotten is not said before one shows it.
    assert_eq!(server.ask("POST", "/v1/reset").await.status, 503);
}
