//! Counting in slabs and reading them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_slab::{Field, Layout, Reading, Schema, Shared, Slab, Slot, Unit};

use super::{Section, each, ratio, rotated};
use crate::bench::{
    Setting, build,
    child::{Answering, numbers},
    load::Load,
    report::{Goal, Report, Table},
    statistics::Sample,
};
use crate::{process, workspace};

const C: &str = include_str!("../count.c");
const RUBY: &str = include_str!("../count.rb");
/// Where the Ruby file is, and what it loads.
const BINDING: &str = "raindrops-slab/bindings/ruby";
const LIBRARY: &str = "release/libraindrops_slab.so";
/// Files that no disk has to be written for.
const MEMORY: &str = "/dev/shm";

const WORKERS: u32 = 128;
const FIELDS: u32 = 16;
/// Enough for the header of so many fields.
const HEADER: usize = 2048;

const METHOD: &str = "\
*Counting*: processes of their own add 1 to a counter, over and over, in files of `/dev/shm`: by the \
crate (`counter.add(1)` in a loop, release build), by the same in C (`cc -O2 -funroll-loops`, since \
rustc unrolls the loop too; relaxed atomics: a load and a store, or `atomic_fetch_add`), and from Ruby by our binding and by `Raindrops#incr`, which \
both include a turn of a `while` loop. Alone, one process counts; together, two at once, and the mean \
of both is taken. Each has a slot, or in C a cache line, of its own, but in the rows *one word*, and \
with `Raindrops#incr`, whose processes count in one word. *Reading*: 128 workers with 16 counters \
each, of a file and of a memfd by pread(), and of mapped memory: the header copied and decoded, \
owners, slots and owners copied, totals, and what each worker has counted itself; not whether the \
workers live, which is a look into `/proc` for each. Noise: two processes at once need both \
processors of a machine that has two.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Single,
    SingleInC,
    Shared,
    SharedInC,
    /// Two threads of one process, together only.
    SharedOneWord,
    SharedOneWordInC,
    RubyField,
    RubySlot,
    Raindrops,
}

impl Way {
    const ALL: [Self; 9] = [
        Self::Single,
        Self::SingleInC,
        Self::Shared,
        Self::SharedInC,
        Self::SharedOneWord,
        Self::SharedOneWordInC,
        Self::RubyField,
        Self::RubySlot,
        Self::Raindrops,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Single => "slab, one thread counts in the slot",
            Self::SingleInC => "C: load, add, store",
            Self::Shared => "slab, threads may share the slot",
            Self::SharedInC => "C: fetch_add",
            Self::SharedOneWord => "slab, two threads share the slot: one word",
            Self::SharedOneWordInC => "C: fetch_add by two processes, one word",
            Self::RubyField => "Ruby: RaindropsSlab, slot[:requests] kept, incr",
            Self::RubySlot => "Ruby: RaindropsSlab, slot.incr(:requests)",
            Self::Raindrops => "Ruby: Raindrops#incr",
        }
    }

    const fn is_ruby(self) -> bool {
        matches!(self, Self::RubyField | Self::RubySlot | Self::Raindrops)
    }

    const fn is_only_together(self) -> bool {
        matches!(self, Self::SharedOneWord | Self::SharedOneWordInC)
    }
}

/// Whether two count.
type Together = bool;
type Round = BTreeMap<(Way, Together), f64>;

pub fn run(setting: &Setting) -> Result<Report> {
    let mut report = Report::new(Section::Slabs.title(), METHOD);
    counting(setting, &mut report)?;
    reading(setting, &mut report)?;
    Ok(report)
}

