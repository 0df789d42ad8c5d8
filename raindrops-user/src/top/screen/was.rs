//! Listeners as they were: what is remembered is less than what is known now.

use super::super::state::Row;
use crate::render::{
    table::{Cell, Column, Paint, Table},
    text::{count, known},
    units::micros,
};

pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(vec![
        Column::left("LISTENER").cut_to(20, 14),
        Column::right("QUEUED"),
        Column::right("MOST").rank(1),
        Column::right("OVERFLOW"),
        Column::right("WAIT P99"),
        Column::right("ACTIVE"),
        Column::right("WAITING"),
        Column::right("CALLING"),
        Column::right("ACC/S"),
    ]);
    for row in rows {
        let was = row.was.unwrap_or_default();
        let wide = |it: Option<u32>| count(it.map(u64::from));
        let dropped = wide(was.overflows);
        let has_dropped = was.overflows.is_some_and(|it| it > 0);
        table.push(vec![
            Cell::new(&*row.address),
            wide(was.queued),
            wide(was.peak),
            if has_dropped {
                dropped.paint(Paint::Bad)
            } else {
                dropped
            },
            known(was.wait_p99_us.map(|it| micros(it.into()))),
            wide(was.active),
            wide(was.waiting),
            wide(was.calling),
            known(was.accepts_per_s.map(|it| format!("{it:.1}"))),
        ]);
    }
    table
}
