//! What this terminal can show: colours, and more than ASCII.

use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use crate::render::table::Paint;

/// Apart from the state, because it is a fact of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Without, nothing is emphasised either.
    pub color: bool,
    pub unicode: bool,
}

const PARTS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_LEVELS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

impl Look {
    pub(super) fn style(self, paint: Paint) -> Style {
        let plain = Style::default();
        if !self.color {
            return plain;
        }
        match paint {
            Paint::Plain => plain,
            Paint::Bad => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
            Paint::Warn => plain.fg(Color::Yellow),
            Paint::Dim => plain.add_modifier(Modifier::DIM),
            Paint::Bold => plain.add_modifier(Modifier::BOLD),
        }
    }

    pub(super) fn chosen(self) -> Style {
        self.modified(Modifier::REVERSED)
    }

    /// What must not be overlooked.
    pub(super) fn loud(self) -> Style {
        self.modified(Modifier::REVERSED | Modifier::BOLD)
    }

    fn modified(self, modifier: Modifier) -> Style {
        if self.color {
            Style::default().add_modifier(modifier)
        } else {
            Style::default()
        }
    }

    pub(super) fn line(self, text: impl Into<String>, paint: Paint) -> Line<'static> {
        Line::from(Span::styled(text.into(), self.style(paint)))
    }

    /// How much of one a part is. Only what is all of it or more looks so, only what is none is empty.
    pub(super) fn bar(self, part: f64, width: usize) -> String {
        let steps = if self.unicode { PARTS.len() } else { 1 };
        let all = width * steps;
        let filled = (part * all as f64).round() as usize;
        let filled = match filled {
            _ if part >= 1.0 => all,
            _ if part <= 0.0 => 0,
            filled => filled.clamp(1, all - 1),
        };
        let (whole, rest) = (filled / steps, filled % steps);
        let (full, empty) = if self.unicode {
            ('█', '░')
        } else {
            ('#', '.')
        };
        let mut bar: String = std::iter::repeat_n(full, whole).collect();
        if rest > 0 {
            bar.push(PARTS[rest - 1]);
        }
        let blank = width - whole - usize::from(rest > 0);
        bar.extend(std::iter::repeat_n(empty, blank));
        bar
    }

    /// One character for each figure; none for what is not known, and the lowest only for zero.
    pub(super) fn spark(self, series: &[Option<f64>]) -> String {
        let levels = if self.unicode { LEVELS } else { ASCII_LEVELS };
        let most = series.iter().flatten().copied().fold(0.0, f64::max);
        let level = |figure: f64| {
            if figure <= 0.0 {
                return levels[0];
            }
            let above = (figure / most * (levels.len() - 1) as f64).ceil() as usize;
            levels[above.clamp(1, levels.len() - 1)]
        };
        let figures = series.iter();
        figures.map(|it| it.map_or(' ', level)).collect()
    }

    pub(super) const fn arrows(self) -> &'static str {
        if self.unicode {
            "←/→"
        } else {
            "left/right"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Look;

    const UNICODE: Look = Look {
        color: false,
        unicode: true,
    };
    const ASCII: Look = Look {
        color: false,
        unicode: false,
    };

    #[test]
    fn bars_are_empty_or_full_only_for_none_and_all() {
        for (part, unicode, ascii) in [
            (0.0, "░░░░", "...."),
            (0.001, "▏░░░", "#..."),
            (0.5, "██░░", "##.."),
            (0.6, "██▍░", "##.."),
            (0.999, "███▉", "###."),
            (1.0, "████", "####"),
            (7.0, "████", "####"),
        ] {
            assert_eq!(UNICODE.bar(part, 4), unicode, "{part}");
            assert_eq!(ASCII.bar(part, 4), ascii, "{part}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let series = [None, Some(0.0), Some(0.01), Some(4.0), Some(8.0), None];
        assert_eq!(UNICODE.spark(&series), " ▁▂▅█ ");
        assert_eq!(ASCII.spark(&series), " _.=# ");
        assert_eq!(UNICODE.spark(&[Some(0.0), None]), "▁ ");
    }
}
