//! Programs of cargo's that are not part of it.

use std::process::Command;

use anyhow::Result;

use crate::{process, workspace};

/// Installs one where it is missing.
pub fn cargo_program(program: &str) -> Result<()> {
    if workspace::program(program).is_none() {
        process::run(Command::new(workspace::cargo()).args(["install", "--locked", program]))?;
    }
    Ok(())
}
