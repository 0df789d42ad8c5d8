//! What Raindrops::Watcher remembers: for each listener how many samples had how many connections.
//!
//! Fed from outside with one sample of all listeners after the other; bounded, and no clock of its own.

use std::{collections::BTreeMap, time::SystemTime};

use super::{
    aggregate::Aggregate,
    rows::{Name, Row},
};

/// Names that are remembered at one time, of some 500 bytes each.
pub const MOST: usize = 2_048;

/// Samples of one figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub aggregate: Aggregate,
    /// When the greatest sample was first and last seen; when counting began, until one exceeds or
    /// equals the first.
    pub first_peak: SystemTime,
    pub last_peak: SystemTime,
    /// Of the last sample.
    pub current: Option<u64>,
}

impl Series {
    fn new(began: SystemTime) -> Self {
        Self {
            aggregate: Aggregate::default(),
            first_peak: began,
            last_peak: began,
            current: None,
        }
    }

    fn add(&mut self, sample: Option<u64>, at: SystemTime) {
        self.current = sample;
        let Some(sample) = sample else { return };
        // As raindrops does: the first sample is no peak, nor is 0.
        if let Some(max) = self.aggregate.max()
            && sample > 0
            && sample >= max
        {
            if sample > max {
                self.first_peak = at;
            }
            self.last_peak = at;
        }
        self.aggregate.add(sample);
    }
}

/// What is told of one figure of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub series: Series,
    pub reset_at: SystemTime,
    /// Of the last sample of all listeners.
    pub sampled_at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Active,
    Queued,
}

#[derive(Debug)]
struct Entry {
    active: Series,
    queued: Series,
    reset_at: SystemTime,
    /// Number of its last sample.
    seen: u64,
}

impl Entry {
    fn new(began: SystemTime) -> Self {
        Self {
            active: Series::new(began),
            queued: Series::new(began),
            reset_at: began,
            seen: 0,
        }
    }
}

#[derive(Debug)]
pub struct Record {
    began: SystemTime,
    sampled_at: SystemTime,
    /// How many there were: two may be of one time, when the clock is set.
    samples: u64,
    entries: BTreeMap<Name, Entry>,
}

impl Record {
    #[must_use]
    pub const fn new(began: SystemTime) -> Self {
        Self {
            began,
            sampled_at: began,
            samples: 0,
            entries: BTreeMap::new(),
        }
    }

    /// Takes one sample. A listener for which there is no room is passed over; those that are gone
    /// make room, the longest gone first.
    pub fn note(&mut self, rows: &[Row], at: SystemTime) {
        self.sampled_at = at;
        self.samples += 1;
        let (began, number) = (self.began, self.samples);
        let mut new = Vec::new();
        for row in rows {
            match self.entries.get_mut(&row.name()) {
                Some(entry) => note(entry, row, at, number),
                None => new.push(row),
            }
        }
        if new.is_empty() {
            return;
        }
        let room = MOST.saturating_sub(self.entries.len());
        if new.len() > room {
            self.make_room(new.len() - room);
        }
        for row in new.into_iter().take(MOST - self.entries.len()) {
            let mut entry = Entry::new(began);
            note(&mut entry, row, at, number);
            self.entries.insert(row.name(), entry);
        }
    }

    fn make_room(&mut self, wanted: usize) {
        let gone = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.seen != self.samples);
        let mut gone: Vec<(u64, Name)> = gone
            .map(|(name, entry)| (entry.seen, name.clone()))
            .collect();
        gone.sort();
        for (_, name) in gone.into_iter().take(wanted) {
            self.entries.remove(&name);
        }
    }

    /// As of a listener that was never seen where the last sample did not have it, which is what
    /// raindrops does.
    #[must_use]
    pub fn told(&self, name: Option<&Name>, figure: Figure) -> Told {
        let entry = name.and_then(|name| self.entries.get(name));
        let entry = entry.filter(|entry| entry.seen == self.samples);
        match entry {
            Some(entry) => Told {
                series: match figure {
                    Figure::Active => entry.active.clone(),
                    Figure::Queued => entry.queued.clone(),
                },
                reset_at: entry.reset_at,
                sampled_at: self.sampled_at,
            },
            None => Told {
                series: Series::new(self.began),
                reset_at: self.began,
                sampled_at: self.sampled_at,
            },
        }
    }

    /// Forgets the samples of a listener. `false` where there are none.
    pub fn reset(&mut self, name: &Name, at: SystemTime) -> bool {
        let Some(entry) = self.entries.get_mut(name) else {
            return false;
        };
        let (active, queued) = (entry.active.current, entry.queued.current);
        let seen = entry.seen;
        *entry = Entry::new(at);
        entry.seen = seen;
        entry.active.current = active;
        entry.queued.current = queued;
        true
    }
}

