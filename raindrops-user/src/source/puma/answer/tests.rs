use super::*;

fn answered(body: &str) -> Result<PumaStats, String> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    parse(answer.as_bytes()).map_err(|error| error.to_string())
}

/// Backlog, running, busy_threads, pool_capacity, max_threads, requests_count.
fn figures(figures: [u64; 6]) -> PumaPool {
    let [
        backlog,
        running,
        busy_threads,
        pool_capacity,
        max_threads,
        requests_count,
    ] = figures.map(Some);
    PumaPool {
        backlog,
        running,
        busy_threads,
        pool_capacity,
        max_threads,
        requests_count,
    }
}

fn at(time: &str) -> Option<SystemTime> {
    Some(humantime::parse_rfc3339(time).unwrap())
}

/// puma 5.6.5, as it answered with nine clients asking for `/sleep`.
const SINGLE: &str = r#"{"started_at":"2026-11-22T00:59:27Z","backlog":1,"running":5,"pool_capacity":0,"max_threads":5,"requests_count":5}"#;

/// puma 5.6.5; the second worker has not reported yet.
const CLUSTER: &str = r#"{"started_at":"2026-11-22T00:58:50Z","workers":2,"phase":1,"booted_workers":1,"old_workers":0,"worker_status":[
{"started_at":"2026-11-22T00:58:50Z","pid":14387,"index":0,"phase":1,"booted":true,"last_checkin":"2026-11-22T00:58:55Z","last_status":{"backlog":0,"running":1,"pool_capacity":4,"max_threads":4,"requests_count":2}},
{"started_at":"2026-11-22T00:58:50Z","pid":14390,"index":1,"phase":1,"booted":false,"last_checkin":"2026-11-22T00:58:50Z","last_status":{}}]}"#;

/// puma 8.0.2.
const LATER: &str = r#"{"started_at":"2026-11-22T00:58:50Z","workers":1,"phase":0,"booted_workers":1,"old_workers":0,"worker_status":[
{"started_at":"2026-11-22T00:58:50Z","pid":30235,"index":0,"phase":0,"booted":true,"last_checkin":"2026-11-22T00:58:55Z","last_status":
{"backlog":0,"running":3,"pool_capacity":1,"busy_threads":3,"io_threads":0,"backlog_max":2,"max_threads":4,"requests_count":4,"reactor_max":2}}],
"versions":{"puma":"8.0.2","ruby":{"engine":"ruby","version":"3.1.2","patchlevel":20}}}"#;

#[test]
fn a_single_server_is_one_pool() {
    let expected = PumaStats::Single(PumaSingle {
        started_at: at("2026-11-22T00:59:27Z"),
        pool: figures([1, 5, 6, 0, 5, 5]),
    });
    assert_eq!(answered(SINGLE), Ok(expected));
}

#[test]
fn a_cluster_is_its_workers() {
    let worker = |pid, index, booted, time: &str, pool| PumaClusterWorker {
        pid: Some(Pid(pid)),
        index: Some(index),
        phase: Some(1),
        booted: Some(booted),
        started_at: at("2026-11-22T00:58:50Z"),
        last_checkin: Some(time.to_owned()),
        pool,
    };
    let expected = PumaCluster {
        started_at: at("2026-11-22T00:58:50Z"),
        phase: Some(1),
        booted_workers: Some(1),
        old_workers: Some(0),
        workers: vec![
            worker(
                14387,
                0,
                true,
                "2026-11-22T00:58:55Z",
                figures([0, 1, 0, 4, 4, 2]),
            ),
            worker(14390, 1, false, "2026-11-22T00:58:50Z", PumaPool::default()),
        ],
    };
    assert_eq!(answered(CLUSTER), Ok(PumaStats::Cluster(expected)));
}

#[test]
fn later_versions_tell_more_and_no_less() {
    let Ok(PumaStats::Cluster(cluster)) = answered(LATER) else {
        panic!("no cluster");
    };
    let pools: Vec<PumaPool> = cluster.workers.iter().map(|worker| worker.pool).collect();
    assert_eq!(pools, [figures([0, 3, 3, 1, 4, 4])]);
}

