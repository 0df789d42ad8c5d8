//! All that a reader does with the bytes of a slab: for the fuzzer, and for its corpus as a test.

use raindrops_slab::{Layout, Reading, layout::FIXED, read::Value};

/// Bits of an input's first byte; the slab follows it.
///
/// The checksum is made right first: no fuzzer guesses one.
pub const RIGHT_CHECKSUM: u8 = 1;
/// The file has been shortened after somebody asked how long it is.
pub const SHORTENED: u8 = 2;

const STATE: usize = 16;
const CHECKSUM: usize = 20;

/// Reads an input as a slab. Whether it was one.
pub fn at(input: &[u8]) -> bool {
    let Some((&how, bytes)) = input.split_first() else {
        return false;
    };
    let mut bytes = bytes.to_vec();
    if how & RIGHT_CHECKSUM != 0 {
        make_checksum_right(&mut bytes);
    }
    let shortened_by = if how & SHORTENED == 0 { 0 } else { 256 };
    let available = bytes.len() as u64 + shortened_by;
    let Ok(length) = Layout::header_length(&bytes) else {
        assert!(Layout::decode(&bytes, available).is_err());
        return false;
    };
    let header = &bytes[..length.min(bytes.len())];
    let Ok(layout) = Layout::decode(header, available) else {
        return false;
    };
    assert_eq!(
        Layout::decode(&bytes, available).as_ref(),
        Ok(&layout),
        "only the static part is looked at"
    );
    written_again(&layout, &bytes);
    let mut reading = Reading::default();
    let taken = reading.take(&layout, |from, to| {
        assert!(from + to.len() <= layout.total(), "outside of the slab");
        to.copy_from_slice(bytes.get(from..from + to.len()).ok_or(())?);
        Ok::<(), ()>(())
    });
    assert_eq!(
        taken.is_err(),
        layout.slot(layout.slot_count()) > bytes.len()
    );
    if taken.is_ok() {
        read(&layout, &reading);
    }
    true
}

fn read(layout: &Layout, reading: &Reading) {
    let totals = reading.totals(layout, |owner| owner.started % 2 == 0);
    assert_eq!(totals.values.len(), layout.fields().len());
    let mut slots = 0;
    for slot in reading.slots(layout) {
        assert!(slot.owner().is_none_or(|owner| owner.pid != 0));
        for placed in layout.fields() {
            if let Value::Histogram { buckets, .. } = slot.own(placed) {
                assert_eq!(buckets.len() + 1, placed.field.words as usize);
            }
        }
        slots += 1;
    }
    assert_eq!(slots, layout.slot_count());
}

/// What was understood is written as it was found, apart from what readers pass over.
fn written_again(layout: &Layout, bytes: &[u8]) {
    let mut again = layout.encode();
    let passed_over = |at: usize| match at.checked_sub(FIXED) {
        None => matches!(at, 14..24 | 88..96 | 144..),
        Some(in_table) => matches!(in_table % 64, 50..52),
    };
    for (at, byte) in again.iter_mut().enumerate() {
        if passed_over(at) {
            *byte = bytes[at];
        }
    }
    assert_eq!(again, bytes[..again.len()]);
}

fn make_checksum_right(bytes: &mut [u8]) {
    let Ok(length) = Layout::header_length(bytes) else {
        return;
    };
    if let Some(header) = bytes.get_mut(..length) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..STATE]);
        hasher.update(&[0; CHECKSUM + 4 - STATE]);
        hasher.update(&header[CHECKSUM + 4..]);
        header[CHECKSUM..CHECKSUM + 4].copy_from_slice(&hasher.finalize().to_ne_bytes());
    }
}
