//! What a control server answered, understood: puma 5 to 8, alone or as a cluster.
//!
//! Whoever listens at that address may answer anything. What has not the form that puma gives it is
//! left out; nothing of it gets into an error, because it may repeat the token.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::PumaError;
use crate::{
    ids::Pid,
    snapshot::puma::{PumaCluster, PumaClusterWorker, PumaPool, PumaSingle, PumaStats},
};

/// Characters of a time that is kept as it is written.
const LONGEST_TIME: usize = 40;

/// From the whole answer.
pub(super) fn parse(answer: &[u8]) -> Result<PumaStats, PumaError> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or(PumaError::NotPuma)?);
    match status(head).ok_or(PumaError::NotPuma)? {
        200 => stats(&body[4..]).ok_or(PumaError::NotPuma),
        403 => Err(PumaError::WrongToken),
        404 => Err(PumaError::NoStats),
        status => Err(PumaError::Status(status)),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|&byte| byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let status = std::str::from_utf8(rest).ok()?.split(' ').nth(1)?;
    status
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status))
}

fn stats(body: &[u8]) -> Option<PumaStats> {
    let Value::Object(stats) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    if let Some(Value::Array(workers)) = stats.get("worker_status") {
        return Some(PumaStats::Cluster(PumaCluster {
            started_at: time(&stats, "started_at"),
            phase: number(&stats, "phase"),
            booted_workers: number(&stats, "booted_workers"),
            old_workers: number(&stats, "old_workers"),
            workers: workers.iter().filter_map(worker).collect(),
        }));
    }
    let pool = pool(&stats);
    let single = PumaSingle {
        started_at: time(&stats, "started_at"),
        pool,
    };
    (pool.running.is_some() || pool.max_threads.is_some()).then_some(PumaStats::Single(single))
}

fn worker(worker: &Value) -> Option<PumaClusterWorker> {
    let worker = worker.as_object()?;
    let checked_in = worker.get("last_checkin").and_then(Value::as_str);
    let checked_in = checked_in.filter(|text| text.len() <= LONGEST_TIME);
    let id = |key| number(worker, key).and_then(|number| u32::try_from(number).ok());
    Some(PumaClusterWorker {
        pid: id("pid").map(Pid),
        index: id("index"),
        phase: number(worker, "phase"),
        booted: worker.get("booted").and_then(Value::as_bool),
        started_at: time(worker, "started_at"),
        last_checkin: time(worker, "last_checkin")
            .and(checked_in)
            .map(str::to_owned),
        // Empty before its first report.
        pool: worker
            .get("last_status")
            .and_then(Value::as_object)
            .map(pool)
            .unwrap_or_default(),
    })
}

fn pool(status: &Map<String, Value>) -> PumaPool {
    let backlog = number(status, "backlog");
    let pool_capacity = number(status, "pool_capacity");
    let max_threads = number(status, "max_threads");
    PumaPool {
        backlog,
        running: number(status, "running"),
        busy_threads: number(status, "busy_threads")
            .or_else(|| busy_threads(max_threads?, pool_capacity?, backlog?)),
        pool_capacity,
        max_threads,
        requests_count: number(status, "requests_count"),
    }
}

/// What puma counts so and tells since 6.6: threads, less those that wait, and the backlog. Its
/// capacity is the threads that wait and those that it has not made yet.
fn busy_threads(max: u64, capacity: u64, backlog: u64) -> Option<u64> {
    max.checked_sub(capacity)?.checked_add(backlog)
}

fn time(object: &Map<String, Value>, key: &str) -> Option<SystemTime> {
    let text = object.get(key).and_then(Value::as_str)?;
    humantime::parse_rfc3339(text).ok()
}

fn number(object: &Map<String, Value>, key: &str) -> Option<u64> {
    object.get(key).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests;
