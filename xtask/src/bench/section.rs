//! The sections of the document, one file each.

mod bpf_cost;
mod crowd;
mod daemon_cost;
mod keep_alive;
mod listener_reading;
mod look_over;
mod slabs;
mod stalls;
mod syscall_tax;
mod throughput;
mod turn_cost;
mod view_latency;

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Setting, report::Report, statistics::Sample};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    BpfCost,
    Throughput,
    SyscallTax,
    ListenerReading,
    DaemonCost,
    ViewLatency,
    TurnCost,
    KeepAlive,
    LookOver,
    Slabs,
    Crowd,
    Stalls,
}

/// A section as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// BPF time per connection and per event, and map memory
    A,
    /// Connections per second and processor time of each
    B,
    /// What the hooks on system calls cost other system calls
    C,
    /// Reading all listeners
    D,
    /// The daemon's processor time and memory
    E,
    /// Latency of the view
    F,
    /// BPF time per turn
    G,
    /// Keep-alive requests per second
    H,
    /// Looking over all connections
    I,
    /// Counting in slabs and reading them
    J,
    /// A good client of the socket among bad ones
    K,
    /// What is seen of short stalls
    Stalls,
    All,
}

impl Section {
    pub const ALL: [Self; 12] = [
        Self::BpfCost,
        Self::Throughput,
        Self::SyscallTax,
        Self::ListenerReading,
        Self::DaemonCost,
        Self::ViewLatency,
        Self::TurnCost,
        Self::KeepAlive,
        Self::LookOver,
        Self::Slabs,
        Self::Crowd,
        Self::Stalls,
    ];

    pub fn chosen(choices: &[Choice]) -> Vec<Self> {
        let is_chosen = |section: &Self| {
            choices
                .iter()
                .any(|choice| *choice == Choice::All || *choice == section.choice())
        };
        Self::ALL.into_iter().filter(is_chosen).collect()
    }

    const fn choice(self) -> Choice {
        match self {
            Self::BpfCost => Choice::A,
            Self::Throughput => Choice::B,
            Self::SyscallTax => Choice::C,
            Self::ListenerReading => Choice::D,
            Self::DaemonCost => Choice::E,
            Self::ViewLatency => Choice::F,
            Self::TurnCost => Choice::G,
            Self::KeepAlive => Choice::H,
            Self::LookOver => Choice::I,
            Self::Slabs => Choice::J,
            Self::Crowd => Choice::K,
            Self::Stalls => Choice::Stalls,
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::BpfCost => "BPF time per connection",
            Self::Throughput => "Connections per second with observers attached",
            Self::SyscallTax => "Tax on other system calls",
            Self::ListenerReading => "Reading all listeners",
            Self::DaemonCost => "The daemon's own cost",
            Self::ViewLatency => "Latency of GET /v1/view",
            Self::TurnCost => "BPF time per turn",
            Self::KeepAlive => "Keep-alive requests per second",
            Self::LookOver => "Looking over all connections",
            Self::Slabs => "Counting in slabs and reading them",
            Self::Crowd => "A good client of the socket among bad ones",
            Self::Stalls => "Short stalls",
        }
    }

    pub fn run(self, setting: &Setting) -> Result<Report> {
        match self {
            Self::BpfCost => bpf_cost::run(setting),
            Self::Throughput => throughput::run(setting),
            Self::SyscallTax => syscall_tax::run(setting),
            Self::ListenerReading => listener_reading::run(setting),
            Self::DaemonCost => daemon_cost::run(setting),
            Self::ViewLatency => view_latency::run(setting),
            Self::TurnCost => turn_cost::run(setting),
            Self::KeepAlive => keep_alive::run(setting),
            Self::LookOver => look_over::run(setting),
            Self::Slabs => slabs::run(setting),
            Self::Crowd => crowd::run(setting),
            Self::Stalls => stalls::run(setting),
        }
    }
}

/// What is compared, in the order of one round: each begins some round.
fn rotated<T: Copy>(items: &[T], round: u32) -> Vec<T> {
    let mut items = items.to_vec();
    if !items.is_empty() {
        let first = round as usize % items.len();
        items.rotate_left(first);
    }
    items
}

/// Of one of what is compared, over all rounds.
fn each<K: Ord, V>(rounds: &[BTreeMap<K, V>], of: &K, value: impl Fn(&V) -> f64) -> Option<Sample> {
    Sample::new(rounds.iter().filter_map(|round| round.get(of)).map(value))
}

/// To another in the same round.
fn ratio<K: Ord, V>(
    rounds: &[BTreeMap<K, V>],
    of: &K,
    to: &K,
    value: impl Fn(&V) -> f64,
) -> Option<Sample> {
    let of = |round: &BTreeMap<K, V>| Some(value(round.get(of)?) / value(round.get(to)?));
    Sample::new(rounds.iter().filter_map(of))
}
