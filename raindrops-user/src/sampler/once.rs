//! One view without a daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::SystemTime,
};

use super::{SamplerError, host, sources, suspects::suspects, watched::Watched};
use crate::{
    config::SlabPlaces,
    host::Facts,
    ids::Monotonic,
    plan::{self, AcceptHook, Off, Turns, netns::namespaces},
    source::{proc::ProcReader, slab::Looker},
    view::{
        View,
        merge::{Inputs, merge},
        recent::Marks,
        servers::classify,
    },
};

/// One view without a daemon: what a single reading can tell.
///
/// # Errors
/// When there can be no view at all.
pub fn one_tick() -> Result<View, SamplerError> {
    let facts = Facts::gather(true);
    let wall = SystemTime::now();
    let namespaces = namespaces(&facts, None).map_err(SamplerError::NotAllowed)?;
    let watched = Watched::open(namespaces)?;
    let inodes = watched.inodes();
    let proc = ProcReader::new(PathBuf::from("/proc")).scan(&inodes, &BTreeSet::new());
    // Where the daemon could not load the programs either, that is what there is to say.
    let off = plan::bpf(&facts, true, AcceptHook::Auto, Turns::On)
        .err()
        .unwrap_or_else(|| Off {
            reason: "a single reading, without a daemon".to_owned(),
            grant: Some("start the daemon: raindrops serve".to_owned()),
        });
    let servers = classify(&proc, &inodes, &BTreeMap::new());
    let mut slabs = Looker::once(SlabPlaces::default());
    let slabs = slabs.look(&suspects(&proc, &servers));
    let now = Monotonic::now();
    let sources = vec![
        sources::bpf_off(&off),
        sources::sock_diag(&watched, now),
        sources::netns(&watched, now, facts.capabilities.sys_ptrace),
        sources::processes(Some(&proc), None, now, facts.capabilities.sys_ptrace),
        sources::slabs(Some(&slabs), None, now, facts.capabilities.sys_ptrace),
    ];
    Ok(merge(Inputs {
        host: &host(&facts),
        sources,
        gaps: sources::gaps(&watched).collect(),
        now,
        wall,
        since: wall,
        namespaces: &watched.for_view(),
        ledger: None,
        bpf: None,
        marks: &Marks::default(),
        proc: Some(&proc),
        servers: Some(&servers),
        puma: None,
        exits: &BTreeMap::new(),
        slabs: Some(&slabs),
    }))
}
