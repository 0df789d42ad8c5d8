//! The rows of the table of listeners: which, and in which order.

use std::collections::BTreeSet;

use super::{super::past::Figures, State};
use crate::{
    escape::printable,
    render::text::listeners::names,
    view::{Listener, View},
};

/// A listener now, or what is remembered of it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::top) struct Row {
    pub id: String,
    /// As it is printed.
    pub address: String,
    pub was: Option<Figures>,
}

impl State {
    pub(in crate::top) fn rows(&self) -> Vec<Row> {
        match self.back_at {
            Some(at) => self.past_rows(at),
            None => self.present_rows(),
        }
    }

    fn present_rows(&self) -> Vec<Row> {
        let Some(seen) = self.seen() else {
            return Vec::new();
        };
        let view = &seen.view;
        let mut listeners: Vec<&Listener> = view
            .listeners
            .iter()
            .filter(|it| self.lets_through(view, it))
            .collect();
        self.order.sort(&mut listeners, &seen.diagnosis);
        let names = names(view);
        let rows = listeners.into_iter().map(|it| Row {
            id: it.id.clone(),
            address: names[it.id.as_str()].clone(),
            was: None,
        });
        rows.collect()
    }

    fn past_rows(&self, at: u64) -> Vec<Row> {
        // Whose server is called so now.
        let found: BTreeSet<&str> = self
            .view()
            .into_iter()
            .flat_map(|view| {
                view.listeners
                    .iter()
                    .filter(|it| self.lets_through(view, it))
            })
            .map(|it| it.id.as_str())
            .collect();
        let wanted = |id: &str, address: &str| found.contains(id) || self.matches(address);
        let names = self.view().map(names).unwrap_or_default();
        let named = |id: &str, address: &str| match names.get(id) {
            Some(name) => name.clone(),
            None => printable(address),
        };
        let mut rows: Vec<Row> = self
            .past
            .rows(at)
            .filter(|(id, name, _)| wanted(id, &name.address))
            .map(|(id, name, figures)| Row {
                id: id.to_owned(),
                address: named(id, &name.address),
                was: Some(*figures),
            })
            .collect();
        rows.sort_by_key(|row| {
            let figures = row.was.unwrap_or_default();
            (
                self.order.of_past(&figures),
                row.address.clone(),
                row.id.clone(),
            )
        });
        rows
    }

    fn lets_through(&self, view: &View, listener: &Listener) -> bool {
        let server = listener.server.value().map(|id| view.server_label(id));
        let netns = listener.netns.label();
        self.matches(&listener.address)
            || server.is_some_and(|it| self.matches(&it))
            || self.matches(&netns)
    }

    fn matches(&self, text: &str) -> bool {
        let filter = self.typing.as_ref().unwrap_or(&self.filter);
        let text = printable(text).to_lowercase();
        text.contains(&filter.to_lowercase())
    }
}
