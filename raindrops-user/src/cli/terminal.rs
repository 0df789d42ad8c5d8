//! Standard output and error as this process finds them.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use raindrops_user::{escape::printable, render::text::Style};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// Width where a terminal does not tell its own.
const USUAL_WIDTH: usize = 80;

/// Coloured and fitted for a terminal, plain and whole for anything else.
pub fn style() -> Style {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return Style::default();
    }
    let width = rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|width| *width > 0);
    Style {
        color: shows_color(),
        width: Some(width.unwrap_or(USUAL_WIDTH)),
    }
}

/// Whether colours are wanted, and can be shown.
pub fn shows_color() -> bool {
    let no_color = env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let dumb = env::var_os("TERM").is_none_or(|it| it == "dumb");
    !no_color && !dumb
}

/// Whether the locale has more than ASCII.
pub fn shows_unicode() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let mut values = names.iter().filter_map(env::var_os);
    let locale = values.find(|it| !it.is_empty()).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
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

/// Waits this long, or until nobody reads standard output any more: then it is `false`.
pub fn is_read_for(time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let stdout = io::stdout();
        // Errors and hang-ups are told unasked.
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let left = Timespec::try_from(left).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return true,
            Ok(_) => return false,
            // By a stop and its end.
            Err(Errno::INTR) => {}
            Err(_) => {
                thread::sleep(end.saturating_duration_since(Instant::now()));
                return true;
            }
        }
    }
}
