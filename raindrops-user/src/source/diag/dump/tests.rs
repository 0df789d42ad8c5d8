use std::{collections::VecDeque, io};

use super::{Completeness, DumpError, MAX_FOREIGN, Malformed, Stage, drain};

const SEQUENCE: u32 = 5;
const MULTI: u16 = 2;
const MULTI_INTERRUPTED: u16 = 2 | 0x10;

const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
const SOCK_DIAG: u16 = 20;

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec(); // nlmsg_len
    bytes.extend(kind.to_ne_bytes()); // nlmsg_type
    bytes.extend(flags.to_ne_bytes()); // nlmsg_flags
    bytes.extend(sequence.to_ne_bytes()); // nlmsg_seq
    bytes.extend(0_u32.to_ne_bytes()); // nlmsg_pid
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn row(payload: &[u8]) -> Vec<u8> {
    message(SOCK_DIAG, MULTI, SEQUENCE, payload)
}

fn done(errno: i32) -> Vec<u8> {
    message(DONE, MULTI, SEQUENCE, &errno.to_ne_bytes())
}

/// What a dump made of these datagrams: its rows, and how it ended.
fn run(
    datagrams: impl IntoIterator<Item = Result<Vec<u8>, i32>>,
) -> (Vec<Vec<u8>>, Result<Completeness, DumpError>) {
    let mut datagrams: VecDeque<_> = datagrams.into_iter().collect();
    let mut rows = Vec::new();
    let receive = |buffer: &mut [u8]| match datagrams.pop_front() {
        Some(Ok(datagram)) => {
            let size = datagram.len().min(buffer.len());
            buffer[..size].copy_from_slice(&datagram[..size]);
            Ok(datagram.len())
        }
        Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::ErrorKind::WouldBlock.into()),
    };
    let result = drain(SEQUENCE, &mut [0; 256], receive, |payload| {
        if payload == b"bad" {
            return Err(Malformed);
        }
        rows.push(payload.to_vec());
        Ok(())
    });
    (rows, result)
}

#[test]
fn reads_several_messages_of_several_datagrams() {
    let (rows, result) = run([
        Ok([row(b"one"), row(b"two22")].concat()),
        Err(libc::EINTR),
        Ok(message(NOOP, MULTI, SEQUENCE, b"")),
        Ok([row(b"three"), done(0)].concat()),
    ]);
    assert_eq!(rows, [&b"one"[..], b"two22", b"three"]);
    assert_eq!(result.unwrap(), Completeness::default());
}

#[test]
fn ends_at_a_done_without_payload() {
    let (_, result) = run([Ok(message(DONE, MULTI, SEQUENCE, b""))]);
    assert_eq!(result.unwrap(), Completeness::default());
}

#[test]
fn marks_an_interrupted_dump() {
    let (_, result) = run([
        Ok(message(SOCK_DIAG, MULTI_INTERRUPTED, SEQUENCE, b"one")),
        Ok(done(0)),
    ]);
    assert!(result.unwrap().interrupted);
    let (_, result) = run([Ok(message(DONE, MULTI_INTERRUPTED, SEQUENCE, &[0; 4]))]);
    assert!(result.unwrap().interrupted);
}

#[test]
fn passes_over_other_dumps() {
    let (rows, result) = run([
        Ok(message(SOCK_DIAG, MULTI, SEQUENCE - 1, b"old")),
        Ok(message(DONE, MULTI, SEQUENCE - 1, &[0; 4])),
        Ok(row(b"new")),
        Ok(done(0)),
    ]);
    assert_eq!(rows, [b"new"]);
    assert_eq!(result.unwrap(), Completeness::default());
}

#[test]
fn counts_what_it_cannot_read() {
    let mut short = row(b"x");
    short.truncate(15);
    let mut long = row(b"x");
    long[0] = 200;
    let mut tiny = row(b"x");
    tiny[0] = 15;
    let (rows, result) = run([
        Ok([row(b"one"), row(b"bad"), row(b"two")].concat()),
        Ok(short),
        Ok(long),
        Ok(tiny),
        Ok(message(99, MULTI, SEQUENCE, b"")),
        Ok(done(0)),
    ]);
    assert_eq!(rows, [b"one", b"two"]);
    let expected = Completeness {
        interrupted: false,
        malformed: 5,
    };
    assert_eq!(result.unwrap(), expected);
}

#[test]
fn tells_errors_of_the_request_from_those_of_the_dump() {
    let table = [
        (
            message(ERROR, 0, SEQUENCE, &(-libc::ENOENT).to_ne_bytes()),
            Stage::Request,
            libc::ENOENT,
        ),
        (
            message(ERROR, 0, SEQUENCE, b"?"),
            Stage::Request,
            libc::EBADMSG,
        ),
        (done(-libc::ENOENT), Stage::Dump, libc::ENOENT),
        (
            message(OVERRUN, 0, SEQUENCE, b""),
            Stage::Dump,
            libc::ENOBUFS,
        ),
    ];
    for (datagram, expected_stage, errno) in table {
        let (_, result) = run([Ok(datagram)]);
        let Err(DumpError::Kernel { stage, source }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(
            (stage, source.raw_os_error()),
            (expected_stage, Some(errno))
        );
    }
}

#[test]
fn an_acknowledgement_is_no_error() {
    let (_, result) = run([Ok(message(ERROR, 0, SEQUENCE, &[0; 20])), Ok(done(0))]);
    assert_eq!(result.unwrap(), Completeness::default());
}

#[test]
fn reports_a_failing_socket() {
    let (rows, result) = run([Ok(row(b"one")), Err(libc::ENOBUFS)]);
    assert_eq!(rows, [b"one"]);
    let Err(DumpError::Receive(source)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOBUFS));
}

#[test]
fn a_datagram_longer_than_the_buffer_is_an_error() {
    let (_, result) = run([Ok(row(&[0; 300]))]);
    let Err(DumpError::Truncated { size, room }) = result else {
        panic!("{result:?}");
    };
    assert_eq!((size, room), (316, 256));
}

#[test]
fn gives_up_on_an_answer_to_somebody_else() {
    let foreign = || Ok(message(SOCK_DIAG, MULTI, SEQUENCE + 1, b""));
    let (_, result) = run((0..MAX_FOREIGN + 10).map(|_| foreign()));
    assert!(matches!(result, Err(DumpError::Endless)), "{result:?}");
    let (_, result) = run((0..MAX_FOREIGN + 10).map(|_| Ok(Vec::new())));
    assert!(matches!(result, Err(DumpError::Endless)), "{result:?}");
}

#[test]
fn survives_any_truncation_and_corruption() {
    let datagram = [row(b"one"), row(b"two22"), done(0)].concat();
    for end in 0..datagram.len() {
        let _ = run([Ok(datagram[..end].to_vec())]);
    }
    for at in 0..datagram.len() {
        for byte in 0..=u8::MAX {
            let mut corrupt = datagram.clone();
            corrupt[at] = byte;
            let _ = run([Ok(corrupt)]);
        }
    }
}