/// Check that what puma would not say is left out, and the rest is kept.
#[test]
fn figures_of_another_form_are_left_out() {
    let running = Some(1);
    let only_running = PumaPool {
        running,
        ..PumaPool::default()
    };
    for wrong in [
        "-1",
        "1.5",
        "1e3",
        "18446744073709551616",
        "\"7\"",
        "null",
        "true",
        "[1]",
        "{}",
    ] {
        let single = format!(
            r#"{{"started_at":{wrong},"running":1,"backlog":{wrong},"requests_count":{wrong}}}"#
        );
        let expected = PumaStats::Single(PumaSingle {
            started_at: None,
            pool: only_running,
        });
        assert_eq!(answered(&single), Ok(expected), "{wrong}");

        let cluster = format!(
            r#"{{"started_at":{wrong},"phase":{wrong},"old_workers":{wrong},"worker_status":[{wrong},{{"pid":{wrong},
                "index":{wrong},"phase":{wrong},"started_at":{wrong},"last_checkin":{wrong},"last_status":{wrong}}},
                {{"last_status":{{"running":1,"backlog":{wrong}}}}}]}}"#
        );
        let Ok(PumaStats::Cluster(cluster)) = answered(&cluster) else {
            panic!("no cluster: {wrong}");
        };
        let of_all = (cluster.started_at, cluster.phase, cluster.old_workers);
        assert_eq!(of_all, (None, None, None));
        let last = cluster.workers.last().map(|worker| worker.pool);
        assert_eq!(last, Some(only_running), "{wrong}");
        for worker in &cluster.workers {
            let known = (worker.pid, worker.index, worker.phase);
            assert_eq!(known, (None, None, None), "{wrong}");
            let times = (worker.started_at, &worker.last_checkin);
            assert_eq!(times, (None, &None), "{wrong}");
        }
    }
    let largest = r#"{"running":18446744073709551615,"backlog":18446744073709551615,
                      "max_threads":1,"pool_capacity":2}"#;
    let Ok(PumaStats::Single(PumaSingle { pool, .. })) = answered(largest) else {
        panic!("no pool");
    };
    assert_eq!(pool.running, Some(u64::MAX));
    assert_eq!(pool.busy_threads, None, "it has more room than it is large");
    let cluster = r#"{"worker_status":[{"pid":4294967296,"index":4294967296,"booted":"true",
                      "last_checkin":"\u001b[31mnow"}]}"#;
    let expected = PumaCluster {
        workers: vec![PumaClusterWorker::default()],
        ..PumaCluster::default()
    };
    assert_eq!(answered(cluster), Ok(PumaStats::Cluster(expected)));
}

/// Check that an answer which is not puma's is an error that repeats nothing of it.
#[test]
fn what_is_not_pumas_is_an_error() {
    let nested = format!("HTTP/1.0 200 OK\r\n\r\n{}", "[".repeat(60_000));
    let not_pumas = "what it answers is not puma's";
    for (answer, error) in [
        ("", not_pumas),
        ("s3cret", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\n", not_pumas),
        ("HTTP/1.0 200 OK\r\n{\"running\":1}", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\ns3cret", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\n{\"s3cret\":1}", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\n{\"running\":\"s3cret\"}", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\n{\"running\":1} s3cret", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\n[{\"running\":1}]", not_pumas),
        ("HTTP/1.0 200 OK\r\n\r\n{ \"status\": \"ok\" }", not_pumas),
        (&nested, not_pumas),
        ("HTTP/1.0\r\n\r\n", not_pumas),
        ("HTTP/1.0 2x0 OK\r\n\r\n{\"running\":1}", not_pumas),
        ("HTTP/1.0 65535 s3cret\r\n\r\n", not_pumas),
        ("SSH-2.0-s3cret\r\n\r\n", not_pumas),
        (
            "HTTP/1.0 403 Forbidden\r\n\r\nInvalid auth token",
            "it refuses the token (403)",
        ),
        (
            "HTTP/1.0 404 Not Found\r\n\r\nUnsupported action",
            "it has no command stats (404)",
        ),
        (
            "HTTP/1.1 500 s3cret\r\nX: s3cret\r\n\r\ns3cret",
            "it answers with status 500",
        ),
    ] {
        let found = parse(answer.as_bytes()).unwrap_err().off();
        assert_eq!(found.reason, error, "{answer}");
    }
    let bytes = b"HTTP/1.0 200 OK\r\n\r\n{\"running\":1,\"x\":\"\xff\"}";
    assert!(parse(bytes).is_err());
}
