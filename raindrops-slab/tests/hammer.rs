//! Two processes of eight threads count in one slab for ten seconds, while readers read and the
//! processes are killed at random moments and replaced. No increment that has returned is lost, none
//! is counted twice, and nobody's figures are taken for another's.

use std::{
    env,
    error::Error,
    fs::File,
    os::unix::{fs::FileExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use raindrops_slab::{
    Field, Layout, Reading, Schema, Slab, Totals, Unit, claim::Occupant, process, read::Value,
};

use crate::log::{Log, Rounds, THREADS};

#[path = "hammer/log.rs"]
mod log;
#[path = "hammer/worker.rs"]
mod worker;

const LASTS: Duration = Duration::from_secs(10);
const PROCESSES: usize = 2;
/// Two more than two processes need, so that the slots of the dead are wanted at once.
const SLOTS: usize = PROCESSES * worker::SLOTS + 2;

/// Tells a process of this test that it is a worker, in which directory and of which number.
const WORKER: &str = "RAINDROPS_SLAB_HAMMER_WORKER";

/// What the other test starts; alone it does nothing.
#[test]
fn worker() -> Result<(), Box<dyn Error>> {
    match (
        env::var_os(WORKER),
        env::var("RAINDROPS_SLAB_HAMMER_NUMBER"),
    ) {
        (Some(dir), Ok(number)) => worker::run(Path::new(&dir), number.parse()?),
        _ => Ok(()),
    }
}

#[test]
fn totals_are_exact_to_the_last_increment_that_returned() -> Result<(), Box<dyn Error>> {
    if env::var_os(WORKER).is_some() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let slab = Slab::create(&dir.path().join("slab"), &schema())?;
    let log = Log::create(&dir.path().join("log"))?;
    // Workers that may have counted.
    let started = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let mut random = Random::new();
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let file = File::open(dir.path().join("slab"))?;
        let readers: [Box<dyn Fn() -> Reading + Send>; 2] = [
            Box::new(|| slab.reading()),
            Box::new(move || read_file(&file, slab_layout(&file))),
        ];
        let readers = readers
            .map(|reader| scope.spawn(|| read_until(&is_over, &slab, log, &started, reader)));
        let hammered = hammer(dir.path(), log, &started, &mut random);
        is_over.store(true, Ordering::Release);
        for reader in readers {
            let readings = reader.join().expect("readers do not panic");
            assert!(readings > 10, "only {readings} readings");
        }
        hammered
    })?;
    let workers = started.load(Ordering::Acquire);
    let bounds = Bounds::of(log.all(workers));
    for rounds in log.all(workers) {
        let in_flight = rounds.begun - rounds.returned;
        assert!(in_flight <= 1, "{rounds:?}");
    }
    let totals = slab.totals();
    bounds.check(&totals);
    assert_eq!(totals.gauge("calling"), Some(0), "all have ended");

    // What they have left is another's, and nothing changes by it.
    let heirs: Result<Vec<_>, _> = (0..SLOTS).map(|_| slab.claim_shared()).collect();
    let heirs = heirs?;
    assert_eq!(slab.totals(), totals);
    for slot in slab.reading().slots(slab.layout()) {
        assert_eq!(own_counter(slab.layout(), &slot), 0);
    }
    drop(heirs);
    let least = workers as u64 * 100;
    assert!(bounds.returned > least, "{bounds:?} by {workers} workers");
    println!("{workers} workers; {bounds:?}");
    Ok(())
}

fn schema() -> Schema {
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::max("highest", Unit::NONE),
        Field::histogram("answer", Unit::NONE, 100),
    ];
    Schema::new("hammered", SLOTS as u32, fields).expect("a schema")
}

/// Starts workers, ends them at random, and starts others in their place.
fn hammer(
    dir: &Path,
    log: Log,
    started: &AtomicUsize,
    random: &mut Random,
) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + LASTS;
    let mut seats: [Option<Seat>; PROCESSES] = Default::default();
    while Instant::now() < end {
        for seat in &mut seats {
            match seat {
                None => *seat = Some(Seat::fill(dir, started, random)?),
                Some(taken) if taken.until < Instant::now() => {
                    seat.take().expect("it is taken").clear(log, random)?;
                }
                Some(taken) => {
                    let ended = taken.child.try_wait()?;
                    assert!(ended.is_none(), "a worker has ended by itself: {ended:?}");
                }
            }
        }
        thread::sleep(Duration::from_micros(300));
    }
    for seat in seats.into_iter().flatten() {
        seat.clear(log, random)?;
    }
    Ok(())
}

struct Seat {
    child: Child,
    worker: usize,
    until: Instant,
}

