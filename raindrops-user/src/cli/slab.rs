//! `raindrops slab`: counters of applications, by hand.

mod create;

use std::process::ExitCode;

/// Counters that applications keep in shared memory.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(create::Args),
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => create::run(&args),
    }
}
