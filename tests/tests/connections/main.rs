//! Connections that are asked for one by one, held against what both ends did.

mod bounds;
mod kernel;
mod programs;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{daemon::Daemon, wait};
use raindrops_user::view::connections::Listing;

/// The answer, once there is one: after a long list the daemon reads none for a while.
fn list(daemon: &Daemon, query: &str) -> Result<Listing> {
    wait::until("a list", || {
        let answer = daemon.get(&format!("/v1/connections?{query}"))?;
        let text = answer.text()?;
        if answer.status == 503 && text.contains("ask again in ") {
            return Ok(None);
        }
        ensure!(answer.status == 200, "{query}: {} {text}", answer.status);
        let listing = serde_json::from_str(text);
        listing
            .map(Some)
            .with_context(|| format!("decoding {text}"))
    })
}
