//! Families of slabs, and of raindrops itself.

use super::{Family, Of, SLAB, Type};
use crate::render::openmetrics::sample::Sample;

pub(super) const SLABS: [Family; 3] = [
    Family {
        name: "raindrops_slab_events",
        kind: Type::Counter,
        unit: None,
        help: "Counters that applications keep in slabs, in the field's own unit.",
        labels: SLAB,
        source: "slab",
        absent: "where there is no such field",
        of: Of::Slab(|field| field.kind == "counter"),
    },
    Family {
        name: "raindrops_slab_value",
        kind: Type::Gauge,
        unit: None,
        help: "Gauges and maxima that applications keep in slabs, in the field's own unit.",
        labels: SLAB,
        source: "slab",
        absent: "where there is no such field; a gauge also while some owners are not known",
        of: Of::Slab(|field| matches!(&*field.kind, "gauge" | "max")),
    },
    Family {
        name: "raindrops_slab_observations",
        kind: Type::Histogram,
        unit: None,
        help: "Histograms that applications keep in slabs, in the field's own unit.",
        labels: SLAB,
        source: "slab",
        absent: "where there is no such field",
        of: Of::Slab(|field| field.kind == "histogram"),
    },
];

pub(super) const ITSELF: [Family; 5] = [
    Family {
        name: "raindrops_source_up",
        kind: Type::Gauge,
        unit: None,
        help: "Whether a source of figures works: 1 also where it is degraded.",
        labels: &["source"],
        source: "the daemon",
        absent: "never",
        of: Of::Source,
    },
    Family {
        name: "raindrops_gaps",
        kind: Type::Counter,
        unit: None,
        help: "What could not be counted, by what is missing.",
        labels: &["what"],
        source: "the daemon",
        absent: "while nothing is missing",
        of: Of::Gap,
    },
    Family {
        name: "raindrops_series_left_out",
        kind: Type::Gauge,
        unit: None,
        help: "Listeners and workers that have no series because there are more than may have some \
               (metrics_listeners), and addresses whose sockets have no lines of their own.",
        labels: &["of"],
        source: "the daemon",
        absent: "never",
        of: Of::LeftOut,
    },
    Family {
        name: "raindrops_view_timestamp_seconds",
        kind: Type::Gauge,
        unit: Some("seconds"),
        help: "When the figures were taken, in seconds since 1970: it stands still while the \
               sampler hangs.",
        labels: &[],
        source: "clock",
        absent: "never",
        of: Of::View(|view| {
            let since = view.taken_at.duration_since(std::time::UNIX_EPOCH).ok()?;
            Sample::micros(u64::try_from(since.as_micros()).ok()?)
        }),
    },
    Family {
        name: "raindrops_build",
        kind: Type::Info,
        unit: None,
        help: "The version of raindrops.",
        labels: &["version"],
        source: "the daemon",
        absent: "never",
        of: Of::Build,
    },
];
