//! How unevenly accepts are spread over the workers that could have made them.

use std::{collections::BTreeMap, time::Duration};

use super::Skew;
use crate::ids::Pid;

/// Accepts for each worker below which chance alone may spread them so.
const ENOUGH: u64 = 20;

/// Of what each of the workers has accepted within a time; `None` for one worker, or for so few that
/// chance may have spread them.
#[must_use]
pub fn skew(accepts: &BTreeMap<Pid, u64>, over: Duration) -> Option<Skew> {
    let workers = accepts.len();
    let total: u64 = accepts.values().sum();
    if workers < 2 || total < ENOUGH * workers as u64 {
        return None;
    }
    let (pid, most) = accepts.iter().max_by_key(|(_, accepts)| **accepts)?;
    let even = 1.0 / workers as f64;
    let share = *most as f64 / total as f64;
    let ratio = (share - even) / (1.0 - even);
    Some(Skew {
        ratio: (ratio * 1000.0).round() / 1000.0,
        accepts: total,
        workers: u32::try_from(workers).ok()?,
        over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
        pid: pid.0,
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::skew;
    use crate::ids::Pid;

    fn of(accepts: &[u64]) -> Option<(f64, u64, u32)> {
        let pids = (1..).map(Pid);
        let accepts: BTreeMap<Pid, u64> = pids.zip(accepts.iter().copied()).collect();
        let skew = skew(&accepts, Duration::from_secs(10))?;
        Some((skew.ratio, skew.accepts, skew.pid))
    }

    #[test]
    fn even_is_zero_and_all_by_one_is_one() {
        assert_eq!(of(&[100, 100]), Some((0.0, 200, 2)));
        assert_eq!(of(&[0, 2000, 0, 0]), Some((1.0, 2000, 2)));
        assert_eq!(of(&[60, 20, 20]), Some((0.4, 100, 1)));
    }

    #[test]
    fn nothing_is_said_of_a_handful_or_of_one_worker() {
        assert_eq!(of(&[19, 20]), None);
        assert_eq!(of(&[1000]), None);
        assert_eq!(of(&[]), None);
    }
}
