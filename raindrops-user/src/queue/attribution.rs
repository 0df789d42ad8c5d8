//! Whose overflows they were: shares the rise of the namespace's ListenOverflows among its listeners.
//!
//! The kernel counts an overflow in ListenOverflows of the namespace and in sk_drops of the listener:
//! once for a SYN (`tcp_conn_request`), but twice in sk_drops for a final ACK (`tcp_v4_syn_recv_sock`,
//! then `tcp_v4_rcv`; seen on 6.18,
//! <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_ipv4.c>). sk_drops also counts other
//! drops, with TCP_DEFER_ACCEPT one for every healthy connection. So a listener's overflows are at
//! most its drops, all listeners' together at most the counter's rise, and they happen only while a
//! queue is full.
//!
//! Pure arithmetic over one interval; what is remembered between intervals is the ledger's.

/// How much sk_drops rises by an overflow, at most.
const DROPS_PER_OVERFLOW: u64 = 2;

/// What one listener shows of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// Rise of its sk_drops.
    pub(super) drops: u64,
    /// Its queue was longer than its limit at an end of the interval.
    pub(super) full: bool,
    /// It was at least as long.
    pub(super) at_limit: bool,
    /// Known to drop without overflowing.
    pub(super) defers: bool,
    /// What the interval before would have given it.
    pub(super) pending: Pending,
}

impl Claim {
    /// Gets nothing where there is nothing to share out.
    pub(super) const fn claims_nothing(&self) -> bool {
        self.drops == 0 && self.pending.overflows == 0
    }
}

/// Overflows of a healthy-looking listener, which gets them in the next interval unless the drops of
/// a likelier one show by then: the counter is read after the dump, so somebody else's overflow may
/// have been counted before his drop was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) overflows: u64,
    pub(super) exact: bool,
}

/// What the namespace shows of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// Rise of ListenOverflows.
    pub(super) risen: u64,
    /// Of the rise in the interval before: what no listener's drops accounted for. The counter is
    /// read after the dump, so they may be drops that this interval shows.
    pub(super) carried: u64,
    /// All of that rise.
    pub(super) risen_before: u64,
    /// A full listener went, with an unknown part of the rise.
    pub(super) full_listener_lost: bool,
    /// Every drop of this interval has its place in `risen` or `carried` if it was an overflow.
    pub(super) whole: bool,
}

/// What a listener gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Award {
    pub(super) overflows: u64,
    /// They can be nobody else's.
    pub(super) exact: bool,
    /// Some of its drops were certainly no overflows, while its queue was not full.
    pub(super) defers: bool,
    /// What it may get in the next interval.
    pub(super) pending: Pending,
}

/// How strongly listeners that dropped are suspected; only the strongest suspects share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    Full,
    /// One more connection and it was full: between the samples it may have been.
    AtLimit,
    /// Nothing but an overflow explains its drops.
    Unexplained,
    /// Its drops need no explanation, but somebody overflowed. Such listeners have to wait.
    Any,
}

impl Suspicion {
    const STRONGEST_FIRST: [Self; 4] = [Self::Full, Self::AtLimit, Self::Unexplained, Self::Any];

    const fn covers(self, claim: &Claim) -> bool {
        match self {
            Self::Full => claim.full,
            Self::AtLimit => claim.at_limit,
            Self::Unexplained => !claim.defers,
            Self::Any => true,
        }
    }
}

/// Awards in the order of the claims, and how much of this interval's rise nobody got.
pub(super) fn attribute(claims: &[Claim], interval: Interval) -> (Vec<Award>, u64) {
    let Interval {
        risen,
        carried,
        risen_before,
        full_listener_lost,
        whole,
    } = interval;
    let dropped = claims.iter().filter(|claim| claim.drops > 0);
    let suspicion = Suspicion::STRONGEST_FIRST
        .into_iter()
        .find(|suspicion| dropped.clone().any(|claim| suspicion.covers(claim)))
        .unwrap_or(Suspicion::Any);
    let is_suspect = |claim: &Claim| claim.drops > 0 && suspicion.covers(claim);

    let waits = suspicion == Suspicion::Any;
    let total = if waits {
        risen
    } else {
        risen.saturating_add(carried)
    };
    let suspects: Vec<u64> = claims
        .iter()
        .map(|claim| if is_suspect(claim) { claim.drops } else { 0 })
        .collect();
    let shares = split(total, &suspects);
    let assigned = if waits { 0 } else { shares.iter().sum() };
    let pending: Vec<u64> = claims.iter().map(|claim| claim.pending.overflows).collect();
    let paid = split(carried.saturating_sub(assigned), &pending);

    let alone = match suspicion {
        Suspicion::Full => claims.iter().filter(|claim| is_suspect(claim)).count() == 1,
        _ => dropped.count() == 1,
    };
    let exact = alone && !full_listener_lost;
    // How many drops overflows can explain, where not all of these are certainly somebody else's. An
    // overflow of the interval before may show only now, and have been given out already.
    let explicable = if suspicion == Suspicion::Full && shares == suspects {
        total - assigned
    } else {
        total
    }
    .saturating_add(risen_before)
    .saturating_mul(DROPS_PER_OVERFLOW);
    let award = |((claim, share), paid): ((&Claim, u64), u64)| {
        let (now, later) = if waits { (0, share) } else { (share, 0) };
        Award {
            overflows: now + paid,
            exact: (exact || now == 0) && (claim.pending.exact || paid == 0),
            defers: whole && !claim.full && claim.drops > explicable,
            pending: Pending {
                overflows: later,
                exact,
            },
        }
    };
    let awards = claims.iter().zip(shares).zip(paid).map(award).collect();
    (awards, risen - assigned.saturating_sub(carried))
}

/// Parts of `budget` in proportion to `drops`, none more than its drops.
fn split(budget: u64, drops: &[u64]) -> Vec<u64> {
    let total: u128 = drops.iter().copied().map(u128::from).sum();
    if u128::from(budget) >= total {
        return drops.to_vec();
    }
    let mut shares: Vec<u64> = drops
        .iter()
        .map(|drops| (u128::from(budget) * u128::from(*drops) / total) as u64)
        .collect();
    // Rounding left fewer than there are parts.
    let mut left = budget - shares.iter().sum::<u64>();
    for (share, drops) in shares.iter_mut().zip(drops) {
        if left > 0 && *share < *drops {
            *share += 1;
            left -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn splits_in_proportion_and_never_more_than_there_is() {
        let table: [(u64, &[u64], &[u64]); 6] = [
            (0, &[5, 5], &[0, 0]),
            (10, &[5, 5], &[5, 5]),
            (100, &[5, 0], &[5, 0]),
            (5, &[5, 5], &[3, 2]),
            (3, &[0, 1, 300], &[0, 1, 2]),
            (u64::MAX - 1, &[u64::MAX, 0], &[u64::MAX - 1, 0]),
        ];
        for (budget, drops, expected) in table {
            assert_eq!(split(budget, drops), expected, "{budget} among {drops:?}");
        }
    }
}
