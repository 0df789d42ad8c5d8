//! The first lines, which say whose figures these are and whether to trust them, then what is wrong;
//! and the last line, which says what can be done.

use std::time::Duration;

use ratatui::text::Line;

use super::{
    super::{
        past,
        state::{From, Screen, State},
    },
    wrapped,
};
use crate::{
    diagnose::Verdict,
    escape::printable,
    render::{
        table::Paint,
        text::{is_trouble, paint},
        units::{clock, duration, plural, time},
    },
    view::{SourceState, View},
};

/// Views come once a second.
const FRESH: Duration = Duration::from_secs(3);
/// More would leave no room for who is in trouble.
const MOST_LINES: usize = 3;

pub(super) fn lines(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    let look = state.look;
    let mut lines = vec![look.line(title(state), Paint::Bold)];
    lines.push(look.line(printable(&whose(state)), Paint::Plain));
    for text in warnings(state) {
        lines.push(Line::styled(printable(&text), look.loud()));
    }
    let Some(seen) = state.seen() else {
        return lines;
    };
    let (text, paint) = sources(&seen.view);
    lines.extend(wrapped(look, &printable(&text), paint, width, 1));
    let is_text = matches!(state.screen(), Screen::Verdicts | Screen::Help);
    if !is_text && state.back_at.is_none() {
        // Who has entered something has read them.
        let room = if *state.screen() == Screen::Listeners {
            height / 4
        } else {
            height / 8
        };
        lines.extend(verdicts(state, &seen.diagnosis.verdicts, width, room));
    }
    lines
}

fn title(state: &State) -> String {
    match state.view() {
        None => "raindrops top".to_owned(),
        Some(view) => format!(
            "raindrops top  {}, Linux {}, {}, at {}",
            printable(&view.host.name),
            printable(&view.host.kernel),
            plural(view.host.cpus as u64, "CPU"),
            time(view.taken_at),
        ),
    }
}

/// What matters most comes first: the end may be cut.
fn whose(state: &State) -> String {
    let mut parts = Vec::new();
    if let From::Own(since) = state.from {
        parts.push(match since {
            None => "no daemon: beginning to read this host".to_owned(),
            Some(since) => format!("no daemon: own reading since {}", clock(since)),
        });
    }
    if let Some(seen) = state.seen().filter(|_| state.held.is_none()) {
        parts.push(format!("figures {} old", duration(state.age(seen))));
    }
    if let From::Daemon(name) = &state.from {
        match state.view() {
            None => parts.push(format!("asking the {name}")),
            Some(view) => {
                parts.push(format!("totals since {}", time(view.since)));
                parts.push(name.clone());
            }
        }
    }
    parts.join("; ")
}

/// What must not be overlooked, in capitals because there may be no colour.
fn warnings(state: &State) -> Vec<String> {
    let mut warnings = Vec::new();
    let age = state.latest.as_ref().map(|latest| state.age(latest));
    if let Some((why, since)) = &state.failure {
        let silent = duration(state.now.running.saturating_sub(*since));
        warnings.push(format!("NO ANSWER for {silent}: {why}"));
    } else if let Some(age) = age.filter(|age| *age > FRESH) {
        warnings.push(format!("OLD FIGURES: nothing new for {}", duration(age)));
    }
    if let Some(at) = state.back_at {
        let ago = ago(state, at);
        let keys = state.look.arrows();
        warnings.push(format!(
            "PAST: {}, {ago}; {keys} moves, Esc is now",
            of_day(at)
        ));
    } else if let Some(seen) = &state.held {
        let at = clock(seen.view.taken_at);
        let ago = duration(state.age(seen));
        warnings.push(format!("PAUSED at {at}, {ago} ago; p goes on"));
    }
    warnings
}

fn of_day(at_ms: u64) -> String {
    clock(std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms))
}

/// By the clock of who took the figures, as far as it is known: the daemon's host is this one.
fn ago(state: &State, at_ms: u64) -> String {
    let now = past::millis(state.now.wall).unwrap_or(at_ms);
    let ago = Duration::from_millis(now.saturating_sub(at_ms));
    format!("{} ago", duration(Duration::from_secs(ago.as_secs())))
}

/// Those that are not whole by name.
fn sources(view: &View) -> (String, Paint) {
    let sources = view.sources.iter().filter_map(|it| match it.state {
        SourceState::On => None,
        SourceState::Degraded => Some(format!("{} degraded", it.name)),
        SourceState::Off => Some(format!("{} OFF", it.name)),
    });
    let broken: Vec<String> = sources.collect();
    let gaps = view.gaps.len() as u64;
    if broken.is_empty() && gaps == 0 {
        return ("all sources on, no gaps".to_owned(), Paint::Plain);
    }
    let sources = if broken.is_empty() {
        "all on".to_owned()
    } else {
        broken.join(", ")
    };
    let gaps = match gaps {
        0 => "no gaps".to_owned(),
        gaps => plural(gaps, "gap"),
    };
    let text = format!("sources: {sources}; {gaps}; v tells more");
    (text, Paint::Warn)
}

/// As many as there is room for, and how many more there are.
fn verdicts(state: &State, all: &[Verdict], width: usize, room: usize) -> Vec<Line<'static>> {
    let trouble: Vec<&Verdict> = all.iter().filter(|it| is_trouble(it)).collect();
    if trouble.is_empty() {
        return vec![
            state
                .look
                .line("Nothing is wrong, as far as can be seen.", Paint::Plain),
        ];
    }
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (index, verdict) in trouble.iter().enumerate() {
        let text = format!("{}: {}", verdict.severity, printable(&verdict.text));
        let paint = paint(verdict.severity);
        let text = wrapped(state.look, &text, paint, width, MOST_LINES);
        let left = trouble.len() - index;
        let needed = text.len() + usize::from(left > 1);
        if index > 0 && lines.len() + needed > room {
            let more = plural(left as u64, "other verdict");
            lines.push(
                state
                    .look
                    .line(format!("and {more}: press v"), Paint::Plain),
            );
            break;
        }
        lines.extend(text);
    }
    lines
}

pub(super) fn footer(state: &State, width: usize) -> Line<'static> {
    let look = state.look;
    if let Some(typed) = &state.typing {
        let text = format!(
            "only with: {}_  (Enter takes it, Esc does not)",
            printable(typed)
        );
        return Line::styled(text, look.loud());
    }
    let order = format!("s sort: {}", state.order.name());
    let past = format!("{} past", look.arrows());
    let keys: Vec<&str> = match state.screen() {
        Screen::Listeners => vec![
            "q quit",
            "? help",
            "Enter workers",
            &order,
            "/ filter",
            "p pause",
            &past,
            "v verdicts",
        ],
        Screen::Listener(_) => vec![
            "q quit",
            "? help",
            "Enter connections",
            "Esc back",
            &order,
            "p pause",
            &past,
            "v verdicts",
        ],
        Screen::Worker(_) => vec!["q quit", "? help", "Esc back", "p pause", "v verdicts"],
        Screen::Verdicts | Screen::Help => vec!["q quit", "Esc back", "up/down scroll"],
    };
    let mut text = String::new();
    for key in keys {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.chars().count() + gap.len() + key.chars().count() > width {
            break;
        }
        text.push_str(gap);
        text.push_str(key);
    }
    look.line(text, Paint::Dim)
}
