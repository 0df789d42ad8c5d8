//! The path whose answer is read for who asks, with a reader made by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{CEILING, Running, start_at, view};
use crate::{
    connections::Unlisted,
    ids::Pid,
    publish::Hub,
    server::{Desk, Limits},
    view::connections::{ListenerName, Listing, Question, SCHEMA},
};

/// A list that tells what was asked for.
fn echo(question: &Question) -> Listing {
    Listing {
        schema: SCHEMA.to_owned(),
        taken_at: SystemTime::UNIX_EPOCH,
        truncated: false,
        scanned: question.limit,
        scan_complete: true,
        matched: 0,
        listeners: question
            .wanted()
            .map(|place| ListenerName {
                id: place.id.clone(),
                address: place.address.clone(),
            })
            .collect(),
        connections: Vec::new(),
        notes: Vec::new(),
    }
}

fn start(desk: Desk, limits: Limits) -> Running {
    let hub = Hub::new();
    hub.publish(view());
    start_at(desk, hub, limits)
}

#[tokio::test]
async fn what_is_asked_for_is_read() {
    let desk = Desk::open(|question, _| Ok(echo(question))).unwrap();
    let server = start(desk, Limits::default());
    let reply = server.get("/v1/connections?listener=:18080&limit=7").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json(),
        json!({
            "schema": "raindrops.connections/1",
            "taken_at": "1970-01-01T00:00:00.000Z",
            "truncated": false,
            "scanned": 7,
            "scan_complete": true,
            "matched": 0,
            "listeners": [{"id": "4026531833:17", "address": "127.0.0.1:18080"}],
            "connections": [],
            "notes": [],
        })
    );
    for (query, listeners) in [
        ("", 7),
        ("?listener=&worker=&limit=", 7),
        ("?listener=:80", 3),
        ("?listener=:80&listener=%40control&worker=14390", 4),
    ] {
        let reply = server.get(&format!("/v1/connections{query}")).await.json();
        let found = reply["listeners"].as_array().unwrap().len();
        assert_eq!(found, listeners, "{query}: {reply}");
    }
}

#[tokio::test]
async fn wrong_questions_are_not_asked() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let desk = Desk::open(move |question, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        if question.worker == Some(Pid(1)) {
            return Err(Unlisted {
                error: "no".to_owned(),
                hint: "later".to_owned(),
            });
        }
        Ok(echo(question))
    });
    let server = start(desk.unwrap(), Limits::default());
    for (query, status, error, hint) in [
        (
            "limit=0",
            400,
            "limit \"0\" is not a number from 1 to 4096",
            "queries are ?listener=LISTENER",
        ),
        (
            "buckets=1",
            400,
            "\"buckets=1\" is not understood",
            "queries are ?listener=LISTENER",
        ),
        (
            "listener=:18081",
            404,
            "no listener matches \":18081\"",
            "the closest is 127.0.0.1:18080; listening: ",
        ),
    ] {
        let reply = server.get(&format!("/v1/connections?{query}")).await;
        let json = reply.json();
        assert_eq!((reply.status, &json["error"]), (status, &error.into()));
        let found = json["hint"].as_str().unwrap();
        assert!(found.starts_with(hint), "{query}: {found}");
    }
    assert_eq!(server.ask("POST", "/v1/connections").await.status, 405);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    for (worker, status, error) in [
        (
            "14399",
            404,
            "process 14399 is not a worker of any listener",
        ),
        ("1", 503, "no"),
    ] {
        let reply = server
            .get(&format!("/v1/connections?worker={worker}"))
            .await;
        let json = reply.json();
        assert_eq!((reply.status, &json["error"]), (status, &error.into()));
    }
}

#[tokio::test]
async fn a_reader_that_hangs_holds_nobody_else_up() {
    let (release, released) = mpsc::channel::<()>();
    let desk = Desk::open(move |question, _| {
        let _ = released.recv();
        Ok(echo(question))
    });
    let limits = Limits {
        reading: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Arc::new(start(desk.unwrap(), limits));
    let path = "/v1/connections?listener=:18080";
    let asking: Vec<_> = (1..=8)
        .map(|limit| {
            let server = Arc::clone(&server);
            let path = format!("{path}&limit={limit}");
            tokio::spawn(async move { server.get(&path).await })
        })
        .collect();
    let began = Instant::now();
    assert_eq!(server.get("/v1/view").await.status, 200);
    let mut told = Vec::new();
    for asked in asking {
        let reply = asked.await.unwrap();
        assert_eq!(reply.status, 503);
        told.push(reply.json()["error"].as_str().unwrap().to_owned());
    }
    assert!(began.elapsed() < CEILING);
    let busy = told
        .iter()
        .filter(|it| it.starts_with("others are being"))
        .count();
    let late = told
        .iter()
        .filter(|it| it.contains("within 300 ms"))
        .count();
    assert!(busy >= 1 && late >= 4 && busy + late == 8, "{told:?}");
    // It goes on with who asks then, and not with those who have left.
    release.send(()).unwrap();
    release.send(()).unwrap();
    let deadline = Instant::now() + CEILING;
    while server.get(path).await.status != 200 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(10)).await;
        release.send(()).unwrap();
    }
}
