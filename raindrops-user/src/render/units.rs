//! Numbers for people: durations, counts and times in few characters, with their unit.

use std::time::{Duration, SystemTime};

/// What stands for a figure that is not known.
pub const UNKNOWN: &str = "-";

/// A duration in two or three digits: `38us`, `1.2ms`, `45ms`, `1.9s`, `48s`, `3m20s`, `2h05m`,
/// `6d04h`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..9_950 => format!("{:.1}ms", us as f64 / 1e3),
        9_950..999_500 => format!("{:.0}ms", us as f64 / 1e3),
        999_500..9_950_000 => format!("{:.1}s", us as f64 / 1e6),
        _ => seconds((us + 500_000) / 1_000_000),
    }
}

fn seconds(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// A count in at most four characters, for where the exact one does not fit: `950`, `12k`, `1.2M`.
#[must_use]
pub fn short_count(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    for (unit, letter) in UNITS {
        if count >= unit {
            let whole = count / unit;
            // Rounded down: a figure never claims what was not counted.
            return if whole < 10 {
                format!("{whole}.{}{letter}", count % unit * 10 / unit)
            } else {
                format!("{whole}{letter}")
            };
        }
    }
    count.to_string()
}

/// `1 process`, `2 processes`.
#[must_use]
pub fn plural(count: u64, thing: &str) -> String {
    let ending = match thing {
        _ if count == 1 => "",
        thing if thing.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {thing}{ending}")
}

/// A part of one as percent; what is there never shows as none, what is missing never as all.
#[must_use]
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent > 0.0 && percent < 0.5 {
        "<1%".to_owned()
    } else if (99.5..100.0).contains(&percent) {
        ">99%".to_owned()
    } else {
        format!("{percent:.0}%")
    }
}

/// Bytes as `3.9 MB`.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `2026-11-22 01:02:03Z`.
#[must_use]
pub fn time(time: SystemTime) -> String {
    let text = if time
        .duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|since| since < Duration::from_secs(253_402_300_800))
    {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        UNKNOWN.to_owned()
    };
    text.replacen('T', " ", 1)
}

/// `01:02:03Z`, where the day is plain.
#[must_use]
pub fn clock(at: SystemTime) -> String {
    let text = time(at);
    match text.split_once(' ') {
        Some((_, clock)) => clock.to_owned(),
        None => text,
    }
}

/// The same digits as [`micros`].
#[must_use]
pub fn duration(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{micros, percent, plural, short_count};

    #[test]
    fn durations_keep_two_digits_or_more() {
        for (us, text) in [
            (0, "0us"),
            (999, "999us"),
            (1_000, "1.0ms"),
            (9_949, "9.9ms"),
            (9_950, "10ms"),
            (999_499, "999ms"),
            (999_500, "1.0s"),
            (9_949_999, "9.9s"),
            (9_950_000, "10s"),
            (59_499_999, "59s"),
            (59_500_000, "1m00s"),
            (3_599_000_000, "59m59s"),
            (7_500_000_000, "2h05m"),
            (532_800_000_000, "6d04h"),
        ] {
            assert_eq!(micros(us), text, "{us}");
        }
    }

    #[test]
    fn short_counts_are_rounded_down() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (9_999, "9.9k"),
            (10_000, "10k"),
            (999_999, "999k"),
            (1_200_345, "1.2M"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(short_count(count), text, "{count}");
        }
    }

    #[test]
    fn one_is_no_plural() {
        for (count, thing, text) in [
            (0, "CPU", "0 CPUs"),
            (1, "CPU", "1 CPU"),
            (1, "process", "1 process"),
            (2, "process", "2 processes"),
        ] {
            assert_eq!(plural(count, thing), text);
        }
    }

    #[test]
    fn percents_do_not_round_to_none_or_all() {
        for (part, text) in [
            (0.0, "0%"),
            (0.001, "<1%"),
            (0.5, "50%"),
            (0.996, ">99%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(part), text);
        }
    }
}
