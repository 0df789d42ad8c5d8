//! The bindings' own tests, in their languages.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    skip::{Need, can_run},
    slab,
};

fn passes(program: &'static str, test: &str) -> Result<()> {
    if !can_run(&[Need::Program(program), Need::SlabLibrary]) {
        return Ok(());
    }
    let library = slab::library().context("the library is not built")?;
    let output = Command::new(program)
        .arg(slab::sources().join("bindings").join(test))
        .env(slab::LIBRARY, library)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{test}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn of_ruby() -> Result<()> {
    passes("ruby", "ruby/test.rb")
}

#[test]
fn of_python() -> Result<()> {
    passes("python3", "python/test.py")
}
