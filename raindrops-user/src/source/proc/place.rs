//! What a thread is at: parsers for `/proc/PID/task/TID/syscall` and `wchan`.
//!
//! Apart because only here a number is given the name of a system call. They take bytes and open
//! nothing; whatever does not parse is absent.

use syscalls::Sysno;

use super::stat::{number, words};

/// Longest name of a kernel function that is believed to be one (KSYM_NAME_LEN is 512, and no
/// function that is waited in comes near).
const NAME: usize = 128;
/// A stack that begins below is that of a 32-bit program, whose system calls have other numbers.
const ADDRESSES_OF_32_BITS: u64 = 1 << 32;

/// The system call of `NUMBER ARGUMENT… STACK PROGRAM`: six arguments. `None` for a thread that
/// runs, or was interrupted outside of one (-1).
pub(super) fn syscall(bytes: &[u8]) -> Option<String> {
    let fields: Vec<&[u8]> = words(bytes).take(10).collect();
    let [id, _, _, _, _, _, _, stack, _] = fields[..] else {
        return None;
    };
    let id: u32 = number(id)?;
    let stack = std::str::from_utf8(stack.strip_prefix(b"0x")?).ok()?;
    let is_native = u64::from_str_radix(stack, 16).ok()? >= ADDRESSES_OF_32_BITS;
    let known = usize::try_from(id)
        .ok()
        .filter(|_| is_native)
        .and_then(Sysno::new);
    Some(known.map_or_else(|| format!("syscall {id}"), |known| known.name().to_owned()))
}

/// The kernel function that a thread waits in; `None` for one that runs, and where it is hidden.
pub(super) fn wchan(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?.trim_end();
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'));
    let is_told = is_name && !name.is_empty() && name != "0" && name.len() <= NAME;
    is_told.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{syscall, wchan};

    #[test]
    fn names_a_system_call() {
        let garbage = [b"\xff \0 7".to_vec(), b"7".repeat(4096), b"7 ".repeat(4096)];
        for (bytes, expected) in [
            (&b"running\n"[..], None),
            (b"-1 0x7ffefe9c7c38 0x7f0a495a2503\n", None),
            (
                b"7 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffefe9c7c38 0x7f0a495a2503\n",
                Some(if cfg!(target_arch = "x86_64") {
                    "poll"
                } else {
                    "fsetxattr"
                }),
            ),
            // A 32-bit program's number 7 is another one.
            (
                b"7 0x1 0x2 0x0 0x0 0x0 0x0 0xffffcc38 0xf7f32503\n",
                Some("syscall 7"),
            ),
            (
                b"9999 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffefe9c7c38 0x7f0a495a2503\n",
                Some("syscall 9999"),
            ),
            (
                b"7 0x1 0x2 0x0 0x0 0x0 0x0 7ffefe9c7c38 0x7f0a495a2503",
                None,
            ),
            (b"7 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffefe9c7c38", None),
            (b"7 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffefe9c7c38 0x1 0x2", None),
            (
                b"99999999999 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffefe9c7c38 0x1",
                None,
            ),
            (b"", None),
            (&garbage[0], None),
            (&garbage[1], None),
            (&garbage[2], None),
        ] {
            let shown = bytes.escape_ascii();
            assert_eq!(syscall(bytes), expected.map(str::to_owned), "{shown}");
        }
    }

    #[test]
    fn names_a_kernel_function() {
        for (bytes, expected) in [
            (&b"do_signal_stop"[..], Some("do_signal_stop")),
            (
                b"rpc_wait_bit_killable.isra.0\n",
                Some("rpc_wait_bit_killable.isra.0"),
            ),
            (b"0", None),
            (b"0\n", None),
            (b"", None),
            (b"a b", None),
            (b"\x1b[31m", None),
            (b"\xff", None),
            (&b"a".repeat(129), None),
        ] {
            let shown = bytes.escape_ascii();
            assert_eq!(wchan(bytes), expected.map(str::to_owned), "{shown}");
        }
    }
}
