//! Slabs as an application uses them: made, opened, claimed, counted in, left.

use std::{error::Error, fs, os::unix::fs::FileTypeExt as _, path::Path, thread};

use raindrops_slab::{Field, Schema, Slab, SlabError, Unit, claim::Owner, read::Value};

type Done = Result<(), Box<dyn Error>>;

fn schema(slots: u32) -> Schema {
    let us = Unit::new("us").expect("a unit");
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::max("longest", us.clone()),
        Field::histogram("answer", us, 1_000_000),
    ];
    Schema::new("shop", slots, fields).expect("a schema")
}

#[test]
fn all_kinds_are_counted() -> Done {
    let slab = Slab::in_memory(&schema(2))?;
    let slot = slab.claim()?;
    slot.counter("requests")?.add(3);
    let calling = slot.gauge("calling")?;
    calling.add(-2);
    let held = calling.hold();
    let longest = slot.max("longest")?;
    longest.raise(70);
    longest.raise(50);
    let answer = slot.histogram("answer")?;
    answer.record(5);
    answer.record(u64::MAX - 4);
    let totals = slab.totals();
    assert_eq!(totals.counter("requests"), Some(3));
    assert_eq!(totals.gauge("calling"), Some(-1));
    assert_eq!(totals.max("longest"), Some(70));
    let Some(Value::Histogram { sum, buckets }) = totals.get("answer") else {
        panic!("no histogram in {totals:?}");
    };
    assert_eq!(*sum, 0);
    assert_eq!(
        (buckets[5], buckets.last(), buckets.iter().sum()),
        (1, Some(&1), 2)
    );
    drop(held);
    assert_eq!(slab.totals().gauge("calling"), Some(-2));
    Ok(())
}

#[test]
fn what_was_released_keeps_its_counts_and_no_gauge() -> Done {
    let slab = Slab::in_memory(&schema(1))?;
    for round in 1..=3 {
        let slot = slab.claim_shared()?;
        slot.counter("requests")?.add(10);
        slot.gauge("calling")?.set(1);
        slot.max("longest")?.raise(100 / round);
        slot.histogram("answer")?.record(7);
        let reading = slab.reading();
        let of_slot = reading.slots(slab.layout()).next().ok_or("no slot")?;
        let own = |name| slab.layout().field(name).map(|placed| of_slot.own(placed));
        assert_eq!(own("requests"), Some(Value::Counter(10)));
        assert_eq!(own("longest"), Some(Value::Max(100 / round)));
        assert_eq!(slab.totals().gauge("calling"), Some(1));
        drop(slot);
        let totals = slab.totals();
        assert_eq!(totals.counter("requests"), Some(10 * round));
        assert_eq!(totals.gauge("calling"), Some(0));
        assert_eq!(totals.max("longest"), Some(100));
    }
    Ok(())
}

#[test]
fn a_slot_lives_as_long_as_its_handles() -> Done {
    let slab = Slab::in_memory(&schema(1))?;
    let slot = slab.claim()?;
    let requests = slot.counter("requests")?;
    drop(slot);
    assert!(matches!(slab.claim(), Err(SlabError::Full(1, _))));
    requests.add(1);
    drop(requests);
    assert_eq!(slab.claim()?.index(), 0);
    Ok(())
}

#[test]
fn threads_count_in_a_shared_slot() -> Done {
    let slab = Slab::in_memory(&schema(1))?;
    let slot = slab.claim_shared()?;
    let requests = slot.counter("requests")?;
    let answer = slot.histogram("answer")?;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for value in 0..10_000 {
                    requests.add(1);
                    answer.record(value);
                }
            });
        }
    });
    let totals = slab.totals();
    assert_eq!(totals.counter("requests"), Some(40_000));
    let Some(Value::Histogram { sum, buckets }) = totals.get("answer") else {
        panic!("no histogram in {totals:?}");
    };
    assert_eq!(*sum, 4 * (10_000 * 9_999 / 2));
    assert_eq!(buckets.iter().sum::<u64>(), 40_000);
    Ok(())
}

