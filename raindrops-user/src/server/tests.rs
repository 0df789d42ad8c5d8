//! The server over a real Unix socket, with a view made by hand.

mod connections;
mod description;
mod limits;
mod past;
mod stream;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Archive, Desk, Limits, Sources, claim::Claim, compat::Compat, serve};
use crate::{connections::Unlisted, history::History, publish::Hub, view::View};

/// No step of a test may take longer.
const CEILING: Duration = Duration::from_secs(10);

struct Running {
    _directory: tempfile::TempDir,
    path: PathBuf,
    hub: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

fn view() -> View {
    serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
}

fn start_with(hub: Hub, limits: Limits) -> Running {
    start_at(no_desk(), hub, limits)
}

fn no_desk() -> Desk {
    let desk = Desk::open(|_, _| {
        Err(Unlisted {
            error: "nothing is read here".to_owned(),
            hint: "none".to_owned(),
        })
    });
    desk.unwrap()
}

fn start_at(desk: Desk, hub: Hub, limits: Limits) -> Running {
    start_with_history(History::reaching(Duration::ZERO), desk, hub, limits)
}

fn start_with_history(history: History, desk: Desk, hub: Hub, limits: Limits) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("raindrops.sock");
    let (claim, listener) = Claim::take(&path).unwrap();
    let hub = Arc::new(hub);
    let (stop, stopped) = oneshot::channel();
    let sources = Arc::new(Sources {
        hub: Arc::clone(&hub),
        desk,
        archive: Archive::new(Arc::new(history)),
        forget_peaks: Box::new(|| {}),
        compat: Compat::default(),
    });
    let task = tokio::spawn(async move {
        let _claim = claim;
        serve(listener, sources, limits, async {
            let _ = stopped.await;
        })
        .await
    });
    Running {
        _directory: directory,
        path,
        hub,
        stop: Some(stop),
        task,
    }
}

fn start(limits: Limits) -> Running {
    let hub = Hub::new();
    hub.publish(view());
    start_with(hub, limits)
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Running {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Reply {
        let mut stream = self.connect().await;
        request(&mut stream, method, path).await
    }
}

async fn request(stream: &mut UnixStream, method: &str, path: &str) -> Reply {
    let text = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    reply(stream, method == "HEAD").await
}

async fn reply(stream: &mut UnixStream, head_only: bool) -> Reply {
    timeout(CEILING, async {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
        };
        let mut body = bytes.split_off(end);
        let head = String::from_utf8(bytes).unwrap();
        let mut reply = Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: String::new(),
        };
        let length = reply.header("content-length").unwrap().parse().unwrap();
        while !head_only && body.len() < length {
            assert!(stream.read_buf(&mut body).await.unwrap() > 0);
        }
        reply.body = String::from_utf8(body).unwrap();
        reply
    })
    .await
    .unwrap()
}

/// Waits until the server closes.
async fn closed(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    let _ = timeout(CEILING, stream.read_to_end(&mut rest))
        .await
        .unwrap();
}

#[tokio::test]
async fn every_route_answers() {
    let server = start(Limits::default());
    let text = server.get("/").await;
    assert_eq!(text.status, 200);
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(text.body, include_str!("../../tests/data/show-pipe.txt"));

    let plain = server.get("/v1/view").await.json();
    assert!(plain["listeners"][0]["connections"]["wait"]["buckets"].is_null());
    let full = server.get("/v1/view?buckets=1").await.json();
    assert_eq!(
        full,
        serde_json::from_str::<serde_json::Value>(include_str!("../../tests/data/view.json"))
            .unwrap()
    );
    assert_eq!(server.get("/v1/listeners").await.json(), plain["listeners"]);
    assert_eq!(
        server.get("/v1/listeners?buckets=1").await.json(),
        full["listeners"]
    );
    assert_eq!(server.get("/v1/workers").await.json(), full["workers"]);
    let one = server.get("/v1/workers/14390").await.json();
    assert_eq!(one, serde_json::json!([full["workers"][0]]));
    let diagnosis = server.get("/v1/diagnosis").await.json();
    assert_eq!(diagnosis["schema"], "raindrops.diagnosis/1");
    let metrics = server.get("/metrics").await;
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.header("content-type"), Some(open));
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);
    let health = server.get("/healthz").await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &"ok".into())
    );
}

