//! Connections that are asked for one by one, held against what both ends did.

mod kernel;
mod programs;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::daemon::Daemon;
use raindrops_user::view::connections::Listing;

fn list(daemon: &Daemon, query: &str) -> Result<Listing> {
    let answer = daemon.get(&format!("/v1/connections?{query}"))?;
    let text = answer.text()?;
    ensure!(answer.status == 200, "{query}: {} {text}", answer.status);
    serde_json::from_str(text).with_context(|| format!("decoding {text}"))
}