#[test]
fn a_file_is_opened_by_others() -> Done {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("shop.slab");
    let made = Slab::create(&path, &schema(4))?;
    made.claim()?.counter("requests")?.add(2);
    let opened = Slab::open(&path)?;
    assert_eq!(opened.layout(), made.layout());
    let slot = opened.claim()?;
    slot.counter("requests")?.add(1);
    assert_eq!(made.totals().counter("requests"), Some(3));
    let handed_over = Slab::from_fd(made.fd().try_clone_to_owned()?)?;
    assert_eq!(handed_over.totals().counter("requests"), Some(3));
    // Nothing unfinished is left.
    assert_eq!(fs::read_dir(dir.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_new_file_takes_the_place_of_the_old_which_lives_on() -> Done {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("shop.slab");
    let old = Slab::create(&path, &schema(1))?;
    let slot = old.claim()?;
    let new = Slab::create(&path, &schema(1))?;
    slot.counter("requests")?.add(1);
    assert_eq!(old.totals().counter("requests"), Some(1));
    assert_eq!(new.totals().counter("requests"), Some(0));
    Ok(())
}

#[test]
fn nobody_claims_what_is_closed() -> Done {
    let slab = Slab::in_memory(&schema(2))?;
    let slot = slab.claim()?;
    slab.close();
    slot.counter("requests")?.add(1);
    let refused = slab.claim().err().map(|error| error.to_string());
    let text = "slab shop is closed: nobody may claim a slot of it any more";
    assert_eq!(refused.as_deref(), Some(text));
    assert_eq!(slab.totals().counter("requests"), Some(1));
    Ok(())
}

#[test]
fn sealed_memory_cannot_be_shortened() -> Done {
    let slab = Slab::in_memory(&schema(1))?;
    let file = fs::File::from(slab.fd().try_clone_to_owned()?);
    assert!(file.set_len(0).is_err());
    Ok(())
}

#[test]
fn what_is_no_slab_is_not_opened() -> Done {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let refusal = |path: &Path| Slab::open(path).err().map(|error| error.to_string());
    let text = |path: &Path, what: &str| Some(format!("{}: {what}", path.display()));

    let path = at("empty");
    fs::write(&path, "")?;
    assert_eq!(
        refusal(&path),
        text(&path, "not a slab: it does not begin as one")
    );

    let path = at("sparse");
    fs::File::create(&path)?.set_len(1 << 40)?;
    assert_eq!(
        refusal(&path),
        text(&path, "not a slab: it does not begin as one")
    );

    let path = at("shortened");
    let length = Slab::create(&path, &schema(1))?.layout().total();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)?
        .set_len(length as u64 - 1)?;
    let what = format!("truncated: {} bytes of {length}", length - 1);
    assert_eq!(refusal(&path), text(&path, &what));

    let path = at("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status()?;
    assert!(made.success() && fs::metadata(&path)?.file_type().is_fifo());
    assert_eq!(refusal(&path), text(&path, "not a regular file"));

    let path = at("link");
    std::os::unix::fs::symlink(at("shortened"), &path)?;
    assert_eq!(
        refusal(&path),
        Some(format!("cannot open {}", path.display()))
    );
    assert!(matches!(
        Slab::open(dir.path()),
        Err(SlabError::File { .. })
    ));
    Ok(())
}

#[test]
fn owners_are_named_by_pid_and_start() -> Done {
    let slab = Slab::in_memory(&schema(2))?;
    let slot = slab.claim()?;
    let owners: Vec<_> = slab
        .reading()
        .slots(slab.layout())
        .map(|it| it.owner())
        .collect();
    let me = raindrops_slab::process::own()?;
    assert_eq!(owners, [Some(me), None]);
    drop(slot);
    let is_live = |_: Owner| true;
    assert_eq!(
        slab.reading()
            .totals(slab.layout(), is_live)
            .gauge("calling"),
        Some(0)
    );
    Ok(())
}
