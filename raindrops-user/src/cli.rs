//! The command line: one file per subcommand.
//!
//! Exit codes are 0 (fine), 1 (failed) and 2 (usage); `doctor` adds 3.

mod client;
mod completions;
mod doctor;
mod manual;
mod serve;
mod show;
mod slab;
mod tail;
mod terminal;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Every listening socket of this host, with its accept queue and its workers.
#[derive(Debug, Parser)]
#[command(name = "raindrops", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Show(show::Args),
    Top(top::Args),
    Doctor(doctor::Args),
    Slab(slab::Args),
    Tail(tail::Args),
    Completions(completions::Args),
    #[command(name = "man")]
    Manual(manual::Args),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// How `show` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    #[default]
    Text,
    Json,
    Openmetrics,
}

/// Runs what the command line says. A mistake in it ends the process here, with its own code.
pub fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Show(args) => show::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Slab(args) => slab::run(args),
        Command::Tail(args) => tail::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Manual(args) => manual::run(&args),
    }
}

/// The command line, for what describes it.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
