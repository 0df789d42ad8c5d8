//! The fuzzer's corpus as an ordinary test: nothing in it panics or takes much memory.
//!
//! `UPDATE_GOLDEN=1` writes the inputs that the fuzzer begins with. What it has found beyond them
//! is beside them under names of its own.

use std::{
    alloc::{GlobalAlloc, Layout as Block, System},
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use raindrops_slab::{
    Field, Layout, Schema, Unit,
    claim::Control,
    layout::{Origin, STATE_OFFSET, State},
};

#[path = "corpus/look.rs"]
mod look;

/// Bytes of memory that are in use, and the most there were.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's, which is told everything.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        let in_use = IN_USE.fetch_add(block.size(), Ordering::Relaxed) + block.size();
        MOST.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        IN_USE.fetch_sub(block.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, block) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting;

/// What reading an input may take besides a few copies of it.
const ALLOWANCE: usize = 512 << 10;

/// The most memory that reading it took, and whether it was a slab.
fn look_at(input: &[u8]) -> (usize, bool) {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let is_slab = look::at(input);
    (MOST.load(Ordering::Relaxed) - before, is_slab)
}

/// One test, so that nothing else takes memory meanwhile.
#[test]
fn nothing_in_the_corpus_panics_or_takes_much_memory() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(corpus())?;
        for (name, input, _) in seeds() {
            fs::write(corpus().join(name), input)?;
        }
    }
    for (name, input, expected) in seeds() {
        assert_eq!(look_at(&input).1, expected, "{name}");
        assert_eq!(fs::read(corpus().join(&name)).ok(), Some(input), "{name}");
    }
    let mut slabs = 0;
    for entry in fs::read_dir(corpus())? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        let (memory, is_slab) = look_at(&input);
        let allowed = 4 * input.len() + ALLOWANCE;
        assert!(memory <= allowed, "{}: {memory} bytes", path.display());
        slabs += u32::from(is_slab);
    }
    assert!(slabs > 10, "only {slabs} slabs in the corpus");
    Ok(())
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/slab")
}

/// Name, input, and whether it is a slab.
type Seed = (String, Vec<u8>, bool);

fn seeds() -> Vec<Seed> {
    let seed = |name: &str, how: u8, bytes: &[u8], is_slab| -> Seed {
        let input = [&[how], bytes].concat();
        (format!("seed-{name}"), input, is_slab)
    };
    let (one, several) = (slab(1, &[counter()]), slab(3, &of_each_kind()));
    let mut seeds = vec![
        seed("one-counter", 0, &one, true),
        seed("each-kind", 0, &several, true),
        seed("shortened", look::SHORTENED, &one, true),
        seed("header-only", 0, &one[..256], false),
        seed("half-a-header", 0, &one[..100], false),
        seed("empty", 0, &[], false),
    ];
    let changed = |name: &str, at: usize, to: &[u8], is_slab| {
        let mut bytes = several.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        seed(name, look::RIGHT_CHECKSUM, &bytes, is_slab)
    };
    let u32s = |value: u32| value.to_ne_bytes();
    let u64s = |value: u64| value.to_ne_bytes();
    let total = several.len() as u64;
    seeds.extend([
        changed("magic", 0, b"\x7fELF", false),
        changed("byte-order", 8, &u32s(0x0403_0201), false),
        changed("major", 12, &2_u16.to_ne_bytes(), false),
        changed("minor", 14, &9_u16.to_ne_bytes(), true),
        changed("initialising", 16, &u32s(0), false),
        changed("closed", 16, &u32s(2), true),
        changed("no-state", 16, &u32s(3), false),
        changed("header-length", 24, &u32s(u32::MAX), false),
        changed("no-fields", 28, &u32s(0), false),
        changed("many-fields", 28, &u32s(256), false),
        changed("total-beyond", 32, &u64s(1 << 40), false),
        changed("total-too-small", 32, &u64s(total - 128), false),
        changed("owners-in-header", 40, &u64s(128), false),
        changed("owners-far", 40, &u64s(u64::MAX - 127), false),
        changed("slots-far", 48, &u64s(u64::MAX - 127), false),
        changed("slots-on-owners", 48, &u64s(512), false),
        changed("no-stride", 56, &u32s(0), false),
        changed("long-stride", 56, &u32s(u32::MAX - 127), false),
        changed("no-slots", 60, &u32s(0), false),
        changed("fewer-slots", 60, &u32s(2), true),
        changed("many-slots", 60, &u32s(4096), false),
        changed("origin", 64, &[0xff; 32], true),
        changed("reserved", 88, &[0xff; 8], true),
        changed("boot-id", 96, &[0xff; 16], true),
        changed("name", 112, b"\x1b[2J", false),
        changed("field-name", 192, b"\n", false),
        changed("field-unit", 192 + 32, b"\xc3\xb5", false),
        changed("field-kind", 192 + 48, &[9, 0], false),
        changed("field-reserved", 192 + 50, &[9, 9], true),
        changed("field-offset", 192 + 52, &u32s(u32::MAX - 7), false),
        changed("field-unaligned", 192 + 52, &u32s(4), false),
        changed("field-words", 192 + 56, &u32s(u32::MAX), false),
        changed("field-base", 192 + 60, &u32s(u32::MAX), false),
        changed("base-before", 192 + 128 + 60, &u32s(8), false),
        changed("histogram-words", 192 + 192 + 56, &u32s(254), false),
        changed("owner-preparing", 512, &u64s(Control::new(7, 1).0), true),
        changed("owner-of-no-pid", 512, &u64s(u64::MAX << 32), true),
    ]);
    seeds
}

fn counter() -> Field {
    Field::counter("requests", Unit::NONE)
}

fn of_each_kind() -> [Field; 4] {
    let us = Unit::new("us").expect("a unit");
    [
        counter(),
        Field::gauge("calling", Unit::NONE),
        Field::max("longest", us.clone()),
        Field::histogram("answer", us, 5),
    ]
}

/// A slab in which every other slot is somebody's, and every word is something.
fn slab(slots: u32, fields: &[Field]) -> Vec<u8> {
    let schema = Schema::new("shop", slots, fields.iter().cloned()).expect("a schema");
    let origin = Origin {
        pid: 4711,
        pid_namespace: 4_026_531_836,
        started: 987_654,
        created: 1_790_000_000_000_000_000,
        boot_id: *b"0123456789abcdef",
    };
    let layout = Layout::new(&schema, origin).expect("a layout");
    let mut bytes = layout.encode();
    bytes.resize(layout.total(), 0);
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    for slot in (0..slots).step_by(2) {
        put(layout.owner(slot), Control::new(4711 + slot, 2).0);
        put(layout.owner(slot) + 8, 990_000);
        put(layout.owner(slot) + 16, 1);
    }
    for (number, at) in (layout.slots()..layout.total()).step_by(8).enumerate() {
        put(at, number as u64);
    }
    bytes[STATE_OFFSET] = State::Ready as u8;
    bytes
}
