//! Who this process is, and whether another still lives.

use std::{fs, io, os::unix::fs::MetadataExt, string::String, vec::Vec};

use rustix::{
    io::Errno,
    process::{Pid, getpid, test_kill_process},
};

use crate::claim::{Occupant, Owner};

/// This process, in its own pid namespace.
///
/// # Errors
/// When `/proc` is not there.
pub fn own() -> io::Result<Owner> {
    let stat = fs::read("/proc/self/stat")?;
    let stat = Stat::parse(&stat).ok_or_else(|| io::Error::other("/proc/self/stat"))?;
    Ok(Owner {
        pid: own_pid(),
        started: stat.started,
    })
}

#[must_use]
pub fn own_pid() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Inode of this process's pid namespace.
///
/// # Errors
/// When `/proc` is not there.
pub fn own_pid_namespace() -> io::Result<u32> {
    let inode = fs::metadata("/proc/self/ns/pid")?.ino();
    u32::try_from(inode).map_err(io::Error::other)
}

/// Of this boot.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16)
        .map(u128::to_be_bytes)
        .map_err(io::Error::other)
}

/// Whether the occupant of a slot is no more. Where that cannot be told it lives. Its pid must be of
/// this process's pid namespace.
#[must_use]
pub fn is_dead(occupant: Occupant) -> bool {
    let (pid, started) = match occupant {
        Occupant::Nobody => return true,
        Occupant::Preparing(pid) => (pid, None),
        Occupant::Owner(owner) => (owner.pid, Some(owner.started)),
    };
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return true;
    };
    if test_kill_process(raw) == Err(Errno::SRCH) {
        return true;
    }
    // Another namespace's /proc has other processes under these numbers.
    let is_own_proc = fs::read_link("/proc/self")
        .is_ok_and(|link| link.to_str() == Some(&std::format!("{}", own_pid())));
    if !is_own_proc {
        return false;
    }
    let stat = fs::read(std::format!("/proc/{pid}/stat")).ok();
    stat.and_then(|stat| Stat::parse(&stat))
        .is_some_and(|stat| stat.is_zombie || started.is_some_and(|it| it != stat.started))
}

/// Of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    started: u64,
    /// All of it, and not only its first thread.
    is_zombie: bool,
}

impl Stat {
    fn parse(bytes: &[u8]) -> Option<Self> {
        // The name before it may contain anything.
        let end = bytes.iter().rposition(|byte| *byte == b')')?;
        let rest = core::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let threads: u64 = fields.get(17)?.parse().ok()?;
        Some(Self {
            started: fields.get(19)?.parse().ok()?,
            is_zombie: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Stat, is_dead, own, own_pid};
    use crate::claim::{Occupant, Owner};

    fn stat(state: &str, threads: u32) -> Option<Stat> {
        let line = std::format!(
            "7 (a) b) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 4242 1 2\n"
        );
        Stat::parse(line.as_bytes())
    }

    #[test]
    fn a_zombie_is_one_whose_threads_have_all_ended() {
        for (state, threads, is_zombie) in [("S", 1, false), ("Z", 1, true), ("Z", 3, false)] {
            let expected = Stat {
                started: 4242,
                is_zombie,
            };
            assert_eq!(stat(state, threads), Some(expected));
        }
        assert_eq!(Stat::parse(b"7 (a"), None);
        assert_eq!(Stat::parse(b"7 (a) S 1"), None);
    }

    #[test]
    fn this_process_lives_and_one_of_another_start_does_not() -> std::io::Result<()> {
        let me = own()?;
        assert!(!is_dead(Occupant::Owner(me)));
        assert!(!is_dead(Occupant::Preparing(own_pid())));
        let before = Owner {
            started: me.started + 1,
            ..me
        };
        assert!(is_dead(Occupant::Owner(before)));
        assert!(is_dead(Occupant::Preparing(u32::MAX)));
        Ok(())
    }

    #[test]
    fn a_child_that_nobody_has_waited_for_is_dead() -> std::io::Result<()> {
        let mut child = std::process::Command::new("true").spawn()?;
        let occupant = Occupant::Preparing(child.id());
        while !is_dead(occupant) {
            std::thread::yield_now();
        }
        child.wait()?;
        assert!(is_dead(occupant));
        Ok(())
    }
}
