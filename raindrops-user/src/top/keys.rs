//! Keys, and what they are for.

/// A key that means something, whatever terminal it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Left,
    Right,
    Enter,
    Escape,
    Backspace,
    Char(char),
    /// Ctrl-C.
    Interrupt,
}

/// For the screen of help: keys, and what they do.
pub(super) const HELP: [(&str, &str); 10] = [
    (
        "up, down, j, k",
        "choose a row; PgUp, PgDn, Home and End too",
    ),
    ("Enter", "a listener's workers, a worker's connections"),
    (
        "Esc, Backspace",
        "back; out of the past; without the filter",
    ),
    ("left, right", "a second back in time, and forward"),
    ("[, ]", "a minute back in time, and forward; End or n: now"),
    ("s, S", "next order of rows, and the one before"),
    (
        "/",
        "only listeners whose address, server or namespace has a text in it",
    ),
    ("p, space", "pause: figures are still taken, and not shown"),
    ("v", "all verdicts, what to do, and what is missing"),
    ("?, q, Ctrl-C", "this help; the end"),
];
