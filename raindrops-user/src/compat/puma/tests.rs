use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Answer, Command, answer, command};
use crate::{
    compat::tokens::Tokens,
    fact::Fact,
    view::{
        View,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

fn view() -> View {
    serde_json::from_str(include_str!("../../../tests/data/view.json")).unwrap()
}

fn tokens(text: &str) -> Tokens {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    std::fs::write(&path, text).unwrap();
    Tokens::read(&path).unwrap()
}

fn asked(view: &View, target: &str) -> Answer {
    let tokens = tokens(&format!("t0k {target}"));
    answer(view, Some(&tokens), Command::Stats, Some("token=t0k"))
}

fn stats(view: &View, target: &str) -> Value {
    match asked(view, target) {
        Answer::Stats(text) => {
            assert!(!text.contains(['\r', '\n']), "{text}");
            serde_json::from_str(&text).unwrap()
        }
        other => panic!("{target}: {other:?}"),
    }
}

#[test]
fn the_last_part_of_a_path_is_the_command() {
    for (path, found) in [
        ("/stats", Some(Command::Stats)),
        ("/any/prefix/stats", Some(Command::Stats)),
        ("/gc", Some(Command::Other)),
        ("/phased-restart", Some(Command::Other)),
        ("/v1/listeners/stats", None),
        ("/stats/", None),
        ("stats", None),
        ("/metrics", None),
        ("", None),
    ] {
        assert_eq!(command(path), found, "{path}");
    }
}

#[test]
fn only_a_token_that_is_known_gets_an_answer() {
    let view = view();
    let tokens = tokens("t0k unicorn");
    let ask = |command, query| answer(&view, Some(&tokens), command, query);
    for query in [
        None,
        Some(""),
        Some("token="),
        Some("token=t0"),
        Some("t0k"),
    ] {
        for command in [Command::Stats, Command::Other] {
            assert_eq!(ask(command, query), Answer::WrongToken, "{query:?}");
        }
    }
    let unsupported = Answer::Nothing("Unsupported action".to_owned());
    assert_eq!(ask(Command::Other, Some("token=t0k")), unsupported);
    let answered = |query| matches!(ask(Command::Stats, Some(query)), Answer::Stats(_));
    assert!(answered("token=t0k") && answered("a=b&token=t0k") && answered("a;token=t0k"));
    assert_eq!(answer(&view, None, Command::Other, None), unsupported);
    match answer(&view, None, Command::Stats, Some("token=t0k")) {
        Answer::Nothing(why) => assert!(why.contains("--puma-token-file FILE"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_is_named_by_id_kind_or_address() {
    let view = view();
    for target in ["unicorn:14387", "unicorn", ":18080", "127.0.0.1:18080"] {
        assert_eq!(stats(&view, target)["worker_status"][0]["pid"], 14390);
    }
    assert_eq!(
        stats(&view, "/run/app.sock")["worker_status"][0]["pid"],
        910
    );
    for (target, why) in [
        (
            "unicorn:1",
            "the token names \"unicorn:1\", which is no server that runs now; there are \
             nginx:2100, puma:900, unicorn:14387",
        ),
        (
            "@control",
            "the token names \"@control\", which is no server that runs now; there are \
             nginx:2100, puma:900, unicorn:14387",
        ),
    ] {
        assert_eq!(asked(&view, target), Answer::Nothing(why.to_owned()));
    }
    let mut two = view;
    let mut other = two.servers[2].clone();
    other.id = "unicorn:7".to_owned();
    two.servers.push(other);
    match asked(&two, "unicorn") {
        Answer::Nothing(why) => assert!(why.contains("unicorn:14387, unicorn:7"), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn at(time: &str) -> Option<SystemTime> {
    Some(humantime::parse_rfc3339(time).unwrap())
}

/// Check the order of fields, which is puma's, and that what only puma can know is left out.
#[test]
fn of_a_puma_that_is_not_asked_only_what_is_seen_is_told() {
    let told = match asked(&view(), "puma") {
        Answer::Stats(text) => text,
        other => panic!("{other:?}"),
    };
    let worker = |pid, index| {
        format!(
            r#"{{"started_at":"2026-11-21T23:00:00Z","pid":{pid},"index":{index},"last_status":{{"backlog":0,"running":2}}}}"#
        )
    };
    assert_eq!(
        told,
        format!(
            r#"{{"started_at":"2026-11-21T22:59:57Z","workers":2,"worker_status":[{},{}]}}"#,
            worker(910, 0),
            worker(911, 1)
        )
    );
}

#[test]
fn what_puma_said_is_said_again() {
    let mut view = view();
    let worker = PumaWorker {
        pid: Some(910),
        index: Some(0),
        phase: Some(3),
        booted: Some(true),
        started_at: None,
        last_checkin: Some("2026-11-22T00:58:55Z".to_owned()),
        backlog: Some(1),
        running: Some(4),
        busy_threads: Some(5),
        pool_capacity: Some(0),
        max_threads: Some(4),
        requests_count: Some(77),
    };
    let of = |workers| Puma {
        source: PumaSource::Control,
        age_ms: Some(1),
        started_at: None,
        phase: Some(3),
        booted_workers: Some(2),
        old_workers: Some(1),
        workers,
    };
    let silent = PumaWorker {
        index: Some(1),
        booted: Some(false),
        ..PumaWorker::default()
    };
    view.servers[1].puma = Fact::Is(of(vec![worker.clone(), silent]));
    let expected = json!({
        "started_at": "2026-11-21T22:59:57Z", "workers": 2, "phase": 3, "booted_workers": 2,
        "old_workers": 1,
        "worker_status": [
            {
                "started_at": "2026-11-21T23:00:00Z", "pid": 910, "index": 0, "phase": 3,
                "booted": true, "last_checkin": "2026-11-22T00:58:55Z",
                "last_status": {
                    "backlog": 1, "running": 4, "pool_capacity": 0, "max_threads": 4,
                    "requests_count": 77
                }
            },
            { "index": 1, "booted": false, "last_status": {} }
        ]
    });
    assert_eq!(stats(&view, "puma"), expected);

    // Restarted in the same processes.
    let mut of_later = of(vec![PumaWorker {
        started_at: at("2026-11-22T00:10:01Z"),
        ..worker.clone()
    }]);
    of_later.started_at = at("2026-11-22T00:10:00Z");
    view.servers[1].puma = Fact::Is(of_later);
    let told = stats(&view, "puma");
    assert_eq!(told["started_at"], "2026-11-22T00:10:00Z");
    assert_eq!(
        told["worker_status"][0]["started_at"],
        "2026-11-22T00:10:01Z"
    );

    let only = PumaWorker {
        index: None,
        phase: None,
        ..worker
    };
    view.servers[1].puma = Fact::Is(of(vec![only]));
    let expected = json!({
        "started_at": "2026-11-21T22:59:57Z", "backlog": 1, "running": 4, "pool_capacity": 0,
        "max_threads": 4, "requests_count": 77
    });
    assert_eq!(stats(&view, "puma"), expected);
}

#[test]
fn a_unicorn_is_told_in_the_words_of_puma() {
    let mut view = view();
    let worker = view.workers.iter_mut().find(|it| it.pid == 14390).unwrap();
    worker.started_at = Some(view.since);
    worker.threads_busy = Some(1);
    let turns = worker.turns.as_mut().unwrap();
    (turns.complete, turns.waiting, turns.total) = (true, Some(0), 12);
    let told = stats(&view, "unicorn");
    assert_eq!(
        (&told["workers"], &told["booted_workers"]),
        (&json!(2), &json!(2))
    );
    let expected = json!({
        "started_at": "2026-11-22T00:00:00Z", "pid": 14390, "index": 0, "booted": true,
        "last_status": {
            "backlog": 0, "running": 1, "pool_capacity": 0, "max_threads": 1, "requests_count": 12
        }
    });
    assert_eq!(told["worker_status"][0], expected);
    // That one is older than the counts.
    let older = &told["worker_status"][1]["last_status"];
    assert!(older["requests_count"].is_null(), "{older}");
    assert_eq!(told["started_at"], "2026-11-21T22:59:58Z");
    assert!(told["phase"].is_null() && told["old_workers"].is_null());
}

#[test]
fn how_much_more_another_server_could_take_is_not_told() {
    let mut view = view();
    let worker = view.workers.iter_mut().find(|it| it.pid == 2101).unwrap();
    (worker.threads_seen, worker.threads_busy) = (Some(3), Some(1));
    let status = &stats(&view, "nginx")["worker_status"][0]["last_status"];
    assert_eq!(status["running"], 3);
    let unknown = (&status["pool_capacity"], &status["max_threads"]);
    assert_eq!(unknown, (&Value::Null, &Value::Null));
}
