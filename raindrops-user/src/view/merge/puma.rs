//! Puma's own figures, server by server: what its control server said, else an estimate.

mod estimate;
mod owner;
mod said;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::owner::Evidence;
use super::{Inputs, Row};
use crate::{
    fact::Fact,
    snapshot::puma::ControlSeen,
    view::{Server, Source, Worker, servers::Kind},
};

/// The servers with what is known of puma, and how its control servers fare; `None` where none is
/// configured.
pub(super) fn servers(
    inputs: &Inputs<'_>,
    rows: &[Row<'_>],
    workers: &[Worker],
) -> (Vec<Server>, Option<Source>) {
    let evidence = Evidence::of(inputs, rows);
    let controls = inputs.puma.map_or(&[][..], |puma| &puma.controls);
    let owner = |control: &ControlSeen| evidence.owner(&control.address, control.answer.as_ref()?);
    let owners: Vec<Option<&Server>> = controls.iter().map(owner).collect();
    let mut said = BTreeMap::new();
    for (control, owner) in controls.iter().zip(&owners) {
        if let (Some(answer), Some(owner)) = (&control.answer, owner) {
            let puma = said::puma(owner, answer, inputs.now, |pid| {
                evidence.process(owner, pid)
            });
            said.entry(&owner.id).or_insert(puma);
        }
    }
    let source = inputs
        .puma
        .map(|puma| source::puma(&puma.controls, &owners, inputs.now));
    let servers = inputs.servers.iter().flat_map(|it| &it.servers);
    let servers = servers.map(|server| Server {
        puma: if server.kind == Kind::Puma.name() {
            let names = |pid| {
                let process = inputs.proc?.processes.get(&pid)?;
                let threads = process.each_thread.as_ref().filter(|it| it.complete)?;
                Some(threads.by_id.values().map(|thread| thread.comm.as_slice()))
            };
            let estimate = || estimate::puma(server, workers, names);
            Fact::if_known(said.remove(&server.id).or_else(estimate))
        } else {
            Fact::Nothing
        },
        ..server.clone()
    });
    (servers.collect(), source)
}
