//! docs/slab-format.md says what is so: its dump is what the crate makes, and a reader that was
//! written after it alone agrees with the crate.
//!
//! `UPDATE_GOLDEN=1` writes the dump into the document.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use raindrops_slab::{Field, Schema, Slab, Unit, claim::Owner, read::Value};

use crate::memory::Memory;

mod memory;

type Done = Result<(), Box<dyn Error>>;

const BEGIN: &str = "<!-- dump -->\n";
const END: &str = "<!-- end of dump -->\n";

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/slab-format.md")
}

#[test]
fn the_dump_in_the_document_is_what_is_made() -> Done {
    let text = fs::read_to_string(document())?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no dump in the document")?;
    let (written, after) = rest.split_once(END).ok_or("no end of the dump")?;
    let dump = format!("```text\n{}```\n", dump());
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(document(), [before, BEGIN, &dump, END, after].concat())?;
    } else if cfg!(target_endian = "little") {
        assert_eq!(written, dump, "UPDATE_GOLDEN=1 writes it");
    }
    Ok(())
}

fn dump() -> String {
    let bytes = example().bytes();
    let mut text = String::new();
    let mut at = 0;
    for (length, what) in PARTS {
        let part = &bytes[at..at + length];
        if *length > 64 {
            assert!(part.iter().all(|byte| *byte == 0), "{what}");
            writeln!(text, "{at:03x}  {:47}  {what}", "00 …").expect("a string");
        } else {
            for (line, chunk) in part.chunks(16).enumerate() {
                let hex: Vec<_> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
                let what = if line == 0 { what } else { "" };
                let row = format!("{:03x}  {:47}  {what}", at + line * 16, hex.join(" "));
                writeln!(text, "{}", row.trim_end()).expect("a string");
            }
        }
        at += length;
    }
    assert_eq!(at, bytes.len(), "every byte is in the dump");
    text
}

/// As the document tells it.
fn example() -> Memory {
    let us = Unit::new("us").expect("a unit");
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::histogram("answer", us, 3),
    ];
    let memory = Memory::new(&Schema::new("shop", 2, fields).expect("a schema"));
    let owner = |pid, started| Owner { pid, started };
    let first = memory.claim(owner(4711, 80_200), 0, |_| false);
    memory.add(first, "requests", 0, 3);
    for value in [1, 3, 9] {
        memory.add(first, "answer", 0, value);
        memory.add(first, "answer", 1 + value.min(4) as usize, 1);
    }
    memory.release(first);
    let second = memory.claim(owner(4712, 91_337), 0, |_| false);
    memory.add(second, "requests", 0, 2);
    memory.add(second, "calling", 0, 1);
    memory.add(second, "answer", 0, 2);
    memory.add(second, "answer", 3, 1);
    memory
}

