//! What is exported: each family once.

/// What kind of figures a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Counter,
    Gauge,
    Histogram,
    Info,
}

#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without `_total` and the like.
    pub name: &'static str,
    pub kind: Type,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

pub const FAMILIES: [Family; 5] = [
    Family {
        name: "raindrops_slab_events",
        kind: Type::Counter,
        help: "Counters that applications keep in slabs, in the field's own unit.",
        labels: &["slab", "field", "service"],
    },
    Family {
        name: "raindrops_slab_value",
        kind: Type::Gauge,
        help: "Gauges and maxima that applications keep in slabs, in the field's own unit.",
        labels: &["slab", "field", "service"],
    },
    Family {
        name: "raindrops_slab_observations",
        kind: Type::Histogram,
        help: "Histograms that applications keep in slabs, in the field's own unit.",
        labels: &["slab", "field", "service"],
    },
    Family {
        name: "raindrops_source_up",
        kind: Type::Gauge,
        help: "Whether a source of figures works: 1 also where it is degraded.",
        labels: &["source"],
    },
    Family {
        name: "raindrops_build",
        kind: Type::Info,
        help: "The version of raindrops.",
        labels: &["version"],
    },
];
