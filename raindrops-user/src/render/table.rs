//! Columns that line up, and fit: a small layout of text cells.
//!
//! It knows nothing of views. Width is counted in characters, so wide (CJK) characters in a unix
//! path shift the rest of their row.

use std::{fmt::Write as _, io};

/// How a cell looks where colour is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paint {
    #[default]
    Plain,
    Bad,
    Warn,
    Dim,
    Bold,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bad => "\x1b[1;31m",
            Self::Warn => "\x1b[33m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
        }
    }

    /// The text, between codes where colour is wanted.
    pub(crate) fn on(self, text: &str, color: bool) -> String {
        if color && self != Self::Plain && !text.is_empty() {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    /// A shorter form for where the table does not fit.
    short: Option<String>,
    paint: Paint,
    /// Characters at the end that stay where the rest is cut.
    keep: usize,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            short: None,
            paint: Paint::Plain,
            keep: 0,
        }
    }

    pub(crate) fn short(mut self, short: impl Into<String>) -> Self {
        self.short = Some(short.into());
        self
    }

    pub(crate) const fn keep_end(mut self, characters: usize) -> Self {
        self.keep = characters;
        self
    }

    pub(crate) const fn paint(mut self, paint: Paint) -> Self {
        self.paint = paint;
        self
    }

    pub(crate) const fn look(&self) -> Paint {
        self.paint
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// The title where the table does not fit.
    short: &'static str,
    align: Align,
    /// Cells may be cut in the middle, if need be down to `least`.
    cut: Option<Cut>,
    /// May be left out where the table does not fit: the highest goes first, 0 only where cutting
    /// does not help.
    rank: Option<u8>,
}

impl Column {
    pub(crate) const fn left(title: &'static str) -> Self {
        Self {
            title,
            short: title,
            align: Align::Left,
            cut: None,
            rank: None,
        }
    }

    pub(crate) const fn right(title: &'static str) -> Self {
        Self {
            title,
            short: title,
            align: Align::Right,
            cut: None,
            rank: None,
        }
    }

    pub(crate) const fn short(mut self, short: &'static str) -> Self {
        self.short = short;
        self
    }

    pub(crate) const fn cut_to(mut self, comfortable: usize, least: usize) -> Self {
        self.cut = Some(Cut { comfortable, least });
        self
    }

    pub(crate) const fn rank(mut self, rank: u8) -> Self {
        self.rank = Some(rank);
        self
    }
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    comfortable: usize,
    least: usize,
}

#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// What was decided for a width, and is ready to be written.
pub(crate) struct Layout<'a> {
    table: &'a Table,
    fit: Fit,
}

struct Fit {
    /// Columns that are shown.
    shown: Vec<usize>,
    /// Of all columns.
    widths: Vec<usize>,
    gap: usize,
    short: bool,
}

impl Fit {
    fn total(&self) -> usize {
        let widths: usize = self.shown.iter().map(|index| self.widths[*index]).sum();
        widths + self.gap * self.shown.len().saturating_sub(1)
    }
}

impl Table {
    pub(crate) const fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// `None` is no limit.
    pub(crate) fn lay_out(&self, width: Option<usize>) -> Layout<'_> {
        Layout {
            table: self,
            fit: self.fit(width),
        }
    }

    /// Gives up, in this order: wide gaps, the middle of very long cells, long forms, columns by
    /// their rank, the middle of all that may be cut, columns of rank 0.
    fn fit(&self, width: Option<usize>) -> Fit {
        let mut fit = Fit {
            shown: (0..self.columns.len()).collect(),
            widths: self.widths(false),
            gap: 2,
            short: false,
        };
        let Some(width) = width else { return fit };
        if fit.total() > width {
            fit.gap = 1;
        }
        self.cut(&mut fit, width, |cut| cut.comfortable);
        if fit.total() > width {
            fit.short = true;
        }
        if fit.short {
            self.leave_out(&mut fit, width, 1, |cut| cut.comfortable);
            self.leave_out(&mut fit, width, 0, |cut| cut.least);
        }
        fit
    }

    /// Leaves out what has this rank or a higher one until the rest can be cut to fit, or nothing
    /// is left to leave out.
    fn leave_out(&self, fit: &mut Fit, width: usize, rank: u8, down_to: fn(Cut) -> usize) {
        loop {
            fit.widths = self.widths(true);
            self.cut(fit, width, down_to);
            let ranks = fit.shown.iter().filter_map(|it| self.columns[*it].rank);
            match ranks.max().filter(|highest| *highest >= rank) {
                Some(highest) if fit.total() > width => {
                    fit.shown
                        .retain(|it| self.columns[*it].rank != Some(highest));
                }
                _ => break,
            }
        }
    }

    /// Takes from the widest of what may be cut until all fits or nothing is left to take.
    fn cut(&self, fit: &mut Fit, width: usize, down_to: fn(Cut) -> usize) {
        while fit.total() > width {
            let widest = (fit.shown.iter().copied())
                .filter(|index| {
                    let cut = self.columns[*index].cut;
                    cut.is_some_and(|cut| fit.widths[*index] > down_to(cut))
                })
                .max_by_key(|index| fit.widths[*index]);
            match widest {
                Some(index) => fit.widths[index] -= 1,
                None => break,
            }
        }
    }

    fn widths(&self, short: bool) -> Vec<usize> {
        self.columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                self.rows
                    .iter()
                    .map(|row| chars(form(&row[index], short)))
                    .chain([chars(if short { column.short } else { column.title })])
                    .max()
                    .unwrap_or(0)
            })
            .collect()
    }
}

