//! `vm`: the end-to-end tests on other kernels, in virtual machines.

mod archive;
mod document;
mod guest;
mod image;
pub mod mirror;
mod packages;
mod pinned;
mod qemu;
mod report;
mod suite;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    document::Column,
    image::Image,
    pinned::Pinned,
    qemu::{Files, Machine},
    report::{Outcome, Report, Run},
    suite::Extent,
};
use crate::{debian, workspace};

/// What the machines are made with: Debian package, and a program of it.
const PROGRAMS: &[(&str, &str)] = &[
    ("binutils", "strip"),
    ("bpftool", "bpftool"),
    ("busybox-static", "busybox"),
    ("iproute2", "ss"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("xz-utils", "xz"),
];
const KEYRING: &str = "debian-archive-keyring";
/// For all tests of one machine, which is emulated.
const LIMIT: Duration = Duration::from_secs(45 * 60);
/// Of a kernel that is not known by name.
const ANY_MACHINE: &str = "-smp 2";

/// End-to-end tests on other kernels, in virtual machines
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// 5.10, 6.1, 6.12, 7.2, all, or the PATH of a vmlinuz or of an unpacked kernel package
    #[arg(long, value_name = "KERNEL", required_unless_present = "smoke")]
    kernel: Vec<String>,
    /// The most telling tests, on the oldest and the newest kernel
    #[arg(long, conflicts_with = "kernel")]
    smoke: bool,
    /// Only these ways to observe accepts
    #[arg(long, value_name = "HOOK", value_delimiter = ',')]
    hook: Vec<Hook>,
    /// Write what was measured into docs/kernels.md
    #[arg(long, conflicts_with_all = ["smoke", "filter", "hook"])]
    write: bool,
    /// Fail when docs/kernels.md says something else than what was measured
    #[arg(long, conflicts_with_all = ["smoke", "filter", "hook", "write"])]
    check: bool,
    /// Install nothing
    #[arg(long)]
    no_install: bool,
    /// `kvm` is faster where it works, which only a try can tell
    #[arg(long, default_value = "tcg", value_parser = ["tcg", "kvm"])]
    accelerator: String,
    /// Only tests whose name, with that of their suite (`kernel::programs_load`), contains this
    filter: Option<String>,
}

impl Arguments {
    /// All tests on all kernels, held against the document.
    pub fn whole_matrix() -> Self {
        Self {
            kernel: vec!["all".to_owned()],
            smoke: false,
            hook: Vec::new(),
            write: false,
            check: true,
            no_install: false,
            accelerator: "tcg".to_owned(),
            filter: None,
        }
    }
}

/// A value of `--accept-hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Auto,
    Fexit,
    Syscall,
    None,
}

impl Hook {
    const ALL: [Self; 4] = [Self::Auto, Self::Fexit, Self::Syscall, Self::None];
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fexit => "fexit",
            Self::Syscall => "syscall",
            Self::None => "none",
        })
    }
}

impl FromStr for Hook {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|hook| hook.to_string() == text);
        found.ok_or("auto, fexit, syscall or none")
    }
}

/// A kernel to run the tests on.
struct Chosen {
    name: String,
    version: String,
    image: Image,
    arguments: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let pinned = pinned::all()?;
    let names = names(arguments, &pinned);
    if (arguments.write || arguments.check) && names.len() != pinned.len() {
        bail!("docs/kernels.md is about all kernels: --kernel all");
    }
    provide(!arguments.no_install)?;
    let kernels = names.iter().map(|name| choose(name, &pinned));
    let kernels: Vec<Chosen> = kernels.collect::<Result<_>>()?;
    let extent = if arguments.smoke {
        Extent::Smoke
    } else {
        Extent::All
    };
    let hooks = if arguments.hook.is_empty() {
        &Hook::ALL[..]
    } else {
        &arguments.hook
    };
    let built = suite::build(arguments.filter.as_deref())?;
    let plan = guest::plan(&built, extent, hooks);
    ensure!(!plan.is_empty(), "no such test runs with these hooks");
    let common = guest::common(&built)?;

