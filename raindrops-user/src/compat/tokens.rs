//! The file of tokens for pumactl: which token asks for which server.
//!
//! pumactl can send nothing but a token, so that has to name the server. A token is a secret: it is in
//! no error, no log and no answer.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    config::Token,
    settings_file::{self, FileError},
};

/// Bytes of the file, and lines with a token.
const LARGEST: u64 = 64 << 10;
const MOST: usize = 256;
/// What a request's target cannot carry, or what ends a token in it.
const NOT_IN_A_QUERY: [char; 6] = ['"', '<', '>', '#', '&', ';'];

#[derive(Debug, Error)]
pub enum TokensError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: FileError },
    #[error("{}: line {line}: {message}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        message: String,
    },
}

/// Tokens and what they ask for: the id or the kind of a server, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<(Token, String)>);

impl Tokens {
    /// Lines of a token, blanks, and what it names; empty lines, and comments that begin with `#`.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is not understood.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let text = settings_file::read(path, "the file of tokens", LARGEST);
        let text = text.map_err(|error| TokensError::File {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text).map_err(|(line, message)| TokensError::Line {
            path: path.to_owned(),
            line,
            message,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut tokens: Vec<(Token, String)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |message: &str| (number, message.to_owned());
            let (token, target) = line
                .split_once(char::is_whitespace)
                .ok_or_else(|| wrong("write a token, a blank, and the server that it asks for"))?;
            let token = Token::new(token.to_owned()).map_err(wrong)?;
            if token.secret().contains(NOT_IN_A_QUERY) {
                return Err(wrong("token has a character that no request can carry"));
            }
            if tokens.iter().any(|(other, _)| *other == token) {
                return Err(wrong("this token has a line above"));
            }
            tokens.push((token, target.trim().to_owned()));
            if tokens.len() > MOST {
                return Err(wrong("there are more than 256 tokens"));
            }
        }
        Ok(Self(tokens))
    }

    /// What a token names. Takes as long for one that is nearly right as for any other of its length.
    #[must_use]
    pub fn target(&self, given: &str) -> Option<&str> {
        let mut found = None;
        for (token, target) in &self.0 {
            if is_same(token.secret().as_bytes(), given.as_bytes()) {
                found = Some(target.as_str());
            }
        }
        found
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// Looks at all bytes whatever the first are. A token is never empty.
fn is_same(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = secret.len() ^ given.len();
    for (byte, other) in given.iter().zip(secret.iter().cycle()) {
        difference |= usize::from(byte ^ other);
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Tokens, is_same};

    #[test]
    fn lines_are_understood() {
        let text = "# of the shop\n\ntok3n unicorn\r\n  t2\t/run/my app.sock  \nt3 puma:14\n#t4 x";
        let tokens = Tokens::parse(text).unwrap();
        for (token, target) in [
            ("tok3n", Some("unicorn")),
            ("t2", Some("/run/my app.sock")),
            ("t3", Some("puma:14")),
            ("t4", None),
            ("#t4", None),
            ("tok3", None),
            ("tok3nn", None),
            ("tok3ntok3n", None),
            ("", None),
        ] {
            assert_eq!(tokens.target(token), target, "{token}");
        }
        assert_eq!(tokens.len(), 3);
        assert!(Tokens::parse("").unwrap().is_empty());
    }

    /// Check that mistakes are named by their lines, and that no message holds a token.
    #[test]
    fn mistakes_are_named_without_the_token() {
        let many: String = (0..257).map(|n| format!("s3cret{n} puma\n")).collect();
        let long = format!("{} puma", "s3cret".repeat(200));
        for (text, line, message) in [
            ("s3cret", 1, "write a token, a blank"),
            ("#\ns3cret ", 2, "write a token, a blank"),
            ("a puma\ns3cr&t puma", 2, "that no request can carry"),
            ("s3crét puma", 1, "that no request can carry"),
            ("s3cret puma\ns3cret unicorn", 2, "has a line above"),
            (&long, 1, "over 1024 characters"),
            (&many, 257, "more than 256"),
        ] {
            let (number, told) = Tokens::parse(text).unwrap_err();
            assert_eq!(number, line, "{told}");
            assert!(told.contains(message), "{told}");
            assert!(!told.contains("s3cr"), "{told}");
        }
        let shown = format!("{:?}", Tokens::parse("s3cret puma").unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let refused = |path: &Path| Tokens::read(path).unwrap_err().to_string();
        let told = refused(&path);
        assert!(told.contains("cannot read the file of tokens"), "{told}");
        let told = refused(directory.path());
        assert!(told.contains("not a regular file"), "{told}");
        std::fs::write(&path, "#".repeat(70_000)).unwrap();
        let told = refused(&path);
        assert!(told.contains("at most 64 KiB"), "{told}");
        std::fs::write(&path, "a puma\nb").unwrap();
        let told = refused(&path);
        assert!(told.ends_with("line 2: write a token, a blank, and the server that it asks for"));
    }

    #[test]
    fn bytes_are_compared_to_the_end() {
        for (secret, given, same) in [
            ("ab", "ab", true),
            ("ab", "aa", false),
            ("ab", "abab", false),
            ("ab", "a", false),
            ("ab", "", false),
        ] {
            assert_eq!(is_same(secret.as_bytes(), given.as_bytes()), same);
        }
    }
}
