//! Files that an operator names: read at once and whole, whatever is really at the path.
//!
//! Apart from what is in them because what goes wrong is the same for all.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use thiserror::Error;

#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot read {what}: {error}; check the path and its mode")]
    Read {
        what: &'static str,
        error: io::Error,
    },
    #[error("not a regular file; pass the path of {what}")]
    Kind { what: &'static str },
    #[error("{what} has at most {} KiB; check the path", most >> 10)]
    TooLarge { what: &'static str, most: u64 },
}

/// `what` it should be, for errors; `most`: bytes.
///
/// # Errors
/// When it cannot be read, is no regular file, is larger or is no UTF-8.
pub fn read(path: &Path, what: &'static str, most: u64) -> Result<String, FileError> {
    let failed = |error| FileError::Read { what, error };
    let file = File::options()
        .read(true)
        // A FIFO without a writer would make this wait for one.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(FileError::Kind { what });
    }
    let mut text = String::new();
    file.take(most + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > most {
        return Err(FileError::TooLarge { what, most });
    }
    Ok(text)
}
