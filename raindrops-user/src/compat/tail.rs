//! The lines of `raindrops tail` and of Watcher's `/tail/`, which raindrops' examples print, too.

use std::time::SystemTime;

use super::rows::Row;

/// A longer name moves its line.
const WIDEST: usize = 35;
/// Names of the columns.
pub const HEADER: [&str; 4] = ["timestamp", "address", "active", "queued"];

/// Only rows with as many. A figure that is not known is not as many as anything but 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    pub active: u64,
    pub queued: u64,
}

impl Thresholds {
    #[must_use]
    pub fn pass(&self, row: &Row) -> bool {
        row.active.unwrap_or(0) >= self.active && row.queued.unwrap_or(0) >= self.queued
    }
}

/// Width of the column of names, for `names` in one output.
#[must_use]
pub fn width<'n>(names: impl IntoIterator<Item = &'n str>) -> usize {
    let widths = names.into_iter().map(|name| name.chars().count());
    widths.max().unwrap_or(0).min(WIDEST)
}

/// `-` stands for a figure that is not known.
#[must_use]
pub fn line(at: SystemTime, name: &str, width: usize, row: &Row) -> String {
    let figure = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    columns(
        &humantime::format_rfc3339_seconds(at).to_string(),
        name,
        width,
        [figure(row.active), figure(row.queued)]
            .each_ref()
            .map(String::as_str),
    )
}

/// As long names would be cut off from their lines, the header has the width of those.
#[must_use]
pub fn header(width: usize) -> String {
    let [time, name, active, queued] = HEADER;
    columns(time, name, width, [active, queued])
}

fn columns(time: &str, name: &str, width: usize, [active, queued]: [&str; 2]) -> String {
    format!("{time:>20} {name:>width$} {active:>10} {queued:>10}\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Thresholds, header, line, width};
    use crate::compat::rows::Row;

    fn row(active: Option<u64>, queued: Option<u64>) -> Row {
        Row {
            netns: 1,
            address: "127.0.0.1:18080".to_owned(),
            is_tcp: true,
            ids: Vec::new(),
            active,
            queued,
        }
    }

    #[test]
    fn a_line_is_that_of_raindrops() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_309_246_789);
        for (active, queued, expected) in [
            (
                Some(0),
                Some(0),
                "2026-11-22T01:00:46Z 127.0.0.1:18080          0          0\n",
            ),
            (
                None,
                Some(12),
                "2026-11-22T01:00:46Z 127.0.0.1:18080          -         12\n",
            ),
        ] {
            let row = row(active, queued);
            let width = width([row.address.as_str()]);
            assert_eq!(line(at, &row.address, width, &row), expected);
        }
        assert_eq!(
            header(15),
            "           timestamp         address     active     queued\n"
        );
        assert_eq!(width(["/x", &"y".repeat(50)]), 35);
    }

    #[test]
    fn thresholds_are_both_to_be_reached() {
        let pass = |active, queued, row: &Row| Thresholds { active, queued }.pass(row);
        assert!(pass(0, 0, &row(None, None)));
        assert!(pass(2, 3, &row(Some(2), Some(3))));
        assert!(!pass(2, 4, &row(Some(2), Some(3))));
        assert!(!pass(1, 0, &row(None, Some(3))));
    }
}
