//! Puma's own figures, held against what its control server says when it is asked directly.

mod control;
mod estimate;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{http, lookup::server, servers::puma::TOKEN};
use raindrops_user::view::{View, puma::Puma};
use serde_json::Value;

/// What the control server says when it is asked as an operator would.
fn stats(ask: impl FnOnce() -> Result<http::Response>) -> Result<Value> {
    let answer = ask()?;
    ensure!(answer.status == 200, "/stats answered {}", answer.status);
    serde_json::from_slice(&answer.body).context("decoding stats")
}

fn path() -> String {
    format!("/stats?token={TOKEN}")
}

/// What a view shows of the only puma.
fn puma(view: &View) -> Option<&Puma> {
    server(view, "puma").ok()?.puma.value()
}
