//! Slabs as a view shows them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use raindrops_user::view::{
    View,
    slabs::{Number, Slab},
};

use crate::{
    daemon::{Daemon, read_at_ns},
    lookup, wait,
};

/// The only one of a kind.
pub fn only<'a>(view: &'a View, kind: &str) -> Result<&'a Slab> {
    match of_kind(view, kind)[..] {
        [slab] => Ok(slab),
        ref several => anyhow::bail!("{} slabs of kind {kind}: {:#?}", several.len(), view.slabs),
    }
}

#[must_use]
pub fn of_kind<'a>(view: &'a View, kind: &str) -> Vec<&'a Slab> {
    view.slabs.iter().filter(|slab| slab.kind == kind).collect()
}

/// Its totals in the order of its fields.
#[must_use]
pub fn totals(slab: &Slab) -> Vec<(&str, Option<Number>)> {
    let fields = slab.fields.iter().map(|field| field.name.as_str());
    fields
        .map(|name| (name, slab.counters.get(name).copied()))
        .collect()
}

/// What a worker says in all its slabs.
pub fn of_worker(view: &View, pid: u32) -> Result<&BTreeMap<String, Number>> {
    let said = lookup::worker(view, pid)?.slab.as_ref();
    said.with_context(|| format!("worker {pid} says nothing in slabs: {:#?}", view.slabs))
}

impl Daemon {
    /// A view with a look at slabs that began after now.
    pub fn slabs_anew(&self) -> Result<View> {
        let now = wait::monotonic_ns();
        self.until("a later look at the slabs", |view| {
            read_at_ns(view, "slab").is_ok_and(|read| read >= now)
        })
    }

    /// The same once there is a slab of a kind.
    pub fn until_slab(&self, kind: &str) -> Result<View> {
        // A memory map is read after a second, two and so on.
        wait::within(
            3 * wait::ceiling(),
            &format!("a slab of kind {kind}"),
            || {
                let view = self.view()?;
                Ok((!of_kind(&view, kind).is_empty()).then_some(view))
            },
        )
    }
}
