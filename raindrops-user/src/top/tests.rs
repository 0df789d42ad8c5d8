//! Whole screens of an example, as a person at a terminal of that size sees them.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use ratatui::{Terminal, backend::TestBackend};

use super::{Flow, From, Key, Look, Now, State, draw};
use crate::view::{View, connections::Listing};

const LOOK: Look = Look {
    color: false,
    unicode: true,
};

fn example() -> View {
    serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
}

/// The example, some seconds before it was taken; its first listener has come to what it is.
fn earlier(seconds: u64) -> View {
    let mut view = example();
    view.taken_at -= Duration::from_secs(seconds);
    view.monotonic_ns -= seconds * 1_000_000_000;
    let listener = &mut view.listeners[0];
    let queued = u32::try_from(9_u64.saturating_sub(seconds)).unwrap();
    listener.queue.queued = Some(queued);
    let connections = listener.connections.as_mut().unwrap();
    connections.accepts = Some(2_000 - 12 * seconds - seconds % 3);
    let wait = connections.wait.as_mut().unwrap();
    for (_, count) in wait.buckets.iter_mut().flatten() {
        *count -= seconds;
    }
    view
}

fn now(seconds: u64) -> Now {
    Now {
        running: Duration::from_secs(seconds),
        wall: example().taken_at - Duration::from_secs(20) + Duration::from_secs(seconds),
    }
}

/// After twenty seconds.
fn state(look: Look) -> State {
    let daemon = "daemon at /run/raindrops/raindrops.sock".to_owned();
    let mut state = State::new(look, From::Daemon(daemon), now(0));
    for second in 0..=20 {
        state.at(now(second));
        state.take(earlier(20 - second), Duration::from_millis(40));
    }
    state
}

fn typed(state: &mut State, keys: &[Key]) {
    for key in keys {
        assert_eq!(state.on(*key), Flow::Stay);
    }
}

fn screen(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height)
        .map(|y| format!("{}\n", row(y).trim_end()))
        .collect()
}

/// Compares with a file; `UPDATE_GOLDEN=1` writes it instead.
fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(actual == expected, "{name}:\n{actual}");
}

fn both(name: &str, state: &State) {
    for (width, height) in [(80, 24), (200, 50)] {
        let name = format!("top-{name}-{width}x{height}.txt");
        check(&name, &screen(state, width, height));
    }
}

#[test]
fn whole_screens() {
    let mut state = state(LOOK);
    both("listeners", &state);
    typed(&mut state, &[Key::Enter]);
    both("listener", &state);
    typed(&mut state, &[Key::Enter]);
    assert_eq!(state.wants(), Some(14390));
    state.list(14390, Ok(listing()));
    both("worker", &state);
    typed(
        &mut state,
        &[Key::Escape, Key::Escape, Key::Left, Key::Char('[')],
    );
    assert_eq!(state.wants(), None);
    both("past", &state);
    typed(&mut state, &[Key::Enter]);
    both("past-listener", &state);
    typed(&mut state, &[Key::Char('?')]);
    both("help", &state);
    typed(&mut state, &[Key::Char('v')]);
    both("verdicts", &state);
}

#[test]
fn without_unicode() {
    let ascii = Look {
        unicode: false,
        ..LOOK
    };
    let state = state(ascii);
    let text = screen(&state, 200, 50);
    assert!(text.is_ascii(), "{text}");
    check("top-ascii-80x24.txt", &screen(&state, 80, 24));
}

fn listing() -> Listing {
    let text = r#"{"schema": "raindrops.connections/1", "taken_at": "2026-11-22T01:02:03.000Z",
        "truncated": false, "scanned": 2, "scan_complete": true, "matched": 2,
        "listeners": [{"id": "4026531833:17", "address": "127.0.0.1:18080"},
                      {"id": "4026531833:18", "address": "0.0.0.0:80"}],
        "connections": [
            {"listener": "4026531833:17", "peer": "127.0.0.1:40312", "worker": 14390,
             "age_us": 812000, "phase": "calling", "phase_age_us": 5200, "turns": 1,
             "bytes_in": 370, "bytes_out": 0, "state": "established"},
            {"listener": "4026531833:17", "peer": "evil\u001b[2J", "worker": 14390}],
        "notes": [{"what": "tcp", "text": "not read", "hint": "ask \u0007 again"}]}"#;
    serde_json::from_str(text).unwrap()
}

fn text(state: &State) -> String {
    screen(state, 80, 24)
}

fn has(state: &State, wanted: &str) {
    let text = text(state);
    assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
}

#[test]
fn what_must_not_be_overlooked() {
    let mut state = state(LOOK);
    has(&state, "figures 40ms old");
    state.at(now(24));
    has(&state, "OLD FIGURES: nothing new for 4.0s");
    state.fail("cannot\u{1b}[2J connect".to_owned());
    state.at(now(32));
    has(&state, "NO ANSWER for 12s: cannot\\x1b[2J connect");
    state.take(earlier(0), Duration::ZERO);
    assert!(!text(&state).contains("NO ANSWER"));
    typed(&mut state, &[Key::Char('p')]);
    state.at(now(37));
    has(&state, "PAUSED at 01:02:03Z, 5.0s ago");
    typed(&mut state, &[Key::Left]);
    has(&state, "PAST: 01:02:02Z, 18s ago");
    typed(&mut state, &[Key::Escape, Key::Char(' ')]);
    assert!(!text(&state).contains("PAUSED"));
}

