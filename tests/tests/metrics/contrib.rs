//! Rules, alerts and dashboard: their names are those of the catalogue, and promtool takes them.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    prometheus::contrib,
    skip::{Need, can_run},
};
use raindrops_user::render::openmetrics::families;

const FILES: [&str; 5] = [
    "prometheus/raindrops.rules.yml",
    "prometheus/raindrops.alerts.yml",
    "prometheus/raindrops.tests.yml",
    "prometheus/scrape.yml",
    "grafana/raindrops.json",
];

/// Check that each name of a metric in contrib/ exists, and each that a rule records.
#[test]
fn names_are_those_of_the_catalogue() -> Result<()> {
    let mut known: BTreeSet<String> = families().flat_map(|family| family.lines()).collect();
    let rules = fs::read_to_string(contrib().join(FILES[0]))?;
    let recorded = rules.lines().filter_map(|line| line.split_once("record: "));
    known.extend(recorded.map(|(_, name)| name.trim().to_owned()));
    for file in FILES {
        let text = fs::read_to_string(contrib().join(file)).with_context(|| file.to_owned())?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        for word in text.split(|c| !is_part(c)) {
            let word = word.trim_matches(':');
            if word.contains("raindrops_") {
                assert!(known.contains(word), "{file}: {word}");
            }
        }
    }
    let dashboard = fs::read(contrib().join(FILES[4]))?;
    serde_json::from_slice::<serde_json::Value>(&dashboard)?;
    Ok(())
}

/// Check rules, their unit tests and the example configuration by Prometheus's own tool.
#[test]
fn promtool_takes_them() -> Result<()> {
    if !can_run(&[Need::Program("promtool")]) {
        return Ok(());
    }
    for arguments in [
        ["check", "rules", "raindrops.rules.yml"],
        ["check", "rules", "raindrops.alerts.yml"],
        ["check", "config", "scrape.yml"],
        ["test", "rules", "raindrops.tests.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(contrib().join("prometheus"))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {text}{error}");
    }
    Ok(())
}
