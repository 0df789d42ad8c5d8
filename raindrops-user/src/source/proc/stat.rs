//! Parsers for `/proc/PID/stat`, which those of threads are like, `status`, `schedstat`, `limits`, and
//! for `/proc/stat`.
//!
//! Apart because they take bytes and nothing else: nothing here opens a file. Whatever does not
//! parse is absent.

use crate::ids::{Pid, StartTicks};

/// What `/proc/PID/stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub comm: Vec<u8>,
    pub state: char,
    pub parent: Pid,
    pub threads: Option<u32>,
    pub started: StartTicks,
}

/// What `/proc/PID/status` says and `stat` does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub ns_pid: Option<Pid>,
    /// Effective.
    pub uid: Option<u32>,
}

/// The comm may hold anything, also parentheses and newlines: it ends at the last `)`.
pub(super) fn stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let comm = bytes.get(open + 1..close)?.to_vec();
    let mut fields = words(bytes.get(close + 1..)?);
    let state = char::from(*fields.next()?.first()?);
    let parent = Pid(number(fields.next()?)?);
    // Fields count from 1 and the state is the third, the parent the fourth.
    let threads = number(fields.nth(20 - 5)?);
    let started = StartTicks(number(fields.nth(22 - 21)?)?);
    Some(Stat {
        comm,
        state,
        parent,
        threads,
        started,
    })
}

pub(super) fn status(bytes: &[u8]) -> Status {
    let mut status = Status::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Some(pids) = line.strip_prefix(b"NSpid:") {
            status.ns_pid = words(pids).last().and_then(number).map(Pid);
        } else if let Some(uids) = line.strip_prefix(b"Uid:") {
            status.uid = words(uids).nth(1).and_then(number);
        }
    }
    status
}

/// How often a thread has got a processor, by its `schedstat`: times running and waiting, and this.
/// Zeroes are what a kernel writes that does not count.
pub(super) fn runs(bytes: &[u8]) -> Option<u64> {
    let fields: Vec<&[u8]> = words(bytes).take(4).collect();
    let [_, _, runs] = fields[..] else {
        return None;
    };
    number(runs).filter(|runs| *runs != 0)
}

/// How many descriptors a process may have: the soft limit of `/proc/PID/limits`.
pub(super) fn descriptor_limit(bytes: &[u8]) -> Option<u64> {
    bytes
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Max open files "))
        .and_then(|limits| words(limits).next())
        .and_then(number)
}

/// Boot time in seconds since the epoch.
pub(super) fn boot_time(bytes: &[u8]) -> Option<u64> {
    bytes
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"btime "))
        .and_then(number)
}

/// Pids separated by white space, as in `/proc/PID/task/TID/children`.
pub(super) fn pids(bytes: &[u8]) -> impl Iterator<Item = Pid> {
    words(bytes).filter_map(number).map(Pid)
}

/// The command line as one text: NULs become spaces, trailing ones go.
pub(super) fn title(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b' '))
        .map_or(0, |last| last + 1);
    bytes.truncate(end);
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    bytes
}

pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

pub(super) fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Stat, Status, boot_time, descriptor_limit, pids, runs, stat, status, title};
    use crate::ids::{Pid, StartTicks};

    /// Linux 6.18, a puma worker; only the comm differs.
    fn line(comm: &str) -> Vec<u8> {
        format!(
            "8798 ({comm}) S 8720 8710 8704 0 -1 4194368 9310 0 0 0 41 9 0 0 20 0 8 0 1234567 \
             214568960 12000 18446744073709551615 1 1 0 0 0 0 0 4096 1107394127 0 0 0 17 1 0 0 0 0 \
             0 0 0 0 0 0 0 0 0\n"
        )
        .into_bytes()
    }

    #[test]
    fn reads_stat_whatever_the_comm_is() {
        for comm in ["puma", "a) S 1 (b", "tmux: server", "x\ny", "", ")", "(("] {
            let expected = Stat {
                comm: comm.into(),
                state: 'S',
                parent: Pid(8720),
                threads: Some(8),
                started: StartTicks(1_234_567),
            };
            assert_eq!(stat(&line(comm)), Some(expected), "{comm}");
        }
    }

    #[test]
    fn refuses_a_stat_that_is_cut() {
        let whole = line("puma");
        for text in [
            &b""[..],
            b"8798",
            b"8798 (puma",
            b")(",
            b"8798 (puma) S",
            &whole[..60],
        ] {
            assert_eq!(stat(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn reads_status() {
        let text =
            b"Name:\tpuma\nUmask:\t0022\nUid:\t0\t33\t0\t33\nGroups:\t0 \nNSpid:\t8798\t70\t7\n";
        let expected = Status {
            ns_pid: Some(Pid(7)),
            uid: Some(33),
        };
        assert_eq!(status(text), expected);
        assert_eq!(status(b"Name:\tpuma\nNSpid:\nUid:\t0"), Status::default());
    }

    #[test]
    fn reads_how_often_a_thread_has_run() {
        for (bytes, expected) in [
            (&b"152326187 12647898 399\n"[..], Some(399)),
            (b"0 0 0\n", None),
            (b"1 2", None),
            (b"1 2 3 4", None),
            (b"1 2 -3", None),
            (b"", None),
            (b"\xff", None),
        ] {
            assert_eq!(runs(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn reads_the_limit_of_descriptors() {
        let head =
            "Limit                     Soft Limit           Hard Limit           Units     \n";
        for (line, expected) in [
            (
                "Max open files            20000                1048576              files     \n",
                Some(20_000),
            ),
            (
                "Max open files            unlimited            unlimited            files     \n",
                None,
            ),
            ("Max open files            -1 5 files\n", None),
            (
                "Max open files            99999999999999999999 5 files\n",
                None,
            ),
            ("Max open files", None),
            ("Max open filesystems 5 5 files\n", None),
            ("", None),
        ] {
            let text = format!("{head}{line}Max locked memory  8388608 8388608 bytes \n");
            assert_eq!(descriptor_limit(text.as_bytes()), expected, "{line}");
        }
        assert_eq!(descriptor_limit(b"\xff\0"), None);
    }

    #[test]
    fn reads_the_boot_time() {
        assert_eq!(
            boot_time(b"cpu  1 2\nctxt 5\nbtime 1795316000\nprocesses 9\n"),
            Some(1_795_316_000)
        );
        assert_eq!(boot_time(b"cpu  1 2\n"), None);
    }

    #[test]
    fn reads_children() {
        assert_eq!(
            pids(b"8798 8801 ").collect::<Vec<_>>(),
            [Pid(8798), Pid(8801)]
        );
        assert_eq!(pids(b"").count(), 0);
    }

    #[test]
    fn makes_a_title_of_a_command_line() {
        for (line, expected) in [
            (
                &b"nginx: worker process\0\0\0\0"[..],
                &b"nginx: worker process"[..],
            ),
            (b"python3\0-m\0gunicorn\0", b"python3 -m gunicorn"),
            (b"\xff\0\n\0", b"\xff \n"),
            (b"\0\0", b""),
            (b"", b""),
        ] {
            assert_eq!(title(line.to_vec()), expected);
        }
    }
}
