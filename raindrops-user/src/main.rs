//! `raindrops`: parse, dispatch, print an error once, exit.

mod cli;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use raindrops_user::escape::printable;

fn main() -> ExitCode {
    use_one_heap();
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is gone, the exit code still tells.
            let _ = writeln!(io::stderr(), "raindrops: {}", lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Errors quote paths and files that somebody else wrote. Their lines stay lines.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Start-up takes 20 MB for an instant, most of it on the sampling thread. A heap of its own would
/// keep them; the shared one is given back.
fn use_one_heap() {
    // SAFETY: no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
