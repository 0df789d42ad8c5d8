//! Connections that are asked for one by one, held against what both ends did.

mod bounds;
mod kernel;
mod programs;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{daemon::Daemon, description::expect_described, wait};
use raindrops_user::view::connections::Listing;

/// The answer, as it is described.
fn list(daemon: &Daemon, query: &str) -> Result<Listing> {
    let text = answer(daemon, query)?;
    expect_described(daemon, "/v1/connections", &text)?;
    decoded(&text)
}

/// Thousands, which would take longer to hold against their description than to list.
fn long_list(daemon: &Daemon, query: &str) -> Result<Listing> {
    decoded(&answer(daemon, query)?)
}

fn decoded(text: &str) -> Result<Listing> {
    serde_json::from_str(text).with_context(|| format!("decoding {text}"))
}

/// The answer, once there is one: after a long list the daemon reads none for a while.
fn answer(daemon: &Daemon, query: &str) -> Result<String> {
    wait::until("a list", || {
        let answer = daemon.get(&format!("/v1/connections?{query}"))?;
        let text = answer.text()?;
        if answer.status == 503 && text.contains("ask again in ") {
            return Ok(None);
        }
        ensure!(answer.status == 200, "{query}: {} {text}", answer.status);
        Ok(Some(text.to_owned()))
    })
}
