//! The library of slabs for other languages, and slabs as the servers' processes fill them.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use raindrops_slab::{
    Slab,
    claim::{Occupant, Owner},
    layout::Placed,
    process,
    read::Value,
};

/// Variable that the bindings look into, too.
pub const LIBRARY: &str = "RAINDROPS_SLAB_LIB";

/// `libraindrops_slab.so`: what `cargo xtask test` built, else the last build there is.
#[must_use]
pub fn library() -> Option<PathBuf> {
    if let Some(path) = env::var_os(LIBRARY) {
        return Some(path.into());
    }
    let target = repository().join("target");
    let mut profiles = ["release", "debug"].into_iter();
    profiles.find_map(|profile| {
        Some(target.join(profile).join("libraindrops_slab.so")).filter(|path| path.exists())
    })
}

/// The crate's directory, with what is for other languages.
#[must_use]
pub fn sources() -> PathBuf {
    repository().join("raindrops-slab")
}

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// What one living process has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfWorker {
    pub pid: u32,
    pub fields: Vec<(String, Value)>,
}

impl OfWorker {
    /// A counter's or gauge's value.
    pub fn count(&self, name: &str) -> Result<i64> {
        let field = self.fields.iter().find(|(field, _)| field == name);
        match field {
            Some((_, Value::Counter(count))) => Ok(i64::try_from(*count)?),
            Some((_, Value::Gauge(level))) => Ok(*level),
            _ => anyhow::bail!("no counter and no gauge {name} in {self:?}"),
        }
    }
}

/// What the living have counted in a file, each for itself.
pub fn by_worker(path: &Path) -> Result<Vec<OfWorker>> {
    let slab = Slab::open(path).with_context(|| format!("opening {}", path.display()))?;
    let layout = slab.layout();
    let reading = slab.reading();
    let is_live = |owner: &Owner| !process::is_dead(Occupant::Owner(*owner));
    let workers = reading.slots(layout).filter_map(|slot| {
        let owner = slot.owner().filter(is_live)?;
        let field = |placed: &Placed| (placed.field.name.clone(), slot.own(placed));
        Some(OfWorker {
            pid: owner.pid,
            fields: layout.fields().iter().map(field).collect(),
        })
    });
    Ok(workers.collect())
}
