//! Standard output and error as this process finds them.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use raindrops_user::{escape::printable, render::text::Style};

/// Width where a terminal does not tell its own.
const USUAL_WIDTH: usize = 80;

/// Coloured and fitted for a terminal, plain and whole for anything else.
pub fn style() -> Style {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return Style::default();
    }
    let no_color = env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let dumb = env::var_os("TERM").is_none_or(|it| it == "dumb");
    let width = rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|width| *width > 0);
    Style {
        color: !no_color && !dumb,
        width: Some(width.unwrap_or(USUAL_WIDTH)),
    }
}

/// A reader that has seen enough (`head`) is no failure; it is `false`.
pub fn print(bytes: &[u8]) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// What a person should know and a pipe must not get.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "raindrops: {}", printable(text));
}
