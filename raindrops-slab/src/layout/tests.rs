use alloc::{string::ToString, vec, vec::Vec};

use super::{Layout, Origin, Refused, STATE, State, checksum};
use crate::field::{Field, Invalid, Schema, Unit};

const ORIGIN: Origin = Origin {
    pid: 4711,
    pid_namespace: 4_026_531_836,
    started: 987_654,
    created: 1_790_000_000_000_000_000,
    boot_id: *b"0123456789abcdef",
};

fn schema() -> Schema {
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
        Field::max("longest", Unit::new("us").unwrap()),
        Field::histogram("answer", Unit::new("us").unwrap(), 1000),
    ];
    Schema::new("shop", 5, fields).unwrap()
}

/// A finished static part, and how long the whole is.
fn ready() -> (Vec<u8>, u64) {
    let layout = Layout::new(&schema(), ORIGIN).unwrap();
    let mut bytes = layout.encode();
    bytes[STATE] = State::Ready as u8;
    (bytes, layout.total() as u64)
}

/// The same with some bytes changed, and the checksum of that.
fn changed(at: usize, to: &[u8]) -> Vec<u8> {
    let (mut bytes, _) = ready();
    bytes[at..at + to.len()].copy_from_slice(to);
    let sum = checksum(&bytes);
    bytes[20..24].copy_from_slice(&sum.to_ne_bytes());
    bytes
}

#[test]
fn what_was_laid_out_is_read_back() {
    let (bytes, total) = ready();
    let layout = Layout::new(&schema(), ORIGIN).unwrap();
    assert_eq!(Layout::decode(&bytes, total), Ok(layout));
}

#[test]
fn fields_of_a_slot_begin_where_the_ones_before_end() {
    let layout = Layout::new(&schema(), ORIGIN).unwrap();
    let places: Vec<_> = layout
        .fields()
        .iter()
        .map(|it| (it.field.words, it.offset, it.base))
        .collect();
    let words = 1 + crate::histogram::bucket_of(1000, 252) + 2;
    assert_eq!(
        places,
        [
            (1, 0, Some(24 + 8 * words)),
            (1, 8, None),
            (1, 16, Some(32 + 8 * words)),
            (words, 24, Some(40 + 8 * words)),
        ]
    );
    assert_eq!(layout.slot(1) % 128, 0);
    assert_eq!(layout.total(), layout.slot(5));
}

#[test]
fn damage_is_named() {
    let u32s = |value: u32| value.to_ne_bytes().to_vec();
    let u64s = |value: u64| value.to_ne_bytes().to_vec();
    let field_of = |index, why| Refused::Field { index, why };
    let field = |why| field_of(0, why);
    let (_, total) = ready();
    let cases: Vec<(usize, Vec<u8>, Refused)> = vec![
        (0, b"\x7fELF".to_vec(), Refused::Magic),
        (8, u32s(0x0403_0201), Refused::ByteOrder),
        (
            12,
            2_u16.to_ne_bytes().to_vec(),
            Refused::Version { major: 2 },
        ),
        (16, u32s(0), Refused::NotReady),
        (16, u32s(3), Refused::State),
        (24, u32s(u32::MAX), Refused::HeaderLength(u32::MAX)),
        (28, u32s(0), Refused::Fields(0)),
        (28, u32s(u32::MAX), Refused::Fields(u32::MAX)),
        (32, u64s(u64::MAX), Refused::TooLong(u64::MAX)),
        (32, u64s(1 << 40), Refused::TooLong(1 << 40)),
        (32, u64s(total - 128), Refused::Lengths),
        (
            32,
            u64s(total + 1),
            Refused::Truncated {
                says: total + 1,
                bytes: total,
            },
        ),
        (40, u64s(0), Refused::Lengths),
        (40, u64s(u64::MAX - 127), Refused::Lengths),
        (48, u64s(u64::MAX - 127), Refused::Lengths),
        (48, u64s(1), Refused::Lengths),
        (56, u32s(0), Refused::Lengths),
        (56, u32s(8), Refused::Lengths),
        (56, u32s(u32::MAX - 127), Refused::Lengths),
        (60, u32s(0), Refused::Slots(0)),
        (60, u32s(u32::MAX), Refused::Slots(u32::MAX)),
        (112, b"\x1b[2J".to_vec(), Refused::Name),
        (112, vec![b'a'; 32], Refused::Name),
        (192, b"Requests".to_vec(), field("its name is none")),
        (
            192,
            b"calling\0".to_vec(),
            Refused::Field {
                index: 1,
                why: "its name is another's",
            },
        ),
        (192 + 32, b"\n".to_vec(), field("its unit is none")),
        (192 + 48, vec![9, 0], field("of no known kind")),
        (
            192 + 48,
            vec![2, 0],
            field("it has to have a base, or must not"),
        ),
        (192 + 48, vec![4, 0], field("of a wrong length")),
        (192 + 52, u32s(4), field("not aligned")),
        (192 + 52, u32s(u32::MAX - 7), field("beyond its slot")),
        (192 + 52, u32s(8), Refused::Lengths),
        (
            192 + 128 + 60,
            u32s(8),
            field_of(2, "its base stands before it"),
        ),
        (192 + 56, u32s(u32::MAX), field("of a wrong length")),
        (
            192 + 60,
            u32s(u32::MAX),
            field("it has to have a base, or must not"),
        ),
    ];
    for (at, to, refused) in cases {
        let bytes = changed(at, &to);
        assert_eq!(
            Layout::decode(&bytes, total),
            Err(refused),
            "at {at}: {to:?}"
        );
    }
}

#[test]
fn a_change_without_its_checksum_is_noticed() {
    let (bytes, total) = ready();
    for at in (64..bytes.len()).filter(|at| !(88..96).contains(at)) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(
            Layout::decode(&bytes, total),
            Err(Refused::Checksum),
            "at {at}"
        );
    }
}

#[test]
fn a_beginning_is_not_enough() {
    let (bytes, total) = ready();
    for length in 0..bytes.len() {
        let decoded = Layout::decode(&bytes[..length], total);
        let expected = match length {
            0..8 => Refused::Magic,
            _ => Refused::TooShort { bytes: length },
        };
        assert_eq!(decoded, Err(expected));
    }
}

#[test]
fn declarations_are_checked() {
    let counter = |name: &str| Field::counter(name, Unit::NONE);
    let long = "a".repeat(32);
    let cases = [
        (
            Schema::new("Shop", 1, [counter("a")]),
            Invalid::Name("Shop".into()),
        ),
        (
            Schema::new("shop", 1, [counter("")]),
            Invalid::Name("".into()),
        ),
        (
            Schema::new("shop", 1, [counter("1a")]),
            Invalid::Name("1a".into()),
        ),
        (
            Schema::new("shop", 1, [counter(&long)]),
            Invalid::Name(long.clone()),
        ),
        (
            Schema::new("shop", 1, [counter("a"), counter("a")]),
            Invalid::Twice("a".into()),
        ),
        (Schema::new("shop", 1, []), Invalid::NoFields),
        (Schema::new("shop", 0, [counter("a")]), Invalid::Slots(0)),
        (
            Schema::new("shop", 4097, [counter("a")]),
            Invalid::Slots(4097),
        ),
    ];
    for (made, expected) in cases {
        assert_eq!(made, Err(expected));
    }
    let many = (0..257).map(|it| counter(&("f".to_string() + &it.to_string())));
    assert_eq!(
        Schema::new("shop", 1, many),
        Err(Invalid::TooManyFields(257))
    );
    assert_eq!(Unit::new("µs"), Err(Invalid::Unit("µs".into())));
}
