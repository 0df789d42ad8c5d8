//! What clients may use up, and what happens to those who want more.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use super::{CEILING, closed, reply, request, start, start_with, view};
use crate::{
    publish::{Audience, Form, Hub},
    render::json::Buckets,
    server::Limits,
};

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let limits = Limits {
        header: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = start(limits);
    let began = Instant::now();
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut idle = server.connect().await;
    assert_eq!(request(&mut idle, "GET", "/").await.status, 200);
    closed(&mut slow).await;
    closed(&mut idle).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
}

/// Ends when the server has closed the connection. Does not read, which is what the server waits for.
async fn cut_off(client: &UnixStream) {
    loop {
        let ready = client.ready(Interest::READABLE).await.unwrap();
        if ready.is_read_closed() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_up() {
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let hub = Hub::new();
    let mut large = view();
    large.listeners = vec![large.listeners[0].clone(); 2_000];
    hub.publish(large);
    let server = start_with(hub, limits);
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /v1/view?buckets=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..10 {
        assert_eq!(server.get("/healthz").await.status, 200);
    }
    timeout(CEILING, cut_off(&deaf)).await.unwrap();
    let mut got = Vec::new();
    let _ = timeout(CEILING, deaf.read_to_end(&mut got)).await.unwrap();
    let whole = server.get("/v1/view?buckets=1").await.body.len();
    assert!(got.len() < whole, "{} of {whole}", got.len());
}

#[tokio::test]
async fn for_the_1001st_client_the_longest_idle_one_goes() {
    allow_descriptors();
    let server = start(Limits::default());
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        let mut stream = server.connect().await;
        assert_eq!(request(&mut stream, "GET", "/healthz").await.status, 200);
        clients.push(stream);
    }
    // Now it is the second that has been idle for the longest.
    let reply = request(&mut clients[0], "GET", "/healthz").await;
    assert_eq!(reply.status, 200);
    let mut new = server.connect().await;
    assert_eq!(request(&mut new, "GET", "/healthz").await.status, 200);
    closed(&mut clients[1]).await;
    for at in [0, 2, 999] {
        let reply = request(&mut clients[at], "GET", "/healthz").await;
        assert_eq!(reply.status, 200, "{at}");
    }
}

#[tokio::test]
async fn a_client_is_told_when_all_places_are_in_use() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let server = start(limits);
    let mut streams = Vec::new();
    for _ in 0..limits.connections {
        let mut stream = server.connect().await;
        let ask = b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        // Its head: it is being answered.
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        streams.push(stream);
    }
    let mut refused = server.connect().await;
    let reply = request(&mut refused, "GET", "/healthz").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["error"], "too many connections");
    closed(&mut refused).await;
    streams.pop();
    let freed = async {
        while server.get("/healthz").await.status != 200 {
            server.hub.publish(view());
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(CEILING, freed).await.unwrap();
}

/// Answers to which nothing is ever added do not keep their places when the clients have gone, be it
/// at once or in two steps.
#[tokio::test]
async fn who_has_gone_gives_its_place_back() {
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let server = start(limits);
    let mut streams = Vec::new();
    for path in [
        "/tail/127.0.0.1%3A18080.txt?queued_min=1000",
        "/tail/127.0.0.1%3A18080.txt?active_min=1000",
        "/v1/stream",
        "/v1/stream?interval=1m",
    ] {
        let mut stream = server.connect().await;
        let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        streams.push(stream);
    }
    assert_eq!(server.get("/healthz").await.status, 503, "all are in use");
    for (at, mut stream) in streams.into_iter().enumerate() {
        if at % 2 == 1 {
            stream.shutdown().await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    }
    let freed = async {
        // Each is one of as many places.
        let mut again: Vec<UnixStream> = Vec::new();
        while again.len() < limits.connections {
            let mut stream = server.connect().await;
            let ask = b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(ask).await.unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            if head.ends_with(b"200") {
                again.push(stream);
            } else {
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    timeout(CEILING, freed).await.unwrap();
}

/// `nc -N` says at once that it has no more to send.
#[tokio::test]
async fn who_sends_no_more_still_gets_lines() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /v1/stream?interval=100ms HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let lines = async {
        let mut bytes = Vec::new();
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("taken_at").count();
        // For longer than it takes until the server looks whether somebody is there.
        while told(&bytes) < 15 {
            server.hub.publish(view());
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
        }
    };
    timeout(CEILING, lines).await.unwrap();
}

fn allow_descriptors() {
    let limit = rustix::process::Resource::Nofile;
    let mut files = rustix::process::getrlimit(limit);
    files.current = files.maximum;
    rustix::process::setrlimit(limit, files).unwrap();
}

#[tokio::test]
async fn hostile_bytes_end_only_their_connection() {
    let server = start(Limits::default());
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 16));
    let long_listener = format!(
        "GET /v1/listeners/{} HTTP/1.1\r\nhost: x\r\n\r\n",
        "%ff".repeat(3_000)
    );
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let large_header = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(1 << 20));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/listeners/%00%ff%1b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        long_path.as_bytes(),
        long_listener.as_bytes(),
        headers.as_bytes(),
        large_header.as_bytes(),
    ] {
        let mut stream = server.connect().await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        closed(&mut stream).await;
        assert_eq!(server.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn stopping_finishes_the_answer_in_flight_and_removes_the_file() {
    let hub = Hub::new();
    let mut large = view();
    large.listeners = vec![large.listeners[0].clone(); 2_000];
    hub.publish(large);
    let mut server = start_with(hub, Limits::default());
    let whole = server.get("/v1/view").await.body.len();

    let mut idle = server.connect().await;
    assert_eq!(request(&mut idle, "GET", "/healthz").await.status, 200);
    let mut reading = server.connect().await;
    reading
        .write_all(b"GET /v1/view HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    reading.readable().await.unwrap();
    server.stop.take().unwrap().send(()).unwrap();
    closed(&mut idle).await;
    assert_eq!(reply(&mut reading, false).await.body.len(), whole);
    timeout(CEILING, &mut server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(!server.path.exists());
}

#[tokio::test]
async fn an_aborted_server_leaves_no_file() {
    let server = start(Limits::default());
    assert_eq!(server.get("/healthz").await.status, 200);
    server.task.abort();
    let _ = server.task.await;
    assert!(!server.path.exists());
}

/// Clients that take nothing, each of another document: those with the oldest go, others are answered.
#[tokio::test]
async fn answers_that_nobody_takes_are_bounded() {
    const ASKED: [(&str, Form); 4] = [
        ("/v1/view", Form::View(Buckets::Hidden, Audience::Trusted)),
        (
            "/v1/view?buckets=1",
            Form::View(Buckets::Shown, Audience::Trusted),
        ),
        ("/v1/listeners", Form::Listeners(Buckets::Hidden)),
        ("/v1/listeners?buckets=1", Form::Listeners(Buckets::Shown)),
    ];
    let hub = Hub::new();
    let mut large = view();
    large.listeners = vec![large.listeners[0].clone(); 2_000];
    hub.publish(large);
    let bytes = |form| hub.latest().unwrap().answer(form).len();
    let limits = Limits {
        unread_bytes: bytes(ASKED[2].1) + bytes(ASKED[3].1) + 1_000,
        ..Limits::default()
    };
    let server = start_with(hub, limits);
    let mut deaf = Vec::new();
    for (path, _) in ASKED {
        let mut client = server.connect().await;
        let question = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        client.write_all(question.as_bytes()).await.unwrap();
        client.ready(Interest::READABLE).await.unwrap();
        assert_eq!(server.get("/healthz").await.status, 200);
        deaf.push(client);
    }
    let mut are_cut_off = Vec::new();
    for client in &deaf {
        let within = timeout(Duration::from_millis(500), cut_off(client));
        are_cut_off.push(within.await.is_ok());
    }
    assert_eq!(are_cut_off, [true, true, false, false]);
}
