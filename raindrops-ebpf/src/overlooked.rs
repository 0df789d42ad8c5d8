//! What an entry of the table of connections has missed, told from the socket at its address.
//!
//! The kernel announces a change of state before it makes it, so an entry is never behind its
//! socket, unless an event was not handed to the programs. Only an accept is told after the fact.

use crate::connection::event;

/// States of a socket that matter here, `include/net/tcp_states.h`.
mod state {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_RECV: u32 = 3;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LISTEN: u32 = 10;
}

/// The state of a socket that is gone: it had this one when it was freed.
pub const GONE: u32 = 7;

/// Entries that are looked at in one run.
pub const LOOKS: u32 = 64;

/// An event that an entry has missed.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overlooked {
    Nothing = 0,
    /// `accept()` has returned it.
    Accept = 1,
    /// The client has sent its FIN.
    HalfClose = 2,
    /// The server has closed it, or it was reset; its socket may still be there.
    End = 3,
    /// Its end was counted, and its socket is gone since.
    Removal = 4,
}

/// One entry to look at, and what was found. User space gives the key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub key: u64,
    /// Of the entry; tells it from a later one at the same address.
    pub born_ns: u64,
    /// A value of [`Overlooked`].
    pub overlooked: u64,
}

const _: () = assert!(size_of::<Look>() == 24);

impl Look {
    /// An entry that has not been looked at.
    #[must_use]
    pub const fn at(key: u64) -> Self {
        Self {
            key,
            born_ns: 0,
            overlooked: Overlooked::Nothing as u64,
        }
    }
}

/// What an entry with these events has missed when its socket is in this state. `has_process`: a
/// process has the socket, and not as a further path of an MPTCP connection.
#[inline(always)]
#[must_use]
pub const fn overlooked(events: u64, state: u32, has_process: bool) -> Overlooked {
    let is_accepted = events & event::ACCEPTED != 0;
    match state {
        // A child is a copy of its listener until it has been announced.
        state::LISTEN if !is_accepted => Overlooked::Nothing,
        state::ESTABLISHED | state::SYN_RECV | state::CLOSE_WAIT => {
            if events & event::CLOSED != 0 {
                Overlooked::Nothing
            } else if state == state::CLOSE_WAIT && events & event::HALF_CLOSED == 0 {
                Overlooked::HalfClose
            } else if has_process && !is_accepted {
                Overlooked::Accept
            } else {
                Overlooked::Nothing
            }
        }
        _ if events & event::CLOSED == 0 => Overlooked::End,
        GONE => Overlooked::Removal,
        _ => Overlooked::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::{GONE, Overlooked, overlooked, state};
    use crate::connection::event::{ACCEPTED, CLOSED, HALF_CLOSED};

    const SYN_SENT: u32 = 2;
    const FIN_WAIT1: u32 = 4;
    const FIN_WAIT2: u32 = 5;
    const LAST_ACK: u32 = 9;
    const CLOSING: u32 = 11;
    const GARBAGE: u32 = 200;

    #[test]
    fn an_entry_that_is_up_to_date_has_missed_nothing() {
        for (events, state, has_process) in [
            (0, state::LISTEN, false),
            (0, state::SYN_RECV, false),
            (0, state::ESTABLISHED, false),
            (HALF_CLOSED, state::CLOSE_WAIT, false),
            (ACCEPTED, state::SYN_RECV, true),
            (ACCEPTED, state::ESTABLISHED, true),
            (ACCEPTED | HALF_CLOSED, state::CLOSE_WAIT, true),
            (ACCEPTED | CLOSED, FIN_WAIT1, true),
            (ACCEPTED | CLOSED, FIN_WAIT2, false),
            (ACCEPTED | CLOSED, CLOSING, false),
            (ACCEPTED | HALF_CLOSED | CLOSED, LAST_ACK, false),
            (CLOSED, LAST_ACK, false),
            // Another has the memory; it will be told of the end of that one.
            (ACCEPTED | CLOSED, SYN_SENT, true),
        ] {
            let found = overlooked(events, state, has_process);
            assert_eq!(found, Overlooked::Nothing, "{events} {state} {has_process}");
        }
    }

    #[test]
    fn an_entry_that_is_ahead_of_its_socket_has_missed_nothing() {
        for (events, state) in [
            (ACCEPTED | HALF_CLOSED, state::ESTABLISHED),
            (ACCEPTED | CLOSED, state::ESTABLISHED),
            (ACCEPTED | CLOSED, state::CLOSE_WAIT),
            (CLOSED, state::SYN_RECV),
        ] {
            let found = overlooked(events, state, true);
            assert_eq!(found, Overlooked::Nothing, "{events} {state}");
        }
    }

    #[test]
    fn what_was_missed_is_told() {
        for (events, state, has_process, expected) in [
            (0, state::ESTABLISHED, true, Overlooked::Accept),
            (0, state::SYN_RECV, true, Overlooked::Accept),
            (HALF_CLOSED, state::CLOSE_WAIT, true, Overlooked::Accept),
            (0, state::CLOSE_WAIT, true, Overlooked::HalfClose),
            (0, state::CLOSE_WAIT, false, Overlooked::HalfClose),
            (ACCEPTED, state::CLOSE_WAIT, true, Overlooked::HalfClose),
            (ACCEPTED, FIN_WAIT1, false, Overlooked::End),
            (ACCEPTED, FIN_WAIT2, true, Overlooked::End),
            (ACCEPTED, LAST_ACK, false, Overlooked::End),
            (ACCEPTED, CLOSING, false, Overlooked::End),
            (ACCEPTED, GONE, true, Overlooked::End),
            (0, GONE, false, Overlooked::End),
            (ACCEPTED | HALF_CLOSED, GONE, false, Overlooked::End),
            (ACCEPTED, state::LISTEN, true, Overlooked::End),
            (ACCEPTED, SYN_SENT, true, Overlooked::End),
            (ACCEPTED, GARBAGE, false, Overlooked::End),
            (ACCEPTED | CLOSED, GONE, false, Overlooked::Removal),
            (CLOSED, GONE, true, Overlooked::Removal),
        ] {
            let found = overlooked(events, state, has_process);
            assert_eq!(found, expected, "{events} {state} {has_process}");
        }
    }
}
