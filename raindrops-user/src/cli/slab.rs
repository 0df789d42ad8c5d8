//! `raindrops slab`: counters of applications, by hand.

mod create;
mod show;
mod watch;

use std::{path::Path, process::ExitCode};

use raindrops_user::{
    config::SlabPlaces,
    ids::Monotonic,
    source::slab::Looker,
    view::{merge, slabs::Slab},
};

/// Counters that applications keep in shared memory.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(create::Args),
    Show(show::Args),
    Watch(watch::Args),
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => create::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Watch(args) => watch::run(&args),
    }
}

/// A slab file, with what its owners count.
fn read(looker: &mut Looker) -> anyhow::Result<Slab> {
    let mut snapshot = looker.look(&std::collections::BTreeMap::new());
    if let Some(refusal) = snapshot.refused.pop() {
        anyhow::bail!("{}", refusal.reason);
    }
    let slabs = merge::slabs(&snapshot, Monotonic::now());
    slabs
        .into_iter()
        .next()
        .ok_or_else(|| anyhow::anyhow!("nothing is there"))
}

/// Looks at one file and nothing else.
fn looker(path: &Path) -> Looker {
    Looker::once(SlabPlaces {
        files: vec![path.to_owned()],
        directory: None,
        inferred: false,
    })
}
