//! Why an event was not counted. Each reason is itself counted.

/// Reasons, as indexes into the map of misses.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// The table of connections was full when a connection was born.
    ConnectionsFull = 0,
    /// There was no free row for a new listener.
    ListenersFull = 1,
    /// There was no free row for a new worker.
    WorkersFull = 2,
    /// `accept()` returned a connection whose listener could not be told.
    NoListener = 3,
    /// `accept()` returned a connection that is not followed (its birth was not counted).
    UntrackedAccept = 4,
    /// `accept()` returned a connection that had already been reset in the queue. By definition
    /// that is not an accept.
    ResetBeforeAccept = 5,
    /// The file descriptor that `accept()` returned could not be followed to its socket.
    UnreadableDescriptor = 6,
    /// A field of a kernel structure could not be read.
    UnreadableSocket = 7,
    /// `accept()` returned a socket of a protocol that is not followed (MPTCP, SCTP).
    OtherProtocol = 8,
    /// The row of a connection's listener had been given to another listener.
    StaleListener = 9,
    /// `accept()` returned a connection from the queue of a listener that had closed: it was left
    /// to another member of the group, which one cannot be told. It is counted on one of them, or,
    /// while none is known, on the one that has closed.
    LeftToAnother = 10,
    /// There was no room for a thread that reads or answers.
    ThreadsFull = 11,
}

/// Every reason, in the order of the map.
pub const ALL: [Miss; 12] = [
    Miss::ConnectionsFull,
    Miss::ListenersFull,
    Miss::WorkersFull,
    Miss::NoListener,
    Miss::UntrackedAccept,
    Miss::ResetBeforeAccept,
    Miss::UnreadableDescriptor,
    Miss::UnreadableSocket,
    Miss::OtherProtocol,
    Miss::StaleListener,
    Miss::LeftToAnother,
    Miss::ThreadsFull,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_map() {
        for (index, miss) in ALL.iter().enumerate() {
            assert_eq!(*miss as usize, index);
        }
    }
}
