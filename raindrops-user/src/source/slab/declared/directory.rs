//! The directory in which applications publish their slabs: `/run/raindrops/slabs/UID/`.
//!
//! Everybody may write into his own part of it, and nobody into another's: a part counts only if it
//! belongs to the user that it is named after and is closed to all others.

use std::{
    ffi::{CStr, OsString},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, RawDir, ResolveFlags, fstat, open, openat2},
    io::Errno,
};

use super::{DeclaredError, Found, MOST, file};

/// What is in the directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// One of each user in turn, each user's in the order of their names.
    pub files: Vec<(PathBuf, Result<Found, DeclaredError>)>,
    /// Parts that do not count, and why.
    pub refused: Vec<(PathBuf, String)>,
    /// Files were left out because there are more than [`MOST`].
    pub beyond: bool,
}

/// Opens every file of every user's part of a directory. One that is not there is empty.
#[must_use]
pub fn list(root: &Path) -> Listing {
    let mut listing = Listing::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match open(root, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return listing,
        Err(errno) => {
            listing.refused.push((root.to_owned(), errno.to_string()));
            return listing;
        }
    };
    let mut parts = Vec::new();
    for name in names(&directory, &mut listing.beyond) {
        let path = root.join(&name);
        match part(&directory, &name) {
            Ok(part) => {
                let files = names(&part, &mut listing.beyond);
                parts.push((part, path, files.into_iter()));
            }
            Err(why) => listing.refused.push((path, why)),
        }
    }
    // One of each user in turn, so that nobody's many hide another's.
    while !parts.is_empty() {
        parts.retain_mut(|(part, path, files)| {
            let Some(name) = files.next() else {
                return false;
            };
            if listing.files.len() >= MOST {
                listing.beyond = true;
                return false;
            }
            let found = file::open(Some(part.as_fd()), Path::new(&name));
            listing.files.push((path.join(name), found));
            true
        });
    }
    listing
}

/// The part of one user.
fn part(directory: &OwnedFd, name: &OsString) -> Result<OwnedFd, String> {
    let uid: u32 = name
        .to_str()
        .and_then(|name| name.parse().ok())
        .ok_or("its name is not a user's number")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let part = openat2(directory, name, flags, Mode::empty(), resolve)
        .map_err(|errno| errno.to_string())?;
    let stat = fstat(&part).map_err(|errno| errno.to_string())?;
    if stat.st_uid != uid {
        return Err(format!("it belongs to user {}", stat.st_uid));
    }
    match stat.st_mode & 0o077 {
        0 => Ok(part),
        _ => Err(format!(
            "others may use it (mode {:o}): chmod 700",
            stat.st_mode & 0o777
        )),
    }
}

/// Names that do not begin with a dot, in their order; at most [`MOST`] of them. What is unfinished
/// has a dot.
fn names(directory: &OwnedFd, beyond: &mut bool) -> Vec<OsString> {
    let mut room = [MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(directory, &mut room);
    let mut names = Vec::new();
    while let Some(Ok(entry)) = entries.next() {
        if entry.file_name().to_bytes().starts_with(b".") {
            continue;
        }
        if names.len() >= MOST {
            *beyond = true;
            break;
        }
        names.push(owned(entry.file_name()));
    }
    names.sort();
    names
}

fn owned(name: &CStr) -> OsString {
    OsString::from_vec(name.to_bytes().to_vec())
}
