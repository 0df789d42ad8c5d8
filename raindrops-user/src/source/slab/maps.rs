//! `/proc/PID/maps`: which memory a process shares with others, and what it has loaded.
//!
//! A parser of bytes. A path in there is whatever somebody called his file; a newline in it is
//! `\012`, so a line is a line.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

use crate::snapshot::slabs::Memory;

/// Shared memory of a process that may be a slab: mapped from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub memory: Memory,
    pub address: u64,
    pub length: u64,
    /// `None` for memory without a name in the file system: anonymous, memfd, deleted.
    pub path: Option<PathBuf>,
    /// As it stands there, ` (deleted)` included.
    pub label: Vec<u8>,
}

/// What one process has mapped, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    pub shared: Vec<Mapping>,
    /// The extension of the Ruby library raindrops.
    pub has_raindrops: bool,
    /// A program called nginx.
    pub has_nginx: bool,
    /// The extension of the Ruby library for epoll.
    pub has_sleepy_penguin: bool,
    /// The loader of another C library than glibc.
    pub has_musl: bool,
}

/// Shared mappings of one process that are looked at.
const MOST: usize = 256;

impl Maps {
    /// Takes shared, writable mappings of at most `longest` bytes.
    #[must_use]
    pub fn parse(bytes: &[u8], longest: u64) -> Self {
        let mut maps = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(line) = Line::parse(line) else {
                continue;
            };
            let file = line.label.rsplit(|byte| *byte == b'/').next();
            let file = file.unwrap_or_default();
            maps.has_raindrops |= file == b"raindrops_ext.so";
            maps.has_sleepy_penguin |= file == b"sleepy_penguin_ext.so";
            maps.has_musl |= file.starts_with(b"ld-musl-");
            maps.has_nginx |= file == b"nginx" && line.rights[2] == b'x';
            let length = line.end.saturating_sub(line.start);
            let is_wanted = line.rights == *b"rw-s"
                && line.offset == 0
                && line.memory.inode != 0
                && (1..=longest).contains(&length)
                && maps.shared.len() < MOST;
            if is_wanted {
                maps.shared.push(Mapping {
                    memory: line.memory,
                    address: line.start,
                    length,
                    path: path(line.label),
                    label: line.label.to_vec(),
                });
            }
        }
        maps
    }
}

struct Line<'a> {
    start: u64,
    end: u64,
    rights: [u8; 4],
    offset: u64,
    memory: Memory,
    label: &'a [u8],
}

impl<'a> Line<'a> {
    /// `7f5e5415e000-7f5e5415f000 rw-s 00000000 00:01 1032       /dev/zero (deleted)`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let end = rest.iter().position(|byte| *byte == b' ');
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after.trim_ascii_start();
            core::str::from_utf8(word).ok()
        };
        let (start, end) = word()?.split_once('-')?;
        let rights = word()?.as_bytes().try_into().ok()?;
        let offset = word()?;
        let (major, minor) = word()?.split_once(':')?;
        let inode = word()?.parse().ok()?;
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            rights,
            offset: hex(offset)?,
            memory: Memory {
                major: u32::try_from(hex(major)?).ok()?,
                minor: u32::try_from(hex(minor)?).ok()?,
                inode,
            },
            label: rest,
        })
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Of a file that still has its name.
fn path(label: &[u8]) -> Option<PathBuf> {
    (label.starts_with(b"/") && !label.ends_with(b" (deleted)"))
        .then(|| OsString::from_vec(label.to_vec()).into())
}

#[cfg(test)]
mod tests {
    use super::{Mapping, Maps, Memory};

    const LINES: &[u8] =
        b"55d0c8a00000-55d0c8b00000 r-xp 00001000 08:01 131 /usr/sbin/nginx\n\
          7f0000000000-7f0000001000 rw-s 00000000 00:01 1032                       /dev/zero (deleted)\n\
          7f0000002000-7f0000004000 rw-s 00000000 00:1a 77 /run/my app.slab\n\
          7f0000005000-7f0000006000 rw-s 00001000 00:1a 78 /run/second-page\n\
          7f0000007000-7f0000008000 rw-p 00000000 00:1a 79 /run/private\n\
          7f0000009000-7f0000209000 rw-s 00000000 00:1a 80 /run/long\n\
          7f000000b000-7f000000c000 r--p 00000000 08:01 132 /usr/lib/ruby/raindrops_ext.so\n\
          7f000000c000-7f000000c800 r--p 00000000 08:01 133 /usr/lib/ruby/sleepy_penguin_ext.so\n\
          7f000000c800-7f000000d000 r-xp 00000000 08:01 134 /lib/ld-musl-x86_64.so.1\n\
          7f000000d000-7f000000e000 rw-p 00000000 00:00 0 \n\
          7f000000f000-7f0000010000 rw-s 00000000 fd:10 18446744073709551615 /memfd:a\\012b (deleted)\n\
          7fffffff0000-ffffffffffffffff ---p 00000000 00:00 0 [stack]\n";

    fn mapping(memory: (u32, u32, u64), address: u64, length: u64, label: &str) -> Mapping {
        let (major, minor, inode) = memory;
        Mapping {
            memory: Memory {
                major,
                minor,
                inode,
            },
            address,
            length,
            path: (!label.ends_with("(deleted)")).then(|| label.into()),
            label: label.as_bytes().to_vec(),
        }
    }

    #[test]
    fn shared_memory_that_begins_at_its_beginning_is_taken() {
        let expected = Maps {
            shared: vec![
                mapping(
                    (0, 1, 1032),
                    0x7f00_0000_0000,
                    0x1000,
                    "/dev/zero (deleted)",
                ),
                mapping((0, 0x1a, 77), 0x7f00_0000_2000, 0x2000, "/run/my app.slab"),
                mapping(
                    (0xfd, 0x10, u64::MAX),
                    0x7f00_0000_f000,
                    0x1000,
                    "/memfd:a\\012b (deleted)",
                ),
            ],
            has_raindrops: true,
            has_nginx: true,
            has_sleepy_penguin: true,
            has_musl: true,
        };
        assert_eq!(Maps::parse(LINES, 1 << 20), expected);
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        for bytes in [
            &b""[..],
            b"\n\n \n",
            b"zz-1 rw-s 0 00:01 1 /a",
            b"1-2 rw-s 0 00:01",
            b"1-2 rw-sx 0 00:01 1 /a",
            b"2-1 rw-s 0 00:01 1 /a",
            b"1-2 rw-s 0 0001 1 /a",
            b"\xff\xfe-1 rw-s 0 00:01 1 /a",
            b"1-fffffffffffffffff rw-s 0 00:01 1 /a",
        ] {
            assert_eq!(Maps::parse(bytes, 1 << 20), Maps::default());
        }
    }

    #[test]
    fn no_more_than_so_many_are_taken() {
        let line = b"1000-2000 rw-s 00000000 00:01 7 /a\n";
        let maps = Maps::parse(&line.repeat(1000), 1 << 20);
        assert_eq!(maps.shared.len(), super::MOST);
    }
}