#[tokio::test]
async fn a_listener_is_found_by_what_an_operator_types() {
    let server = start(Limits::default());
    for (path, cookies) in [
        ("/v1/listeners/:18080", &["17"][..]),
        ("/v1/listeners/4026531833:17", &["17"]),
        ("/v1/listeners/[::]:80", &["23"]),
        ("/v1/listeners/%5B::%5D:80", &["23"]),
        ("/v1/listeners/:80", &["21", "22", "23"]),
        ("/v1/listeners//run/app.sock", &["31"]),
        ("/v1/listeners/%2Frun%2Fapp.sock", &["31"]),
        ("/v1/listeners/@control?buckets=1", &["32"]),
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let rows = reply.json();
        let found: Vec<_> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["cookie"].as_str().unwrap())
            .collect();
        assert_eq!(found, cookies, "{path}");
    }
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_what_there_is() {
    let server = start(Limits::default());
    for (path, status, error, hint) in [
        (
            "/v1/listeners/:18081",
            404,
            "no listener matches \":18081\"",
            "the closest is 127.0.0.1:18080; listening: ",
        ),
        (
            "/v1/workers/14399",
            404,
            "process 14399 is not a worker of any listener",
            "the closest is 14390; workers: ",
        ),
        (
            "/v1/workers/x",
            400,
            "\"x\" is not a process id",
            "a worker is named by its pid: /v1/workers/1234",
        ),
        (
            "/v1/veiw",
            404,
            "there is nothing at \"/v1/veiw\"",
            "the closest is /v1/view; there are /, /v1/view, ",
        ),
        (
            "/v1/view?bucket=1",
            400,
            "\"bucket=1\" is not understood",
            "the only query is ?buckets=1",
        ),
        (
            "/healthz?x",
            400,
            "\"x\" is not understood",
            "this path takes no query",
        ),
        (
            "/v1/listeners/%zz",
            400,
            "\"%zz\" has a % without two hexadecimal digits",
            "encode % as %25",
        ),
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let json = reply.json();
        assert_eq!(json["error"], error, "{path}");
        let found = json["hint"].as_str().unwrap();
        assert!(found.starts_with(hint), "{path}: {found}");
    }
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_answered() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    let text = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(reply(&mut stream, false).await.status, 200);
}

#[tokio::test]
async fn head_tells_the_length_and_sends_no_body() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    for path in [
        "/",
        "/v1/view",
        "/healthz",
        "/v1/listeners/:18080",
        "/nothing",
    ] {
        let get = server.get(path).await;
        let head = request(&mut stream, "HEAD", path).await;
        assert_eq!(
            (head.status, head.body.as_str()),
            (get.status, ""),
            "{path}"
        );
        if path != "/healthz" {
            assert_eq!(head.header("content-length"), get.header("content-length"));
        }
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_their_bodies_not_read() {
    let server = start(Limits::default());
    for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
        let reply = server.ask(method, "/v1/view").await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("GET, HEAD"))
        );
    }
    let mut stream = server.connect().await;
    let head = "POST /v1/view HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(reply(&mut stream, false).await.status, 405);
    closed(&mut stream).await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    for _ in 0..100 {
        assert_eq!(request(&mut stream, "GET", "/v1/view").await.status, 200);
    }
    let two = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(two).await.unwrap();
    let mut both = Vec::new();
    while !String::from_utf8_lossy(&both).contains("text/plain") {
        assert!(
            timeout(CEILING, stream.read_buf(&mut both))
                .await
                .unwrap()
                .unwrap()
                > 0
        );
    }
}

#[tokio::test]
async fn answers_follow_the_latest_view() {
    let hub = Hub::new();
    let server = start_with(hub, Limits::default());
    let early = server.get("/v1/view").await;
    assert_eq!(
        (early.status, &early.json()["error"]),
        (503, &"there is no view yet".into())
    );
    server.hub.publish(view());
    let mut stream = server.connect().await;
    let first = request(&mut stream, "GET", "/v1/listeners").await.json();
    assert_eq!(first.as_array().unwrap().len(), 7);
    let mut newer = view();
    newer.listeners.clear();
    server.hub.publish(newer);
    let second = request(&mut stream, "GET", "/v1/listeners").await;
    assert_eq!(second.body, "[]\n");
}

#[tokio::test]
async fn a_stuck_sampler_is_told() {
    let limits = Limits {
        stale: Duration::ZERO,
        ..Limits::default()
    };
    let server = start(limits);
    sleep(Duration::from_millis(2)).await;
    let reply = server.get("/v1/view").await;
    let age = reply.header("raindrops-age-ms").unwrap();
    assert!(age.parse::<u64>().unwrap() >= 2, "{age}");
    let reply = server.get("/").await;
    assert!(
        reply.body.starts_with("WARNING: figures are 0 s old"),
        "{}",
        reply.body
    );
    let verdict = &server.get("/v1/diagnosis").await.json()["verdicts"][0];
    assert_eq!(verdict["verdict"], "blind", "{verdict}");
    assert_eq!(verdict["severity"], "critical", "{verdict}");
    let reply = server.get("/healthz").await;
    assert_eq!(
        (reply.status, &reply.json()["status"]),
        (503, &"stale".into())
    );
    for path in [
        "/_raindrops",
        "/_raindrops?listener=:18080",
        "/last_data_recv",
        "/watcher/",
        "/active/127.0.0.1%3A18080.txt",
        "/queued/127.0.0.1%3A18080.html",
        "/tail/127.0.0.1%3A18080.txt",
        "/stats?token=x",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        let error = &reply.json()["error"];
        assert_eq!(error, "figures are 0 s old: the sampler hangs", "{path}");
    }
}
