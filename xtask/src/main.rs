//! `cargo xtask COMMAND`: everything that is done to this repository, one file per command.

mod bench;
mod deb;
mod debian;
mod ebpf;
mod header;
mod process;
mod provide;
mod run;
mod test;
mod verify;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and tests raindrops.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Test(test::Arguments),
    Ebpf(ebpf::Arguments),
    Header(header::Arguments),
    Bench(bench::Arguments),
    Deb(deb::Arguments),
    Verify(verify::Arguments),
    Vm(vm::Arguments),
    #[command(subcommand, hide = true)]
    Load(bench::Load),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Ebpf(arguments) => ebpf::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Header(arguments) => header::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Deb(arguments) => deb::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Load(load) => load.run().map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
