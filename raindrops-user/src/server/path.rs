//! Request targets in parts: percent-decoding, and the few queries that are understood.
//!
//! Bytes of a client, so nothing here may fail other than by saying what is wrong.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    history,
    ids::Pid,
    render::json::Buckets,
    view::connections::{SCANNED, USUAL_LIMIT},
};

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const PAST: RangeInclusive<Duration> = history::STEP..=history::LONGEST_REACH;
const STEPS: RangeInclusive<Duration> = history::STEP..=Duration::from_secs(3600);

/// Text of a percent-encoded part; what is not UTF-8 stays as `\xHH`, as the view prints it.
pub fn decoded(part: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(format!("{part:?} has a % without two hexadecimal digits"));
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => crate::escape::escaped(error.as_bytes()),
    })
}

/// `buckets=1` or `buckets=0`, once.
pub fn buckets(query: Option<&str>) -> Result<Buckets, String> {
    let mut buckets = None;
    for pair in pairs(query) {
        let value = match pair {
            "buckets=1" => Buckets::Shown,
            "buckets=0" => Buckets::Hidden,
            other => return Err(format!("{other:?} is not understood")),
        };
        if buckets.replace(value).is_some() {
            return Err("buckets is given twice".to_owned());
        }
    }
    Ok(buckets.unwrap_or(Buckets::Hidden))
}

/// Query of `/v1/connections`.
#[derive(Debug, PartialEq, Eq)]
pub struct WhichConnections {
    /// As typed; all where there is none.
    pub listeners: Vec<String>,
    pub worker: Option<Pid>,
    pub limit: usize,
}