impl Seat {
    fn fill(
        dir: &Path,
        started: &AtomicUsize,
        random: &mut Random,
    ) -> Result<Self, Box<dyn Error>> {
        let worker = started.fetch_add(1, Ordering::AcqRel);
        let child = Command::new(env::current_exe()?)
            .args(["--exact", "worker", "--test-threads", "1"])
            .env(WORKER, dir)
            .env("RAINDROPS_SLAB_HAMMER_NUMBER", worker.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        // Some die while they claim.
        let longest = if random.below(3) == 0 { 8_000 } else { 150_000 };
        let until = Instant::now() + Duration::from_micros(random.below(longest));
        Ok(Self {
            child,
            worker,
            until,
        })
    }

    /// Most are killed; some leave.
    fn clear(mut self, log: Log, random: &mut Random) -> Result<(), Box<dyn Error>> {
        if random.below(5) == 0 {
            log.stop(self.worker).store(1, Ordering::SeqCst);
            let status = self.child.wait()?;
            assert!(status.success(), "worker {}: {status}", self.worker);
        } else {
            self.child.kill()?;
            let status = self.child.wait()?;
            assert_eq!(status.signal(), Some(9), "worker {}: {status}", self.worker);
        }
        Ok(())
    }
}

/// Reads all the time. How often.
fn read_until(
    is_over: &AtomicBool,
    slab: &Slab,
    log: Log,
    started: &AtomicUsize,
    read: impl Fn() -> Reading,
) -> u64 {
    let layout = slab.layout();
    let mut seen = Bounds::default();
    let mut readings = 0;
    while !is_over.load(Ordering::Acquire) {
        let returned = Bounds::of(log.all(started.load(Ordering::Acquire)));
        let reading = read();
        let totals = reading.totals(layout, |owner| !process::is_dead(Occupant::Owner(owner)));
        let begun = Bounds::of(log.all(started.load(Ordering::Acquire)));
        let bounds = Bounds {
            returned: seen.returned.max(returned.returned),
            answered: seen.answered.max(returned.answered),
            sum_returned: seen.sum_returned.max(returned.sum_returned),
            highest_returned: seen.highest_returned.max(returned.highest_returned),
            ..begun
        };
        seen = bounds.check(&totals);
        let calling = totals.gauge("calling").expect("a gauge");
        assert!((0..=16).contains(&calling), "{calling} of at most 16");
        check_owners(layout, &reading, log, started.load(Ordering::Acquire));
        readings += 1;
    }
    readings
}

/// Check that nobody is said to have counted more than it has begun.
fn check_owners(layout: &Layout, reading: &Reading, log: Log, workers: usize) {
    for slot in reading.slots(layout) {
        let Some(owner) = slot.owner() else { continue };
        let is_its =
            |worker: &usize| log.pid(*worker).load(Ordering::SeqCst) == u64::from(owner.pid);
        let worker = (0..workers).rfind(is_its).expect("one of the workers");
        let threads = (0..THREADS).map(|thread| log.rounds(worker, thread).begun);
        let (own, begun) = (own_counter(layout, &slot), threads.sum());
        assert!(own <= begun, "{owner:?}: {own} of {begun}");
    }
}

fn own_counter(layout: &Layout, slot: &raindrops_slab::read::SlotReading<'_>) -> u64 {
    let requests = layout.field("requests").expect("a field");
    match slot.own(requests) {
        Value::Counter(count) => count,
        other => panic!("{other:?}"),
    }
}

fn slab_layout(file: &File) -> Layout {
    let length = file.metadata().expect("a file").len();
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    Layout::decode(&bytes, length).expect("a slab")
}

fn read_file(file: &File, layout: Layout) -> Reading {
    let mut reading = Reading::default();
    let taken = reading.take(&layout, |at, to| file.read_exact_at(to, at as u64));
    taken.expect("its bytes");
    reading
}

/// Between what has returned and what has begun any figure has to be.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    returned: u64,
    /// The same of the histogram.
    answered: u64,
    begun: u64,
    sum_returned: u64,
    sum_begun: u64,
    highest_returned: u64,
    highest_begun: u64,
}

impl Bounds {
    fn of(rounds: impl Iterator<Item = Rounds>) -> Self {
        let sum_of =
            |rounds: u64| rounds / 10 * 45 + (0..rounds % 10).map(worker::recorded).sum::<u64>();
        rounds.fold(Self::default(), |all, one| Self {
            returned: all.returned + one.returned,
            answered: all.answered + one.returned,
            begun: all.begun + one.begun,
            sum_returned: all.sum_returned + sum_of(one.returned),
            sum_begun: all.sum_begun + sum_of(one.begun),
            highest_returned: all.highest_returned.max(one.returned.saturating_sub(1)),
            highest_begun: all.highest_begun.max(one.begun.saturating_sub(1)),
        })
    }

    /// What there is: later it may not be less.
    fn check(&self, totals: &Totals) -> Self {
        let Some(Value::Histogram { sum, buckets }) = totals.get("answer") else {
            panic!("no histogram in {totals:?}");
        };
        let is_within = |figure: u64, least: u64, most: u64, what: &str| {
            assert!(
                (least..=most).contains(&figure),
                "{what}: {figure} of {self:?}"
            );
            figure
        };
        let requests = totals.counter("requests").expect("a counter");
        let answers = buckets.iter().sum();
        let highest = totals.max("highest").expect("a max");
        Self {
            returned: is_within(requests, self.returned, self.begun, "requests"),
            answered: is_within(answers, self.answered, self.begun, "answers"),
            sum_returned: is_within(*sum, self.sum_returned, self.sum_begun, "sum"),
            highest_returned: is_within(
                highest,
                self.highest_returned,
                self.highest_begun,
                "highest",
            ),
            ..Self::default()
        }
    }
}

/// Xorshift, of a seed that is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seed = now.map_or(1, |it| u64::from(it.subsec_nanos()));
        println!("seed {seed}");
        Self(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
