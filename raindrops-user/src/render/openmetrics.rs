//! The view for Prometheus: OpenMetrics 1.0, and the older text format.
//!
//! What there is, is in [`catalogue`]: a family's name, type, unit, help and figure are written there
//! once. A figure that is not known has no line, and a family without lines is left out. No two lines
//! have the same labels. How many listeners and workers have lines is bounded, see [`bound`].

mod bound;
mod catalogue;
mod continuity;
mod listeners;
mod netns;
mod sample;
mod slabs;
mod spread;
mod workers;
mod write;

use std::{collections::BTreeMap, io};

pub use self::{
    bound::{Bounds, USUAL_LISTENERS},
    catalogue::{Family, PARTS, Part, Type, families},
    continuity::Continuity,
};
use self::{
    catalogue::Of,
    continuity::LeftOut,
    listeners::{Series, series},
    sample::Sample,
    workers::{Process, Servers, processes, servers},
    write::Labels,
};
use crate::view::{Source, SourceState, View};

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenMetrics,
    /// Version 0.0.4 of Prometheus's own.
    Prometheus,
}

/// `continuity` is that of the view.
pub fn view(
    view: &View,
    continuity: &Continuity,
    dialect: Dialect,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let whole = Whole {
        view,
        continuity,
        listeners: series(view, continuity),
        processes: processes(view, continuity),
        servers: servers(view, continuity),
    };
    let mut text = String::new();
    for family in families() {
        let samples = whole.samples(family);
        if !samples.is_empty() {
            write::family(family, &samples, dialect, &mut text);
        }
    }
    if dialect == Dialect::OpenMetrics {
        text.push_str("# EOF\n");
    }
    out.write_all(text.as_bytes())
}

/// The view by its series.
struct Whole<'v> {
    view: &'v View,
    continuity: &'v Continuity,
    listeners: Vec<Series<'v>>,
    processes: Vec<Process<'v>>,
    servers: BTreeMap<Labels, Servers>,
}

impl Whole<'_> {
    fn samples(&self, family: &Family) -> BTreeMap<Labels, Sample> {
        let (listeners, processes) = (self.listeners.iter(), self.processes.iter());
        match family.of {
            Of::Listener(figure) => listeners
                .filter_map(|it| Some((it.labels.clone(), figure(it)?)))
                .collect(),
            Of::Member => listeners
                .flat_map(|it| with_one_more(&it.labels, it.queues()))
                .collect(),
            Of::ListenerPhase => listeners
                .flat_map(|it| with_one_more(&it.labels, it.levels.phases.named()))
                .collect(),
            Of::Worker(figure) => processes
                .filter_map(|it| Some((it.labels.clone(), figure(it)?)))
                .collect(),
            Of::WorkerPhase => processes
                .flat_map(|it| with_one_more(&it.labels, it.phases()))
                .collect(),
            Of::WorkerInfo => processes
                .filter_map(|it| Some((it.labels_of_info(), Sample::count(1u64)?)))
                .collect(),
            Of::Server(figure) => self
                .servers
                .iter()
                .filter_map(|(labels, it)| Some((labels.clone(), figure(it)?)))
                .collect(),
            Of::Slab(is_wanted) => slabs::fields(self.view, self.continuity, is_wanted),
            Of::Source => self.view.sources.iter().filter_map(is_up).collect(),
            Of::Gap => {
                let gaps = self.continuity.gaps().iter();
                gaps.filter_map(|(what, count)| Some((vec![what.clone()], Sample::count(*count)?)))
                    .collect()
            }
            Of::LeftOut => {
                let LeftOut {
                    listeners,
                    members,
                    workers,
                } = self.continuity.left_out();
                let of = [
                    ("listeners", listeners),
                    ("members", members),
                    ("workers", workers),
                ];
                of.into_iter()
                    .filter_map(|(of, count)| Some((vec![of.to_owned()], Sample::count(count)?)))
                    .collect()
            }
            Of::View(figure) => figure(self.view)
                .map(|it| (Vec::new(), it))
                .into_iter()
                .collect(),
            Of::Build => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                let one = Sample::count(1u64).map(|it| (vec![version], it));
                one.into_iter().collect()
            }
        }
    }
}

fn with_one_more(
    labels: &[String],
    samples: impl Iterator<Item = (String, Sample)>,
) -> impl Iterator<Item = (Labels, Sample)> {
    samples.map(move |(last, sample)| ([labels, &[last]].concat(), sample))
}

fn is_up(source: &Source) -> Option<(Labels, Sample)> {
    let is_up: u64 = match source.state {
        SourceState::On | SourceState::Degraded => 1,
        SourceState::Off => 0,
    };
    Some((vec![source.name.clone()], Sample::count(is_up)?))
}

#[cfg(test)]
mod tests;