impl Layout<'_> {
    /// Whether there is room for the column with this title.
    pub(crate) fn shows(&self, title: &str) -> bool {
        let mut shown = self.fit.shown.iter();
        shown.any(|index| self.table.columns[*index].title == title)
    }

    pub(crate) fn write(&self, color: bool, out: &mut impl io::Write) -> io::Result<()> {
        let titles = self.titles();
        for row in std::iter::once(&titles).chain(&self.table.rows) {
            let mut line = String::new();
            for (text, paint) in self.pieces(row) {
                line.push_str(&paint.on(&text, color));
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// Its titles, then its rows, each in pieces of one look.
    pub(crate) fn lines(&self) -> Vec<Vec<(String, Paint)>> {
        let titles = self.titles();
        let rows = std::iter::once(&titles).chain(&self.table.rows);
        rows.map(|row| self.pieces(row)).collect()
    }

    fn pieces(&self, row: &[Cell]) -> Vec<(String, Paint)> {
        let mut pieces = Vec::new();
        let fit = &self.fit;
        let last = fit.shown.last().copied();
        for index in fit.shown.iter().copied() {
            let (cell, width) = (&row[index], fit.widths[index]);
            let text = cut_middle(form(cell, fit.short), width, cell.keep);
            let pad = width.saturating_sub(chars(&text));
            let blank = |count| (" ".repeat(count), Paint::Plain);
            match self.table.columns[index].align {
                Align::Right => pieces.extend([blank(pad), (text, cell.paint)]),
                Align::Left if Some(index) == last => pieces.push((text, cell.paint)),
                Align::Left => pieces.extend([(text, cell.paint), blank(pad)]),
            }
            if Some(index) != last {
                pieces.push(blank(fit.gap));
            }
        }
        pieces
    }

    fn titles(&self) -> Vec<Cell> {
        let columns = self.table.columns.iter();
        let title = |column: &Column| {
            Cell::new(column.title)
                .short(column.short)
                .paint(Paint::Bold)
        };
        columns.map(title).collect()
    }
}

fn form(cell: &Cell, short: bool) -> &str {
    match &cell.short {
        Some(text) if short => text,
        _ => &cell.text,
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// `/run/ver..app.sock`: the end says more than the beginning, so two thirds go to it, and `keep`
/// characters of it in any case.
fn cut_middle(text: &str, width: usize, keep: usize) -> String {
    let length = chars(text);
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(2);
    let head = (kept / 3).min(kept.saturating_sub(keep));
    let tail = kept - head;
    text.chars()
        .take(head)
        .chain("..".chars().take(width))
        .chain(text.chars().skip(length - tail))
        .collect()
}

/// Words on lines of at most `width`, every line after the first with `indent` before it.
pub(crate) fn wrap(text: &str, width: Option<usize>, indent: usize) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let words = text.trim_start_matches(' ');
    let lead = text.len() - words.len();
    let mut out = " ".repeat(lead);
    let mut column = lead;
    for (index, word) in words.split(' ').enumerate() {
        let length = chars(word);
        if index > 0 && column + 1 + length > width {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if index > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests;