fn counting(setting: &Setting, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(MEMORY)?;
    let mut counters = Counters::start(dir.path(), &mut report.notes)?;
    let rounds = setting.rounds(31, 3);
    let (native, ruby) = setting.pick((20_000_000, 1_000_000), (1_000_000, 50_000));
    let ways: Vec<Way> = counters.0.keys().copied().collect();
    let mut measured: Vec<Round> = Vec::new();
    for round in 0..rounds {
        let mut this = Round::new();
        for way in rotated(&ways, round) {
            let increments = if way.is_ruby() { ruby } else { native };
            for together in [false, true] {
                if together || !way.is_only_together() {
                    let nanoseconds = counters.count(way, together, increments)?;
                    this.insert((way, together), nanoseconds);
                }
            }
        }
        measured.push(this);
    }

    let mut table = Table::new(["ns per increment", "alone", "two together"]);
    for way in Way::ALL {
        let text = |together| match each(&measured, &(way, together), |it| *it) {
            Some(sample) => sample.text(2),
            None if way.is_only_together() && !together => "–".to_owned(),
            None => "not measured".to_owned(),
        };
        table.row([way.name().to_owned(), text(false), text(true)]);
    }
    report.tables.push(table);
    for (ours, theirs, most) in [
        (Way::Single, Way::SingleInC, 1.2),
        (Way::Shared, Way::SharedInC, 1.1),
    ] {
        for (together, how) in [(false, "alone"), (true, "two together")] {
            let against = ratio(&measured, &(ours, together), &(theirs, together), |it| *it);
            if let Some(against) = against {
                let what = format!("{}, {how}, against {}, ratio", ours.name(), theirs.name());
                report
                    .goals
                    .push(Goal::at_most(what, against.median(), most, ""));
            }
        }
    }
    report.notes.push(format!(
        "{rounds} rounds of {native} increments, from Ruby {ruby}, by each process."
    ));
    Ok(())
}

/// Processes that count: one or two for each way that this machine has.
struct Counters(BTreeMap<Way, Vec<Answering>>);

impl Counters {
    fn start(dir: &Path, notes: &mut Vec<String>) -> Result<Self> {
        let slab = dir.join("slab");
        let words = dir.join("words");
        Slab::create(
            &slab,
            &Schema::new("bench", 8, [Field::counter("requests", Unit::NONE)])?,
        )?;
        fs::write(&words, [0; 4096])?;
        let mut counters = BTreeMap::new();
        let slab_text = slab.to_str().context("a path that is no text")?;
        let ours = |arguments: &[&str]| -> Result<Answering> {
            Ok(Load::start(&[&["count", slab_text], arguments].concat())?.0)
        };
        counters.insert(Way::Single, vec![ours(&[])?, ours(&[])?]);
        counters.insert(
            Way::Shared,
            vec![ours(&["--shared"])?, ours(&["--shared"])?],
        );
        let threads = ours(&["--shared", "--threads", "2"])?;
        counters.insert(Way::SharedOneWord, vec![threads]);

        match compiled(dir) {
            Ok(program) => {
                let in_c = |offset: &str, how: &str| {
                    ready(Command::new(&program).arg(&words).args([offset, how]))
                };
                let pair = |offsets: [&str; 2], how: &str| -> Result<Vec<Answering>> {
                    offsets.into_iter().map(|it| in_c(it, how)).collect()
                };
                counters.insert(Way::SingleInC, pair(["0", "128"], "single")?);
                counters.insert(Way::SharedInC, pair(["256", "384"], "shared")?);
                counters.insert(Way::SharedOneWordInC, pair(["512", "512"], "shared")?);
            }
            Err(error) => notes.push(format!("Not measured: C: {error:#}.")),
        }

        let has_raindrops =
            process::output(Command::new("ruby").args(["-e", "require 'raindrops'"]));
        match has_raindrops {
            Ok(_) => {
                let theirs = || {
                    ready(
                        Command::new("ruby")
                            .args(["-e", RUBY, "raindrops"])
                            .arg(&words),
                    )
                };
                counters.insert(Way::Raindrops, vec![theirs()?, theirs()?]);
            }
            Err(error) => notes.push(format!("Not measured: Raindrops#incr: {error:#}.")),
        }
        match binding() {
            Ok((path, library)) => {
                let ours = |way| {
                    ready(
                        Command::new("ruby")
                            .arg("-I")
                            .arg(&path)
                            .args(["-e", RUBY, way])
                            .arg(&slab)
                            .env("RAINDROPS_SLAB_LIB", &library),
                    )
                };
                counters.insert(Way::RubyField, vec![ours("field")?, ours("field")?]);
                counters.insert(Way::RubySlot, vec![ours("slot")?, ours("slot")?]);
            }
            Err(error) => notes.push(format!("Not measured: the Ruby binding: {error:#}.")),
        }
        Ok(Self(counters))
    }

    /// Nanoseconds of one increment.
    fn count(&mut self, way: Way, together: Together, increments: u32) -> Result<f64> {
        let all = self.0.get_mut(&way).context("a way that is not here")?;
        let counting = if together { all.len() } else { 1 };
        let counting = &mut all[..counting];
        for counter in &mut *counting {
            counter.send(&increments.to_string())?;
        }
        let count = counting.len() as f64;
        let mut sum = 0.0;
        for counter in counting {
            let [nanoseconds] = numbers::<f64, 1>(&counter.line()?)?;
            sum += nanoseconds;
        }
        Ok(sum / count)
    }
}