#[test]
fn before_the_first_view() {
    let mut state = State::new(LOOK, From::Own(None), now(0));
    has(&state, "no daemon: beginning to read this host");
    for key in [
        Key::Left,
        Key::Right,
        Key::Enter,
        Key::Down,
        Key::Char('v'),
        Key::Char('p'),
    ] {
        typed(&mut state, &[key]);
        text(&state);
    }
    state.take(earlier(0), Duration::ZERO);
    typed(&mut state, &[Key::Escape]);
    has(&state, "no daemon: own reading since 00:00:00Z");
}

#[test]
fn rows_are_ordered_filtered_and_followed() {
    let mut state = state(LOOK);
    let order = |state: &State| -> Vec<String> {
        state.rows().into_iter().map(|row| row.address).collect()
    };
    assert_eq!(order(&state)[0], "127.0.0.1:18080");
    typed(&mut state, &[Key::Char('S')]);
    assert_eq!(order(&state)[0], "0.0.0.0:80 #1", "by address");
    typed(&mut state, &[Key::Char('s'), Key::Down]);
    let chosen = state.chosen_listener();
    typed(&mut state, &[Key::Char('s')]);
    assert_eq!(state.chosen_listener(), chosen, "it stays while rows move");
    typed(
        &mut state,
        &[
            Key::Char('/'),
            Key::Char('P'),
            Key::Char('u'),
            Key::Char('m'),
        ],
    );
    has(&state, "only with: Pum_");
    typed(&mut state, &[Key::Enter]);
    assert_eq!(order(&state), ["/run/app.sock"], "by its server");
    has(&state, "only with \"Pum\": 1 of 7 listeners");
    typed(&mut state, &[Key::Escape]);
    assert_eq!(order(&state).len(), 7);
    typed(
        &mut state,
        &[
            Key::Char('/'),
            Key::Char('q'),
            Key::Char('\u{1b}'),
            Key::Backspace,
        ],
    );
    typed(&mut state, &[Key::Char('x'), Key::Char('y'), Key::Enter]);
    has(&state, "No listener has this text");
    typed(&mut state, &[Key::Enter, Key::Down, Key::End, Key::Escape]);
    assert_eq!(state.on(Key::Char('q')), Flow::Quit);
    assert_eq!(state.on(Key::Interrupt), Flow::Quit);
}

#[test]
fn what_has_gone_says_so() {
    let mut state = state(LOOK);
    typed(&mut state, &[Key::Enter, Key::Enter]);
    let mut view = example();
    view.taken_at += Duration::from_secs(1);
    let worker = view.workers.iter_mut().find(|it| it.pid == 14390);
    worker.unwrap().started_at = Some(SystemTime::UNIX_EPOCH);
    state.take(view.clone(), Duration::ZERO);
    has(&state, "Process 14390 has ended");
    view.taken_at += Duration::from_secs(1);
    view.listeners.remove(0);
    state.take(view, Duration::ZERO);
    typed(&mut state, &[Key::Escape]);
    has(&state, "This listener is gone");
    typed(&mut state, &[Key::Left, Key::Left, Key::Left]);
    has(&state, "127.0.0.1:18080");
}

/// Check that no size and no screen makes it fall, and that nothing hostile gets through.
#[test]
fn any_size_and_any_name() {
    let mut state = state(LOOK);
    let mut view = example();
    view.taken_at += Duration::from_secs(1);
    view.host.name = "h\u{1b}]0;x\u{7}".to_owned();
    view.listeners[0].address = "/x\u{202e}\u{9b}2J".to_owned();
    view.workers[1].title = "t\n\u{1b}c".to_owned();
    view.workers[1].comm = "\u{1b}c".to_owned();
    state.take(view, Duration::ZERO);
    for key in [Key::Enter, Key::Enter, Key::Char('v'), Key::Char('?')] {
        for (width, height) in [(1, 1), (59, 12), (60, 12), (80, 24), (81, 13), (200, 50)] {
            let text = screen(&state, width, height);
            let is_hostile = |it: char| (it.is_control() && it != '\n') || it == '\u{202e}';
            assert!(!text.chars().any(is_hostile), "{text:?}");
        }
        state.list(14390, Ok(listing()));
        typed(&mut state, &[key]);
    }
    let too_small = screen(&state, 59, 12);
    assert!(too_small.contains("make it 60x12"), "{too_small}");
}

#[test]
fn colours_only_where_they_are_wanted() {
    let painted = |color| {
        let look = Look { color, ..LOOK };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(&state(look), frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let plain = ratatui::style::Style::reset().fg;
        buffer
            .content
            .iter()
            .any(|cell| Some(cell.fg) != plain || !cell.modifier.is_empty())
    };
    assert!(painted(true));
    assert!(!painted(false));
}
