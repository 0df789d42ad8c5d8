//! Answers of a daemon, held against its own description of them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::daemon::Daemon;

/// Fails where a good answer of a path has another shape than the daemon says.
pub fn expect_described(daemon: &Daemon, path: &str, answer: &str) -> Result<()> {
    let description: Value = serde_json::from_slice(&daemon.get("/openapi.json")?.body)?;
    let good = &description["paths"][path]["get"]["responses"]["200"]["content"];
    let mut schema = good["application/json"]["schema"].clone();
    ensure!(schema.is_object(), "{path} is not described");
    schema["components"] = description["components"].clone();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .with_context(|| format!("the description of {path}"))?;
    let answer: Value = serde_json::from_str(answer)?;
    let errors: Vec<String> = validator
        .iter_errors(&answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .take(10)
        .collect();
    ensure!(errors.is_empty(), "{path}: {errors:#?}");
    Ok(())
}
