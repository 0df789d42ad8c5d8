//! `bench`: what raindrops costs, side by side with what else there is.
//!
//! A plain harness: what is compared runs by turns in every round, in an order that rotates, and
//! medians and ranges are reported. Nothing here asserts a time; targets are printed next to what
//! was measured.

mod bpf;
mod child;
mod daemon;
mod http;
mod isolated;
mod load;
mod machine;
mod needs;
mod nginx;
mod observer;
mod report;
mod section;
mod statistics;
mod turns;

use std::{
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

pub use self::load::Load;
use self::{machine::Machine, report::Report, section::Section};
use crate::{process, workspace};

/// Where the whole run is written.
const DOCUMENT: &str = "docs/performance.md";

/// What raindrops costs, measured next to tcpstates, bpftrace, ss, nginx and raindrops for Ruby
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Sections to run: a b c d e f g h i j k stalls, or all
    #[arg(value_name = "SECTION", default_value = "all")]
    sections: Vec<section::Choice>,
    /// Rounds of each interleaved comparison, instead of each section's own number
    #[arg(long)]
    rounds: Option<u32>,
    /// Few and short rounds: to see that it works, not to cite
    #[arg(long)]
    quick: bool,
    /// Install nothing; what is missing is not compared with
    #[arg(long)]
    no_install: bool,
    /// Write the report here [default: docs/performance.md for a whole run, else nowhere]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What every section needs to know.
#[derive(Debug)]
struct Setting {
    /// The daemon's binary.
    raindrops: PathBuf,
    /// The program that reads listeners through the library.
    reader: PathBuf,
    rounds: Option<u32>,
    quick: bool,
}

impl Setting {
    /// One of two numbers.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn rounds(&self, full: u32, quick: u32) -> u32 {
        self.rounds.unwrap_or(self.pick(full, quick)).max(1)
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimized();
    }
    ensure!(
        workspace::is_root(),
        "bench needs root: it makes network namespaces and reads the kernel's statistics of BPF"
    );
    needs::provide(!arguments.no_install)?;
    build(&["--package", "raindrops-user", "--bins", "--examples"])?;
    let built = workspace::target_directory().join("release");
    let setting = Setting {
        raindrops: built.join("raindrops"),
        reader: built.join("examples/read_listeners"),
        rounds: arguments.rounds,
        quick: arguments.quick,
    };
    let machine = Machine::look();
    let sections = Section::chosen(&arguments.sections);
    let mut reports = Vec::new();
    for section in &sections {
        eprintln!("# {}", section.title());
        let report = section
            .run(&setting)
            .with_context(|| format!("measuring: {}", section.title()))?;
        println!("{report}");
        reports.push(report);
    }
    let whole = sections.len() == Section::ALL.len() && !setting.quick && setting.rounds.is_none();
    let output = arguments
        .output
        .clone()
        .or_else(|| whole.then(|| workspace::root().join(DOCUMENT)));
    if let Some(path) = output {
        write(&path, &document(&machine, &setting, &reports)?)?;
    }
    Ok(())
}

/// The same command by a release build of this program: it is also the load.
fn run_optimized() -> Result<()> {
    build(&["--package", "xtask"])?;
    let this = workspace::target_directory().join("release/xtask");
    let error = Command::new(&this).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot run {}", this.display()))
}

fn build(what: &[&str]) -> Result<()> {
    process::run(
        Command::new(workspace::cargo())
            .current_dir(workspace::root())
            .args(["build", "--quiet", "--release"])
            .args(what),
    )
}

fn document(machine: &Machine, setting: &Setting, reports: &[Report]) -> Result<String> {
    let mut text = String::from(
        "# Performance\n\nWritten by `cargo xtask bench`. What is compared ran by turns in the same \
         run; numbers are medians, with the least and the greatest in brackets.\n",
    );
    if setting.quick || setting.rounds.is_some() {
        text.push_str("\n**A short run, with fewer rounds than the numbers need: not to cite.**\n");
    }
    write!(text, "\n{machine}")?;
    if let Some(goals) = report::goals(reports) {
        write!(text, "\n## Targets\n\n{goals}")?;
    }
    for report in reports {
        write!(text, "\n{report}")?;
    }
    Ok(text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}
