//! The whole life of slots, in plain memory: for Miri, and quick without it.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    thread,
};

use raindrops_slab::{
    Field, Layout, Reading, Schema, Unit,
    claim::{Occupant, Owner, SHARED, Words as _},
    read::Value,
};

use crate::memory::Memory;

mod memory;

const fn process(pid: u32) -> Owner {
    Owner {
        pid,
        started: 90_000 + pid as u64,
    }
}

fn of_each_kind(slots: u32) -> Memory {
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::max("longest", Unit::NONE),
        Field::histogram("answer", Unit::NONE, 3),
    ];
    Memory::new(&Schema::new("shop", slots, fields).expect("a schema"))
}

fn reading(memory: &Memory) -> Reading {
    let mut reading = Reading::default();
    let Ok(()) = reading.take(&memory.layout, |from, to| {
        for (at, word) in (from..).step_by(8).zip(to.chunks_exact_mut(8)) {
            word.copy_from_slice(&memory.load(at, Ordering::Acquire).to_ne_bytes());
        }
        Ok::<(), Infallible>(())
    });
    reading
}

#[test]
fn slots_go_from_owner_to_owner() {
    let memory = of_each_kind(2);
    for pid in 1..=5 {
        let is_dead = |occupant| occupant == Occupant::Owner(process(pid - 1));
        let claim = memory.claim(process(pid), 0, is_dead);
        memory.add(claim, "requests", 0, 10);
        memory.add(claim, "calling", 0, 1);
        memory.add(claim, "longest", 0, u64::from(pid * 7 % 5));
        memory.add(claim, "answer", 2, 1);
        if pid == 3 {
            memory.release(claim);
        }
    }
    let is_dead = |occupant| occupant == Occupant::Owner(process(1));
    let other = memory.claim(process(6), SHARED, is_dead);
    memory.add(other, "requests", 0, 1);
    assert_eq!(
        Layout::decode(&memory.bytes(), memory.layout.total() as u64).as_ref(),
        Ok(&memory.layout)
    );
    let reading = reading(&memory);
    let owners: Vec<_> = reading.slots(&memory.layout).map(|it| it.owner()).collect();
    let totals = reading.totals(&memory.layout, |owner| owner == process(5));
    assert_eq!(owners, [Some(process(6)), Some(process(5))]);
    assert_eq!(totals.counter("requests"), Some(51));
    assert_eq!(totals.gauge("calling"), Some(1));
    assert_eq!(totals.max("longest"), Some(4));
    let buckets = vec![0, 5, 0, 0, 0];
    assert_eq!(
        totals.get("answer"),
        Some(&Value::Histogram { sum: 0, buckets })
    );
}

#[test]
fn threads_claim_and_release_while_others_read() {
    let memory = Arc::new(of_each_kind(4));
    let workers = [1, 2, 3].map(|pid| {
        let memory = Arc::clone(&memory);
        thread::spawn(move || {
            for _ in 0..5 {
                let claim = memory.claim(process(pid), 0, |_| false);
                memory.add(claim, "requests", 0, 1);
                memory.add(claim, "calling", 0, 1);
                memory.release(claim);
            }
        })
    });
    let mut before = 0;
    for _ in 0..5 {
        let totals = reading(&memory).totals(&memory.layout, |_| true);
        let requests = totals.counter("requests").expect("a counter");
        assert!((before..=15).contains(&requests));
        before = requests;
    }
    for worker in workers {
        worker.join().expect("no panic");
    }
    let totals = reading(&memory).totals(&memory.layout, |_| true);
    assert_eq!(totals.counter("requests"), Some(15));
    assert_eq!(totals.gauge("calling"), Some(0));
}