    let mut columns = Vec::new();
    for kernel in kernels {
        let report = test_on(&kernel, &common, &plan, &arguments.accelerator)?;
        columns.push((kernel.name, kernel.version, report));
    }
    let passed = summary(&columns);
    if arguments.write {
        document::write(&columns)?;
    }
    if arguments.check {
        document::check(&columns)?;
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Names and paths of the kernels that are asked for.
fn names(arguments: &Arguments, pinned: &[Pinned]) -> Vec<String> {
    let all = pinned.iter().map(|kernel| kernel.name.clone());
    if arguments.smoke {
        let all: Vec<String> = all.collect();
        let ends = [all.first(), all.last()];
        return ends.into_iter().flatten().cloned().collect();
    }
    if arguments.kernel.iter().any(|name| name == "all") {
        return all.collect();
    }
    arguments.kernel.clone()
}

fn provide(may_install: bool) -> Result<()> {
    if debian::is_debian() && workspace::is_root() && may_install {
        let packages: Vec<&str> = PROGRAMS.iter().map(|(package, _)| *package).collect();
        let packages = [packages.as_slice(), &[KEYRING]].concat();
        return debian::install(&debian::missing(&packages));
    }
    let missing: Vec<String> = PROGRAMS
        .iter()
        .filter(|(_, program)| workspace::program(program).is_none())
        .map(|(package, program)| format!("{program} (Debian package {package})"))
        .collect();
    if !missing.is_empty() {
        bail!("not installed: {}", missing.join(", "));
    }
    Ok(())
}

fn choose(name: &str, pinned: &[Pinned]) -> Result<Chosen> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    if let Some(pinned) = pinned.iter().find(|pinned| pinned.name == name) {
        let unpacked = packages::unpacked(pinned)?;
        return Ok(Chosen {
            name: name.to_owned(),
            version: unpacked.version,
            image: Image::find(&unpacked.directory)?,
            arguments: pinned.machine.clone(),
        });
    }
    let known: Vec<&str> = pinned.iter().map(|pinned| pinned.name.as_str()).collect();
    let image = Image::find(Path::new(name))
        .with_context(|| format!("{name} is none of {}, and no kernel", known.join(", ")))?;
    Ok(Chosen {
        name: name.to_owned(),
        version: "given by path".to_owned(),
        image,
        arguments: words(ANY_MACHINE),
    })
}

/// Runs the plan in a machine of its own.
fn test_on(
    kernel: &Chosen,
    common: &[(String, Vec<u8>)],
    plan: &[String],
    accelerator: &str,
) -> Result<Report> {
    println!(
        "\nkernel {} ({}): {} tests",
        kernel.name,
        kernel.version,
        plan.len()
    );
    let files = Files::in_directory(&directory(&kernel.name))?;
    let archive = guest::archive(common, &kernel.image, plan)?;
    fs::write(&files.archive, archive)
        .with_context(|| format!("writing {}", files.archive.display()))?;
    let machine = Machine {
        vmlinuz: &kernel.image.vmlinuz,
        arguments: &kernel.arguments,
        accelerator,
        limit: LIMIT,
    };
    let begin = Instant::now();
    let mut report = Report::default();
    let ran = qemu::run(&machine, &files, |line| {
        if let Some(run) = report.add_line(line) {
            show(run);
        }
    });
    let console = fs::read(&files.console).unwrap_or_default();
    report.add_console(&String::from_utf8_lossy(&console));
    if let Err(error) = ran {
        report.troubles.push(format!("{error:#}"));
    }
    println!(
        "kernel {}: {} s; {} and {}",
        kernel.name,
        begin.elapsed().as_secs(),
        files.console.display(),
        files.results.display()
    );
    Ok(report)
}

/// Of a machine's files, by the kernel's name or path.
fn directory(name: &str) -> PathBuf {
    let name = name.replace('/', "_");
    workspace::target_directory().join("vm").join(name)
}

fn show(run: &Run) {
    let outcome = match &run.outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed => "FAILED".to_owned(),
        Outcome::Skipped(reason) => format!("skipped: {reason}"),
    };
    println!("  {:7} {} ... {outcome}", run.hook.to_string(), run.test);
    for line in &run.output {
        println!("    | {line}");
    }
}

/// Prints what passed, by suite and hook, and what failed. Whether nothing did.
fn summary(columns: &[Column]) -> bool {
    let mut passed = true;
    for (name, version, report) in columns {
        println!(
            "\nkernel {name} ({version}, {}), {} processors",
            report.release, report.processors
        );
        for ((suite, hook), (good, ran)) in report.counts() {
            println!("  {suite:12} {:8} {good} of {ran}", hook.to_string());
        }
        for failure in report.failures() {
            println!("  FAILED {failure}");
            passed = false;
        }
    }
    passed
}
