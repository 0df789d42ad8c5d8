//! Views one after another.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use super::{CEILING, start, start_with, view};
use crate::{publish::Hub, server::Limits};

const ASK: &[u8] = b"GET /v1/stream?interval=100ms HTTP/1.1\r\nhost: x\r\n\r\n";

async fn line(reader: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    let read = reader.read_line(&mut line);
    timeout(CEILING, read).await.unwrap().unwrap();
    line
}

/// The next view of a chunked answer.
async fn next(reader: &mut BufReader<UnixStream>) -> serde_json::Value {
    loop {
        let line = line(reader).await;
        assert!(!line.is_empty(), "the stream has ended");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

#[tokio::test]
async fn each_view_is_a_line() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    stream.write_all(ASK).await.unwrap();
    let mut reader = BufReader::new(stream);
    let first = next(&mut reader).await;
    assert_eq!(first["schema"], "raindrops.view/1");
    let mut other = view();
    other.monotonic_ns += 1;
    let began = Instant::now();
    server.hub.publish(other.clone());
    assert_eq!(next(&mut reader).await["monotonic_ns"], other.monotonic_ns);
    assert!(began.elapsed() >= Duration::from_millis(50), "no interval");
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let hub = Hub::new();
    let mut large = view();
    large.listeners = vec![large.listeners[0].clone(); 500];
    hub.publish(large.clone());
    let server = start_with(hub, limits);
    let mut deaf = server.connect().await;
    deaf.write_all(ASK).await.unwrap();
    let began = Instant::now();
    let cut_off = async {
        while !deaf
            .ready(tokio::io::Interest::READABLE)
            .await
            .unwrap()
            .is_read_closed()
        {
            server.hub.publish(large.clone());
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(CEILING, cut_off).await.unwrap();
    assert!(began.elapsed() >= limits.stall);
}

#[tokio::test]
async fn a_stop_ends_streams() {
    let mut server = start(Limits::default());
    let mut stream = server.connect().await;
    stream.write_all(ASK).await.unwrap();
    let mut reader = BufReader::new(stream);
    next(&mut reader).await;
    server.stop.take().unwrap().send(()).unwrap();
    let mut rest = Vec::new();
    let read = reader.read_to_end(&mut rest);
    timeout(CEILING, read).await.unwrap().unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    timeout(CEILING, server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn intervals_have_bounds() {
    let server = start(Limits::default());
    for (query, message) in [
        ("interval=1ms", "interval \"1ms\" is not from 100ms to 1m"),
        (
            "interval=x",
            "interval \"x\" is not a time such as 1s or 10m",
        ),
        ("interval=1s&interval=1s", "interval is given twice"),
        ("buckets=2", "\"buckets=2\" is not understood"),
    ] {
        let reply = server.get(&format!("/v1/stream?{query}")).await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.json()["error"], message);
    }
}
