use super::*;
use crate::{
    address::{Address, UnixName},
    snapshot::puma::{PumaSingle, PumaStats},
};

const fn seconds(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn answer(asked: Monotonic) -> ControlAnswer {
    ControlAnswer {
        asked,
        peer: None,
        stats: PumaStats::Single(PumaSingle::default()),
    }
}

fn seen() -> ControlSeen {
    ControlSeen {
        address: Address::Unix(UnixName::Path(b"/c".to_vec())),
        answer: Some(answer(seconds(100))),
        failure: None,
    }
}

#[test]
fn a_slow_server_rests_as_long_as_it_took() {
    let millis = Duration::from_millis;
    for (took, is_read, expected) in [
        (1, true, 1_000),
        (1, false, 5_000),
        (700, true, 1_400),
        (3_000, true, 6_000),
        (3_000, false, 6_000),
    ] {
        assert_eq!(period(millis(took), is_read), millis(expected), "{took}");
    }
}

/// Check that the last answer outlives a server's slowness, but no other failure.
#[test]
fn an_answer_is_kept_only_while_its_server_is_slow() {
    let refused = || PumaError::Connect(std::io::ErrorKind::ConnectionRefused.into());
    for (error, is_kept) in [
        (PumaError::Timeout, true),
        (PumaError::WrongToken, false),
        (PumaError::NotPuma, false),
        (refused(), false),
    ] {
        let mut seen = seen();
        let off = error.off();
        seen.take(Err(error));
        assert_eq!(seen.failure, Some(off));
        assert_eq!(seen.answer.is_some(), is_kept, "{:?}", seen.failure);

        seen.take(Ok(answer(seconds(101))));
        assert_eq!(seen.failure, None);
        assert_eq!(seen.answer, Some(answer(seconds(101))));
    }
}

#[test]
fn no_answer_is_kept_for_long() {
    let seen = seen();
    assert_eq!(seen.at(seconds(115)), seen);
    let old = seen.at(seconds(116));
    assert_eq!(old.answer, None);
    assert_eq!(old.failure.unwrap().reason, "no answer for 15 s");
}