fn ready(command: &mut Command) -> Result<Answering> {
    let mut counter = Answering::start(command)?;
    let line = counter.line()?;
    ensure!(line == "READY", "a counter said {line:?}");
    Ok(counter)
}

/// The program in C.
fn compiled(dir: &Path) -> Result<PathBuf> {
    let (source, program) = (dir.join("count.c"), dir.join("count"));
    fs::write(&source, C)?;
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O2", "-funroll-loops", "-o"])
        .args([&program, &source]);
    process::output(&mut compiler)?;
    Ok(program)
}

/// The Ruby file's directory, and the library that it loads.
fn binding() -> Result<(PathBuf, PathBuf)> {
    let path = workspace::root().join(BINDING);
    ensure!(
        path.join("raindrops_slab.rb").exists(),
        "{BINDING} is not there"
    );
    build(&["--package", "raindrops-slab-c"])?;
    Ok((path, workspace::target_directory().join(LIBRARY)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    File,
    Memfd,
    Mapped,
}

impl From {
    const ALL: [Self; 3] = [Self::File, Self::Memfd, Self::Mapped];

    const fn name(self) -> &'static str {
        match self {
            Self::File => "a file, by pread",
            Self::Memfd => "a memfd, by pread",
            Self::Mapped => "mapped memory",
        }
    }
}

fn reading(setting: &Setting, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(MEMORY)?;
    let path = dir.path().join("slab");
    let fields = (0..FIELDS).map(|it| Field::counter(&format!("field_{it}"), Unit::NONE));
    let schema = Schema::new("bench", WORKERS, fields)?;
    let (in_file, in_memory) = (Slab::create(&path, &schema)?, Slab::in_memory(&schema)?);
    let _workers = [workers(&in_file)?, workers(&in_memory)?];
    let file = File::open(&path)?;
    let memfd = File::from(in_memory.fd().try_clone_to_owned()?);
    let rounds = setting.rounds(51, 3);
    let readings = setting.pick(500, 20);
    let mut kept = Reading::default();
    let mut measured: Vec<BTreeMap<From, f64>> = Vec::new();
    for round in 0..rounds {
        let mut this = BTreeMap::new();
        for from in rotated(&From::ALL, round) {
            let began = Instant::now();
            for _ in 0..readings {
                match from {
                    From::File => read_file(&file, &mut kept)?,
                    From::Memfd => read_file(&memfd, &mut kept)?,
                    From::Mapped => look(in_memory.layout(), &in_memory.reading())?,
                }
            }
            let microseconds = began.elapsed().as_secs_f64() * 1e6;
            this.insert(from, microseconds / f64::from(readings));
        }
        measured.push(this);
    }
    let mut table = Table::new(["reading 128 workers × 16 counters", "µs"]);
    for from in From::ALL {
        let Some(sample): Option<Sample> = each(&measured, &from, |it| *it) else {
            continue;
        };
        table.row([from.name().to_owned(), sample.text(1)]);
        if from != From::Mapped {
            let what = format!("reading 128 workers × 16 counters of {}", from.name());
            report
                .goals
                .push(Goal::at_most(what, sample.median(), 20.0, " µs"));
        }
    }
    report.tables.push(table);
    report
        .notes
        .push(format!("{rounds} rounds of {readings} readings of each."));
    Ok(())
}

fn workers(slab: &Slab) -> Result<Vec<Slot<Shared>>> {
    let claim = |_| -> Result<Slot<Shared>> {
        let slot = slab.claim_shared()?;
        for placed in slab.layout().fields() {
            slot.counter(&placed.field.name)?.add(1);
        }
        Ok(slot)
    };
    (0..WORKERS).map(claim).collect()
}

/// As who knows nothing of the file before, but has buffers.
fn read_file(file: &File, kept: &mut Reading) -> Result<()> {
    let mut header = [0; HEADER];
    let length = file.metadata()?.len();
    let read = file.read_at(&mut header, 0)?;
    let layout = Layout::decode(&header[..read], length)?;
    kept.take(&layout, |at, to| file.read_exact_at(to, at as u64))?;
    look(&layout, kept)
}

fn look(layout: &Layout, reading: &Reading) -> Result<()> {
    let totals = reading.totals(layout, |_| true);
    let all = totals.counter("field_0");
    ensure!(all == Some(u64::from(WORKERS)), "{all:?} counted");
    for slot in reading.slots(layout).filter(|it| it.owner().is_some()) {
        for placed in layout.fields() {
            black_box(slot.own(placed));
        }
    }
    Ok(())
}