fn note(entry: &mut Entry, row: &Row, at: SystemTime, number: u64) {
    entry.active.add(row.active, at);
    entry.queued.add(row.queued, at);
    entry.seen = number;
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Figure, MOST, Record};
    use crate::compat::rows::Row;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn row(address: &str, active: Option<u64>, queued: u64) -> Row {
        Row {
            netns: 1,
            address: address.to_owned(),
            is_tcp: true,
            ids: vec![address.to_owned()],
            active,
            queued: Some(queued),
        }
    }

    #[test]
    fn peaks_are_told_as_raindrops_tells_them() {
        let mut record = Record::new(at(0));
        // Seconds, a sample, and when its peak was first and last.
        for (second, queued, first, last) in [
            (1, 0, 0, 0),
            (2, 0, 0, 0),
            (3, 5, 3, 3),
            (4, 4, 3, 3),
            (5, 5, 3, 5),
            (6, 6, 6, 6),
            (7, 0, 6, 6),
        ] {
            record.note(&[row("a", None, queued)], at(second));
            let told = record.told(Some(&row("a", None, 0).name()), Figure::Queued);
            assert_eq!(
                (told.series.first_peak, told.series.last_peak),
                (at(first), at(last)),
                "second {second}"
            );
            assert_eq!(told.series.aggregate.count(), second);
        }
    }

    #[test]
    fn a_figure_that_is_not_known_is_no_sample() {
        let mut record = Record::new(at(0));
        record.note(&[row("a", None, 1)], at(1));
        let name = row("a", None, 0).name();
        let count = |figure| {
            let told = record.told(Some(&name), figure);
            (told.series.aggregate.count(), told.series.current)
        };
        assert_eq!(count(Figure::Active), (0, None));
        assert_eq!(count(Figure::Queued), (1, Some(1)));
    }

    #[test]
    fn who_is_gone_or_unknown_has_no_samples_but_goes_on_when_it_comes_back() {
        let mut record = Record::new(at(0));
        let name = row("a", None, 0).name();
        record.note(&[row("a", Some(1), 1)], at(1));
        record.note(&[], at(2));
        let gone = record.told(Some(&name), Figure::Active);
        assert_eq!(gone, record.told(None, Figure::Active));
        assert_eq!((gone.series.aggregate.count(), gone.reset_at), (0, at(0)));
        record.note(&[row("a", Some(1), 1)], at(3));
        let back = record.told(Some(&name), Figure::Active);
        assert_eq!(back.series.aggregate.count(), 2);
    }

    #[test]
    fn a_reset_forgets_samples_and_peaks() {
        let mut record = Record::new(at(0));
        let name = row("a", None, 0).name();
        assert!(!record.reset(&name, at(1)));
        record.note(&[row("a", Some(1), 2)], at(1));
        record.note(&[row("a", Some(1), 3)], at(2));
        assert!(record.reset(&name, at(3)));
        let told = record.told(Some(&name), Figure::Queued);
        assert_eq!(
            (told.series.aggregate.count(), told.series.current),
            (0, Some(3))
        );
        assert_eq!((told.series.first_peak, told.reset_at), (at(3), at(3)));
    }

    #[test]
    fn the_longest_gone_make_room_and_nobody_else() {
        let mut record = Record::new(at(0));
        let rows = |from: usize, to: usize| -> Vec<Row> {
            let row = |n: usize| row(&n.to_string(), Some(1), 1);
            (from..to).map(row).collect()
        };
        let count = |record: &Record, n: usize| {
            let told = record.told(Some(&row(&n.to_string(), None, 0).name()), Figure::Active);
            told.series.aggregate.count()
        };
        record.note(&rows(0, 10), at(1));
        record.note(&rows(10, MOST), at(2));
        record.note(&rows(10, MOST + 5), at(3));
        assert_eq!(record.entries.len(), MOST);
        assert_eq!(count(&record, MOST + 4), 1);
        record.note(&rows(0, MOST + 5), at(4));
        assert_eq!(record.entries.len(), MOST);
        assert_eq!((count(&record, 10), count(&record, MOST + 4)), (3, 2));
    }
}