/// Any number of `listener=LISTENER`, `worker=PID` and `limit=COUNT` once. A part without a value is
/// as good as none.
pub fn which_connections(query: Option<&str>) -> Result<WhichConnections, String> {
    let (mut listeners, mut worker, mut limit) = (Vec::new(), None, None);
    for pair in pairs(query) {
        let not_understood = || format!("{pair:?} is not understood");
        let (name, value) = pair.split_once('=').ok_or_else(not_understood)?;
        let value = decoded(value)?;
        let is_again = match name {
            "listener" | "worker" | "limit" if value.is_empty() => false,
            "listener" => {
                listeners.push(value);
                false
            }
            "worker" => {
                let pid = value.parse().ok().filter(|pid| *pid > 0);
                let pid = pid.ok_or_else(|| format!("{value:?} is not a process id"))?;
                worker.replace(Pid(pid)).is_some()
            }
            "limit" => {
                let count = value.parse().ok().filter(|it| (1..=SCANNED).contains(it));
                let count = count.ok_or_else(|| {
                    format!("limit {value:?} is not a number from 1 to {SCANNED}")
                })?;
                limit.replace(count).is_some()
            }
            _ => return Err(not_understood()),
        };
        if is_again {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(WhichConnections {
        listeners,
        worker,
        limit: limit.unwrap_or(USUAL_LIMIT),
    })
}

/// Query of `/v1/history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhichPast {
    /// All there is where it is not said.
    pub since: Option<Duration>,
    pub step: Duration,
    /// As typed; all where there is none.
    pub listeners: Vec<String>,
}

/// `since=TIME` and `step=TIME` once, any number of `listener=LISTENER`.
pub fn which_past(query: Option<&str>) -> Result<WhichPast, String> {
    let (mut since, mut step, mut listeners) = (None, None, Vec::new());
    for pair in pairs(query) {
        let not_understood = || format!("{pair:?} is not understood");
        let (name, value) = pair.split_once('=').ok_or_else(not_understood)?;
        let value = decoded(value)?;
        let is_again = match name {
            "listener" | "since" | "step" if value.is_empty() => false,
            "listener" => {
                listeners.push(value);
                false
            }
            "since" => since.replace(span(name, &value, PAST)?).is_some(),
            "step" => step.replace(span(name, &value, STEPS)?).is_some(),
            _ => return Err(not_understood()),
        };
        if is_again {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(WhichPast {
        since,
        step: step.unwrap_or(history::STEP),
        listeners,
    })
}

/// Query of `/v1/stream`: `interval=TIME` and `buckets=1` once.
pub fn stream(query: Option<&str>) -> Result<(Buckets, Duration), String> {
    let mut interval = None;
    let mut rest = Vec::new();
    for pair in pairs(query) {
        let Some(value) = pair.strip_prefix("interval=") else {
            rest.push(pair);
            continue;
        };
        let value = span("interval", &decoded(value)?, INTERVALS)?;
        if interval.replace(value).is_some() {
            return Err("interval is given twice".to_owned());
        }
    }
    Ok((
        buckets(Some(&rest.join("&")))?,
        interval.unwrap_or(Duration::from_secs(1)),
    ))
}

/// A time within bounds, as people write it: `1500ms`, `10m`.
fn span(name: &str, text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let span = humantime::parse_duration(text)
        .map_err(|_| format!("{name} {text:?} is not a time such as 1s or 10m"))?;
    if bounds.contains(&span) {
        return Ok(span);
    }
    let (least, most) = bounds.into_inner();
    Err(format!(
        "{name} {text:?} is not from {} to {}",
        humantime::format_duration(least),
        humantime::format_duration(most)
    ))
}

/// Any number of `listener=LISTENER` and nothing else.
pub fn only_listeners(query: Option<&str>) -> Result<Vec<String>, String> {
    let mut listeners = Vec::new();
    for pair in pairs(query) {
        match pair.strip_prefix("listener=") {
            Some("") => {}
            Some(value) => listeners.push(decoded(value)?),
            None => return Err(format!("{pair:?} is not understood")),
        }
    }
    Ok(listeners)
}

pub fn no_query(query: Option<&str>) -> Result<(), String> {
    match pairs(query).next() {
        None => Ok(()),
        Some(pair) => Err(format!("{pair:?} is not understood")),
    }
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Buckets, WhichConnections, buckets, decoded, no_query, which_connections};
    use crate::ids::Pid;

    #[test]
    fn parts_are_decoded() {
        for (part, text) in [
            ("/run/app.sock", "/run/app.sock"),
            ("%2Frun%2fapp.sock", "/run/app.sock"),
            ("[::]:80", "[::]:80"),
            ("%5B%3A%3A%5D%3A80", "[::]:80"),
            ("%C3%A9", "é"),
            ("%ff%01", "\\xff\\x01"),
            ("", ""),
        ] {
            assert_eq!(decoded(part).as_deref(), Ok(text), "{part}");
        }
        for part in ["%", "a%4", "%zz", "%é"] {
            assert!(decoded(part).is_err(), "{part}");
        }
    }

    #[test]
    fn queries_are_understood_or_refused() {
        for (query, result) in [
            (None, Ok(Buckets::Hidden)),
            (Some(""), Ok(Buckets::Hidden)),
            (Some("buckets=0"), Ok(Buckets::Hidden)),
            (Some("buckets=1"), Ok(Buckets::Shown)),
            (Some("buckets=2"), Err("\"buckets=2\" is not understood")),
            (Some("bucket=1"), Err("\"bucket=1\" is not understood")),
            (Some("buckets=1&buckets=1"), Err("buckets is given twice")),
        ] {
            assert_eq!(buckets(query), result.map_err(str::to_owned), "{query:?}");
        }
        assert_eq!(no_query(None), Ok(()));
        assert!(no_query(Some("x=1")).is_err());
    }

    #[test]
    fn connections_are_asked_for_by_listener_and_worker() {
        let which = |listeners: &[&str], worker, limit| {
            Ok(WhichConnections {
                listeners: listeners.iter().map(|it| (*it).to_owned()).collect(),
                worker,
                limit,
            })
        };
        let wrong = |what: &str| Err(what.to_owned());
        for (query, result) in [
            (None, which(&[], None, 100)),
            (Some("listener=&worker=&limit="), which(&[], None, 100)),
            (
                Some("listener=:80&listener=%2Frun%2Fa%26b&worker=14&limit=4096"),
                which(&[":80", "/run/a&b"], Some(Pid(14)), 4096),
            ),
            (
                Some("limit=0"),
                wrong("limit \"0\" is not a number from 1 to 4096"),
            ),
            (
                Some("limit=4097"),
                wrong("limit \"4097\" is not a number from 1 to 4096"),
            ),
            (
                Some("limit=-1"),
                wrong("limit \"-1\" is not a number from 1 to 4096"),
            ),
            (Some("limit=1&limit=1"), wrong("limit is given twice")),
            (Some("worker=0"), wrong("\"0\" is not a process id")),
            (Some("worker=x"), wrong("\"x\" is not a process id")),
            (Some("worker=1&worker=2"), wrong("worker is given twice")),
            (
                Some("listeners=:80"),
                wrong("\"listeners=:80\" is not understood"),
            ),
            (Some(":80"), wrong("\":80\" is not understood")),
            (
                Some("listener=%"),
                wrong("\"%\" has a % without two hexadecimal digits"),
            ),
        ] {
            assert_eq!(which_connections(query), result, "{query:?}");
        }
    }
}
