//! Bytes that somebody else chose, made safe to print: process titles, unix socket names.

use std::fmt::Write as _;

/// Text with control characters, backslashes and bytes that are not UTF-8 as `\n`, `\\`, `\xHH`,
/// and characters that reorder or hide text as `\u{…}`.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                character if character.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", character as u32);
                }
                character if is_deceptive(character) => {
                    let _ = write!(out, "\\u{{{:x}}}", character as u32);
                }
                character => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Text that should be escaped already, made safe in any case: backslashes stay as they are.
#[must_use]
pub fn printable(text: &str) -> String {
    text.split('\\')
        .map(|part| escaped(part.as_bytes()))
        .collect::<Vec<_>>()
        .join("\\")
}

/// C1 controls, bidirectional overrides and isolates, zero-width, blank and line-separating
/// characters, and tags.
const fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{180e}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::{escaped, printable};

    #[test]
    fn prints_plain_text_as_it_is() {
        assert_eq!(escaped("/run/app é.sock".as_bytes()), "/run/app é.sock");
    }

    #[test]
    fn escapes_what_a_terminal_would_act_on() {
        assert_eq!(escaped(b"a\x1b[31m\nb\x7f\\"), "a\\x1b[31m\\nb\\x7f\\\\");
        assert_eq!(escaped("\u{202e}x\u{9b}".as_bytes()), "\\u{202e}x\\u{9b}");
        let invisible = "\u{180e}\u{3164}\u{e0041}";
        assert_eq!(
            escaped(invisible.as_bytes()),
            "\\u{180e}\\u{3164}\\u{e0041}"
        );
    }

    #[test]
    fn escapes_bytes_that_are_not_utf8() {
        assert_eq!(escaped(b"\xff/a\xc3"), "\\xff/a\\xc3");
    }

    #[test]
    fn what_is_escaped_already_stays() {
        let once = escaped(b"a\\b\n\xff");
        assert_eq!(printable(&once), once);
        assert_eq!(printable("x\u{1b}[2J\\"), "x\\x1b[2J\\");
    }
}
