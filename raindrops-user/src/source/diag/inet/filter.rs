//! What the kernel checks of each socket before it lists it: the bytecode of inet_diag, of which we
//! use three words.
//!
//! Each operation is a conditional jump forward: by `yes` bytes where it holds, by `no` bytes where it
//! does not. A socket is listed when the end is reached exactly, and passed over when a jump leads
//! four bytes beyond it (`inet_diag_bc_run`). Every target has to lie on the way that leads through
//! all `yes` (`inet_diag_bc_audit`).

const JMP: u8 = 1;
/// Since Linux 4.16.
const S_EQ: u8 = 11;

/// Length of `struct inet_diag_bc_op`.
const OP: usize = 4;
/// A comparison, and the operation whose `no` is the port.
const COMPARISON: usize = 2 * OP;
/// A comparison, and the jump to the end where it holds.
const STEP: usize = COMPARISON + OP;

/// More ports than this would cost more for each socket than they spare.
const MOST_PORTS: usize = 256;

/// Sockets whose own port is one of these; `None` where there are none or too many to ask for.
pub(in crate::source::diag) fn at_ports(
    ports: impl ExactSizeIterator<Item = u16>,
) -> Option<Vec<u8>> {
    let count = ports.len();
    if count == 0 || count > MOST_PORTS {
        return None;
    }
    let length = count * STEP - OP;
    let mut code = Vec::with_capacity(length);
    for port in ports {
        // To the next step; from the last, four bytes beyond the end.
        op(&mut code, S_EQ, COMPARISON, STEP);
        op(&mut code, 0, 0, port.into());
        let left = length - code.len();
        if left > 0 {
            op(&mut code, JMP, OP, left);
        }
    }
    Some(code)
}

fn op(code: &mut Vec<u8>, kind: u8, yes: usize, no: usize) {
    // At most `MOST_PORTS` steps: all of it fits.
    code.extend_from_slice(&[kind, yes as u8]);
    code.extend_from_slice(&(no as u16).to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::{JMP, MOST_PORTS, OP, S_EQ, at_ports};

    fn code(ports: &[u16]) -> Vec<u8> {
        at_ports(ports.iter().copied()).unwrap()
    }

    // Numbers of the host's byte order, as a little-endian host has them.
    #[cfg(target_endian = "little")]
    #[test]
    fn ports_are_compared_one_after_the_other() {
        #[rustfmt::skip]
        let expected = [
            11, 8, 12, 0,           // S_EQ: on to the jump, or to the next comparison
            0, 0, 144, 31,          // port 8080
            1, 4, 12, 0,            // JMP: 12 bytes, to the end
            11, 8, 12, 0,           // S_EQ: to the end, or 4 bytes beyond it
            0, 0, 187, 1,           // port 443
        ];
        assert_eq!(code(&[8080, 443]), expected);
        assert_eq!(code(&[443]), expected[12..]);
    }

    /// `inet_diag_bc_run`.
    fn lists(code: &[u8], port: u16) -> bool {
        let mut at = 0;
        while at < code.len() {
            let no = |at: usize| u16::from_ne_bytes([code[at + 2], code[at + 3]]);
            let holds = match code[at] {
                S_EQ => no(at + OP) == port,
                JMP => false,
                other => panic!("operation {other}"),
            };
            at += if holds {
                usize::from(code[at + 1])
            } else {
                usize::from(no(at))
            };
        }
        at == code.len()
    }

    #[test]
    fn only_those_ports_are_listed() {
        let few: Vec<u16> = vec![80, 443, 8080, 65535];
        let many: Vec<u16> = (0..MOST_PORTS as u16).map(|it| it * 2).collect();
        for ports in [&few[..1], &few, &many] {
            let code = code(ports);
            for port in 0..=u16::MAX {
                assert_eq!(lists(&code, port), ports.contains(&port), "{port}");
            }
        }
    }

    #[test]
    fn too_many_ports_are_not_asked_for() {
        assert_eq!(at_ports([].into_iter()), None);
        assert_eq!(at_ports(vec![1; MOST_PORTS + 1].into_iter()), None);
    }
}
