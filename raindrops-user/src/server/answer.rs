//! Responses: status, type and body, and the one shape that errors have.

use std::time::Duration;

use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Serialize;

use crate::{publish::rendered, render::json, view::durations::millis};

pub type Answer = Response<Bytes>;

/// Age in milliseconds of the view that an answer is made of.
pub const AGE_MS: HeaderName = HeaderName::from_static("raindrops-age-ms");
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// A JSON value on each line.
pub const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
pub const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
pub const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The length is set here so that HEAD tells it too.
pub fn answer(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The head of a stream.
pub fn lines() -> Response<()> {
    let mut answer = Response::new(());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, LINES);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub fn ok(kind: HeaderValue, body: Bytes) -> Answer {
    answer(StatusCode::OK, kind, body)
}

/// The answer, with the age of what it is made of. A header, because bodies are shared.
pub fn of_age(mut answer: Answer, age: Duration) -> Answer {
    let age = HeaderValue::from(millis(age));
    answer.headers_mut().insert(AGE_MS, age);
    answer
}

/// A value that is rendered for this request alone.
pub fn value(status: StatusCode, value: &impl Serialize) -> Answer {
    answer(status, JSON, rendered(|out| json::write(value, out)))
}

#[derive(Serialize)]
struct Error<'a> {
    error: &'a str,
    hint: &'a str,
}

pub fn error(status: StatusCode, error: &str, hint: &str) -> Answer {
    value(status, &Error { error, hint })
}

/// `possible`: the methods, as a header says it.
pub fn not_allowed(method: &str, possible: &'static str) -> Answer {
    let mut answer = error(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} is not possible here"),
        &format!("use {}", possible.replace(", ", " or ")),
    );
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(possible));
    answer
}