/// Length of each part of the example, and what it is.
const PARTS: &[(usize, &str)] = &[
    (8, "magic"),
    (4, "byte order: 0x01020304, here of a little-endian machine"),
    (4, "version 1.0"),
    (4, "state: ready"),
    (4, "checksum"),
    (4, "header length: 384"),
    (4, "fields: 3"),
    (8, "length: 768"),
    (8, "owners at 0x180"),
    (8, "slots at 0x200"),
    (4, "stride: 128"),
    (4, "slots: 2"),
    (4, "creator's pid: 4700"),
    (4, "pid namespace: 4026531836"),
    (8, "creator's start: 80150"),
    (8, "created: 1790000000.123456789"),
    (8, "reserved"),
    (16, "boot id: 6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
    (32, "name: shop"),
    (48, "reserved"),
    (32, "field 0: requests"),
    (16, "no unit"),
    (2, "counter"),
    (2, "reserved"),
    (4, "offset: 0"),
    (4, "words: 1"),
    (4, "base: 64"),
    (32, "field 1: calling"),
    (16, "no unit"),
    (2, "gauge"),
    (2, "reserved"),
    (4, "offset: 8"),
    (4, "words: 1"),
    (4, "no base"),
    (32, "field 2: answer"),
    (16, "unit: us"),
    (2, "histogram"),
    (2, "reserved"),
    (4, "offset: 16"),
    (4, "words: 6, of which 5 are buckets"),
    (4, "base: 72"),
    (8, "owner of slot 0: pid 4712, generation 4"),
    (8, "its start: 91337"),
    (8, "flags: one thread counts"),
    (8, "reserved"),
    (32, "owner of slot 1: nobody"),
    (64, "up to the slots"),
    (8, "slot 0, requests: 5, of which 4712 has counted 2"),
    (8, "calling: 1"),
    (8, "answer, sum: 15"),
    (8, "values of 0: none"),
    (8, "of 1: one"),
    (8, "of 2: one"),
    (8, "of 3: one"),
    (8, "of 4 and more: one"),
    (8, "requests, base: 3 were counted before 4712"),
    (8, "answer, base of the sum: 13"),
    (8, "base of 0: none"),
    (8, "of 1: one"),
    (8, "of 2: none"),
    (8, "of 3: one"),
    (8, "of 4 and more: one"),
    (8, "up to the next slot"),
    (128, "slot 1"),
];

#[test]
fn a_reader_that_knows_only_the_document_agrees() -> Done {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("shop.slab");
    let us = Unit::new("us")?;
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::max("longest", us.clone()),
        Field::histogram("answer", us, 300),
    ];
    let slab = Slab::create(&path, &Schema::new("shop", 3, fields)?)?;
    for round in 1..=3 {
        let slot = slab.claim()?;
        let shared = slab.claim_shared()?;
        slot.counter("requests")?.add(7 * round);
        slot.gauge("calling")?.add(-3);
        slot.max("longest")?.raise(100 / round);
        for value in [0, 4, 250, 1_000_000, u64::MAX / 2] {
            shared
                .histogram("answer")?
                .record(value.wrapping_mul(round));
        }
        shared.counter("requests")?.add(u64::MAX);
        agree(&path, &slab)?;
    }
    agree(&path, &slab)
}

fn agree(path: &Path, slab: &Slab) -> Done {
    if let Some(read) = read_by_python(path)? {
        assert_eq!(read, read_by_crate(slab));
    }
    Ok(())
}

/// `None` without Python, which is said.
fn read_by_python(path: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
    let output = match Command::new("python3").arg(script).arg(path).output() {
        Ok(output) => output,
        Err(error) => {
            report_skipped(&format!("python3: {error}"));
            return Ok(None);
        }
    };
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(Some(String::from_utf8(output.stdout)?))
}

fn report_skipped(reason: &str) {
    let test = "format::a_reader_that_knows_only_the_document_agrees";
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = std::io::stdout().write_all(line.as_bytes());
    if let Some(list) = env::var_os("RAINDROPS_SKIPPED_TESTS")
        && let Ok(mut list) = OpenOptions::new().append(true).open(list)
    {
        let _ = list.write_all(line.as_bytes());
    }
}

/// In the words of that reader.
fn read_by_crate(slab: &Slab) -> String {
    let layout = slab.layout();
    let mut text = format!("slab {} {}\n", layout.name(), layout.total());
    let reading = slab.reading();
    let totals = slab.totals();
    for placed in layout.fields() {
        let field = &placed.field;
        let own = reading
            .slots(layout)
            .enumerate()
            .filter_map(|(index, slot)| {
                let owner = slot.owner()?;
                let flags = u8::from(index == 1);
                let value = numbers(&slot.own(placed));
                let Owner { pid, started } = owner;
                Some(format!("{index}: [{pid}, {started}, {flags}, {value}]"))
            });
        let own: Vec<_> = own.collect();
        let unit = match field.unit.as_str() {
            "" => "-",
            unit => unit,
        };
        let total = totals.get(&field.name).map(numbers);
        let (kind, name, total) = (field.kind, &field.name, total.unwrap_or_default());
        writeln!(text, "{kind} {name} {unit} {total} {{{}}}", own.join(", ")).expect("a string");
    }
    text
}

fn numbers(value: &Value) -> String {
    match value {
        Value::Counter(number) | Value::Max(number) => format!("[{number}]"),
        Value::Gauge(level) => format!("[{level}]"),
        Value::Histogram { sum, buckets } => {
            let words: Vec<_> = [*sum].iter().chain(buckets).map(u64::to_string).collect();
            format!("[{}]", words.join(", "))
        }
    }
}
