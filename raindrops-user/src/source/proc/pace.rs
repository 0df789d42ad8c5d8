//! When to read `/proc`: a decision without a clock, so that its cost can be proven in a table.
//!
//! Costs are processor time of the reading thread, not wall time: a process that hangs for a minute
//! costs nothing, and must not silence the source for an hour.

use std::time::Duration;

use crate::ids::Monotonic;

/// Scans and refreshes each take at most one part in this of one processor.
const SHARE: u32 = 100;
/// Between scans that nothing asked for.
const SCAN: Duration = Duration::from_secs(10);
/// Between scans that something asked for.
const ASKED: Duration = Duration::from_millis(250);
/// Between refreshes, while somebody reads what they find and while nobody does.
const REFRESH: Duration = Duration::from_secs(1);
const REFRESH_UNREAD: Duration = Duration::from_secs(4);
/// Quiet time that a run of asked scans may use up at once.
const BURST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Scan,
    Refresh,
    Wait(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    scanned: Option<Done>,
    refreshed: Option<Done>,
    /// Until then the scans so far have used up their share.
    paid: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    at: Monotonic,
    cost: Duration,
}

impl Done {
    fn due(self, at_least: Duration) -> Monotonic {
        Monotonic(self.at.0 + at_least.max(self.cost * SHARE))
    }
}

impl Pace {
    /// `asked`: something happened that only a scan can tell about. `is_read`: somebody looks at what
    /// is found.
    pub fn step(&self, now: Monotonic, asked: bool, is_read: bool) -> Step {
        let between = if is_read { REFRESH } else { REFRESH_UNREAD };
        let Some(scanned) = self.scanned else {
            return Step::Scan;
        };
        let mut scan = scanned.due(SCAN);
        if asked {
            let soon = Monotonic(scanned.at.0 + ASKED);
            scan = scan.min(soon.max(self.paid.unwrap_or(soon)));
        }
        let refresh = self
            .refreshed
            .map_or(scanned.due(between).min(scan), |done| done.due(between));
        if scan <= now {
            Step::Scan
        } else if refresh <= now {
            Step::Refresh
        } else {
            Step::Wait(scan.min(refresh).since(now))
        }
    }

    pub fn scanned(&mut self, at: Monotonic, cost: Duration) {
        let earliest = Monotonic(at.0.saturating_sub(BURST));
        let paid = self.paid.map_or(earliest, |paid| paid.max(earliest));
        self.paid = Some(Monotonic(paid.0 + cost * SHARE));
        self.scanned = Some(Done { at, cost });
        // A scan tells all that a refresh would.
        let cost = self.refreshed.map_or(Duration::ZERO, |done| done.cost);
        self.refreshed = Some(Done { at, cost });
    }

    pub fn refreshed(&mut self, at: Monotonic, cost: Duration) {
        self.refreshed = Some(Done { at, cost });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, Step};
    use crate::ids::Monotonic;

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(100_000 + ms))
    }

    #[test]
    fn scans_first_then_refreshes_then_scans_again() {
        let mut pace = Pace::default();
        let cost = Duration::from_millis(5);
        assert_eq!(pace.step(at(0), false, true), Step::Scan);
        pace.scanned(at(0), cost);
        assert_eq!(
            pace.step(at(400), false, true),
            Step::Wait(Duration::from_millis(600))
        );
        assert_eq!(pace.step(at(1000), false, true), Step::Refresh);
        pace.refreshed(at(9500), cost);
        assert_eq!(
            pace.step(at(9900), false, true),
            Step::Wait(Duration::from_millis(100))
        );
        assert_eq!(pace.step(at(10_000), false, true), Step::Scan);
    }

    #[test]
    fn refreshes_less_often_while_nobody_reads() {
        let mut pace = Pace::default();
        pace.scanned(at(0), Duration::from_millis(5));
        let wait = Step::Wait(Duration::from_secs(2));
        assert_eq!(pace.step(at(2000), false, false), wait);
        assert_eq!(pace.step(at(4000), false, false), Step::Refresh);
        // A reader has come.
        assert_eq!(pace.step(at(2000), false, true), Step::Refresh);
    }

    #[test]
    fn a_dear_scan_is_rarer() {
        let mut pace = Pace::default();
        pace.scanned(at(0), Duration::from_millis(300));
        pace.refreshed(at(29_000), Duration::from_millis(30));
        assert_eq!(
            pace.step(at(29_999), false, true),
            Step::Wait(Duration::from_millis(1))
        );
        assert_eq!(pace.step(at(30_000), false, true), Step::Scan);
    }

    #[test]
    fn scans_at_once_when_asked() {
        let mut pace = Pace::default();
        pace.scanned(at(0), Duration::from_millis(5));
        assert_eq!(
            pace.step(at(100), true, true),
            Step::Wait(Duration::from_millis(150))
        );
        assert_eq!(pace.step(at(250), true, true), Step::Scan);
    }

    #[test]
    fn costs_at_most_its_share_however_often_it_is_asked() {
        for cost_ms in [1, 20, 200] {
            let mut pace = Pace::default();
            let mut spent = 0;
            for now in 0..600_000 {
                if pace.step(at(now), true, true) == Step::Scan {
                    pace.scanned(at(now), Duration::from_millis(cost_ms));
                    spent += cost_ms;
                }
            }
            assert!(
                spent <= 6000 + 300 + cost_ms,
                "{cost_ms} ms: {spent} ms in 10 minutes"
            );
        }
    }
}
