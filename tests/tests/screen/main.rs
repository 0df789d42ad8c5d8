//! What a person sees: `top` and `show` on a real terminal, beside real servers under load.

mod alone;
mod ending;
mod show;
mod top;

/// As small as terminals usually are, and as large.
const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);

const ESCAPE: &str = "\x1b";
const ENTER: &str = "\r";
const LEFT: &str = "\x1b[D";
