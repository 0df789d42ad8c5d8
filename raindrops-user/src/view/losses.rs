//! When what is missing was missed, from one view to the next. Pure.
//!
//! A count since the start cannot tell whether it still rises; two views can.

use std::{collections::BTreeMap, time::SystemTime};

use super::View;

/// What the last view lacked, by `what`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<String, Loss>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    count: u64,
    first: SystemTime,
    last: SystemTime,
}

impl Losses {
    /// Writes into a view when each of its gaps was first there and when it last grew. `compared`: when
    /// the last comparison began that found no connection missing. Says whether there has been none
    /// since a gap grew.
    pub fn carry(&mut self, view: &mut View, compared: Option<SystemTime>) -> bool {
        let now = view.taken_at;
        let before = std::mem::take(&mut self.0);
        for gap in view.gaps.iter_mut().filter(|gap| gap.count > 0) {
            let known = before.get(&gap.what);
            let loss = Loss {
                count: gap.count,
                first: known.map_or(now, |known| known.first),
                last: known
                    .filter(|known| gap.count <= known.count)
                    .map_or(now, |known| known.last),
            };
            gap.first_at = Some(loss.first);
            gap.last_at = Some(loss.last);
            gap.compared_at = compared.filter(|compared| *compared > loss.last);
            self.0.insert(gap.what.clone(), loss);
        }
        let mut gaps = view.gaps.iter().filter(|gap| gap.count > 0);
        // What a comparison has found is no reason to make one.
        gaps.any(|gap| gap.compared_at.is_none() && gap.what != "drift")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Losses;
    use crate::view::{Gap, View};

    #[test]
    fn a_gap_tells_when_it_grew_last_and_what_was_compared_since() {
        let mut view: View =
            serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap();
        let began = view.taken_at;
        let at = |second: u64| began + Duration::from_secs(second);
        let mut losses = Losses::default();
        for (second, count, compared, expected) in [
            (0, 0, None, (None, None, None, false)),
            (1, 3, None, (Some(1), Some(1), None, true)),
            (2, 3, Some(1), (Some(1), Some(1), None, true)),
            (3, 3, Some(2), (Some(1), Some(1), Some(2), false)),
            (4, 5, Some(2), (Some(1), Some(4), None, true)),
            (9, 5, Some(8), (Some(1), Some(4), Some(8), false)),
            // It has gone, and come again.
            (10, 0, Some(8), (None, None, None, false)),
            (11, 1, Some(8), (Some(11), Some(11), None, true)),
        ] {
            view.taken_at = at(second);
            view.gaps = vec![Gap {
                what: "map-full".to_owned(),
                count,
                ..Gap::default()
            }];
            let is_open = losses.carry(&mut view, compared.map(at));
            let (first, last, since, open) = expected;
            let gap = &view.gaps[0];
            assert_eq!(
                (gap.first_at, gap.last_at, gap.compared_at, is_open),
                (first.map(at), last.map(at), since.map(at), open),
                "{second}"
            );
        }
    }
}
