//! `/last_data_recv`: how long connections waited in the queues, as Raindrops::LastDataRecv tells it.
//!
//! It counts whole milliseconds. The programs count in buckets of microseconds, so a wait is taken as
//! the middle of its bucket, within 12.5 % of it; count, mean and the longest are exact.

use std::collections::BTreeSet;

use super::{aggregate::Aggregate, rows::Row, watcher::Page};
use crate::view::{Durations, View};

const MICROS_PER_MILLI: u64 = 1_000;

/// Of the TCP listeners of `rows`. `None` where the waits of none are known.
#[must_use]
pub fn page(view: &View, rows: &[&Row]) -> Option<Page> {
    let meant: BTreeSet<&String> = (rows.iter())
        .filter(|row| row.is_tcp)
        .flat_map(|row| &row.ids)
        .collect();
    let waits = view.listeners.iter().filter_map(|listener| {
        let connections = listener.connections.as_ref();
        let connections = connections.filter(|_| meant.contains(&listener.id))?;
        connections.wait.as_ref()
    });
    let mut waits = waits.peekable();
    waits.peek()?;
    let (mut aggregate, mut sum_us) = (Aggregate::default(), 0_u64);
    let mut longest_us = 0;
    for wait in waits {
        sum_us = sum_us.saturating_add(wait.sum_us);
        longest_us = longest_us.max(wait.max_us.unwrap_or(0));
        for (middle_us, count) in samples(wait) {
            aggregate.add_many(middle_us / MICROS_PER_MILLI, count);
        }
    }
    let count = aggregate.count();
    let mut headers = vec![
        ("Content-Type", "text/plain".to_owned()),
        ("X-Count", count.to_string()),
    ];
    if count > 1 {
        let mean = sum_us as f64 / count as f64 / MICROS_PER_MILLI as f64;
        headers.extend([
            ("X-Min", aggregate.min().unwrap_or(0).to_string()),
            ("X-Max", (longest_us / MICROS_PER_MILLI).to_string()),
            ("X-Mean", format!("{:.0}", mean.round())),
            ("X-Std-Dev", format!("{:.0}", aggregate.std_dev().round())),
            ("X-Outliers-Low", aggregate.outliers_low().to_string()),
            ("X-Outliers-High", aggregate.outliers_high().to_string()),
        ]);
    }
    Some(Page {
        headers,
        body: aggregate.to_string(),
    })
}

/// Middles of buckets, and how many are in each. A bucket begins where the one below it would end: they
/// are four to the octave, so at four fifths to seven eighths of its own end.
fn samples(wait: &Durations) -> impl Iterator<Item = (u64, u64)> + '_ {
    let longest = wait.max_us.unwrap_or(0);
    let buckets = wait.buckets.iter().flatten();
    buckets.map(move |(end, count)| {
        let middle = match end {
            Some(end) => middle_us(*end).min(longest as f64) as u64,
            None => longest,
        };
        (middle, *count)
    })
}

fn middle_us(end: f64) -> f64 {
    // The octave that it ends in, and a fourth of it; where it ends an octave it is of that.
    let octave = (2_f64).powf((end.log2()).ceil() - 1.0);
    end - octave / 8.0
}

#[cfg(test)]
mod tests {
    use super::{middle_us, page};
    use crate::{compat::rows::rows, view::View};

    fn view() -> View {
        let mut view: View =
            serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap();
        view.listeners.truncate(1);
        view
    }

    fn told(view: &View) -> Option<(String, String)> {
        let rows = rows(view);
        let page = page(view, &rows.iter().collect::<Vec<_>>())?;
        let headers: Vec<String> = page
            .headers
            .iter()
            .skip(1)
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        Some((headers.join(","), page.body))
    }

    #[test]
    fn a_bucket_is_a_fourth_of_its_octave() {
        for (end, middle) in [(40.0, 36.0), (48.0, 44.0), (64.0, 60.0), (1024.0, 960.0)] {
            assert_eq!(middle_us(end), middle);
        }
    }

    #[test]
    fn waits_are_told_in_milliseconds() {
        let mut view = view();
        let wait = view.listeners[0].connections.as_mut().unwrap();
        let wait = wait.wait.as_mut().unwrap();
        (wait.count, wait.sum_us, wait.max_us) = (4, 380_000, Some(300_000));
        wait.buckets = Some(vec![(Some(640.0), 1), (Some(40_960.0), 2), (None, 1)]);
        let (headers, body) = told(&view).unwrap();
        assert_eq!(
            headers,
            "X-Count: 4,X-Min: 0,X-Max: 300,X-Mean: 95,X-Std-Dev: 139,X-Outliers-Low: 1,\
             X-Outliers-High: 0"
        );
        assert!(
            body.contains("   32 |@@ ") && body.contains("  256 |@ "),
            "{body}"
        );
    }

    #[test]
    fn one_wait_and_none_have_no_statistics() {
        let mut view = view();
        let wait = view.listeners[0].connections.as_mut().unwrap();
        let wait = wait.wait.as_mut().unwrap();
        (wait.count, wait.buckets) = (0, Some(Vec::new()));
        let empty = ("X-Count: 0".to_owned(), "Empty histogram".to_owned());
        assert_eq!(told(&view), Some(empty));
        view.listeners[0].connections = None;
        assert_eq!(told(&view), None);
    }
}
