//! What the running kernel lets raindrops know, as docs/kernels.md has it: a test asks for less
//! only where this says so. And the facts that the document's tables are made of.

use std::{env, fs::OpenOptions, io::Write as _};

use anyhow::{Context as _, Result};

use crate::life::Hook;

/// The release of the kernel, as (major, minor).
pub fn release() -> Result<(u32, u32)> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    let parsed = number().zip(number());
    parsed.with_context(|| format!("an unexpected release: {release}"))
}

/// How state changes are followed: a second program does what the first one could not.
pub fn lifecycle() -> Result<&'static str> {
    let release = release()?;
    Ok(if release < (6, 1) {
        "raw tracepoint"
    } else if release < (7, 0) {
        "raw tracepoint, twice"
    } else {
        "raw tracepoint, then tracepoint"
    })
}

/// The tracepoint at which a listener learns of a connection.
pub fn has_sk_data_ready() -> Result<bool> {
    Ok(release()? >= (6, 3))
}

/// Whether a connection is told which listener of a SO_REUSEPORT group it belongs to.
pub fn tells_members(accept: &str) -> Result<bool> {
    Ok(accept == "fexit" || has_sk_data_ready()?)
}

/// Whether unix listeners that were bound to one name are told apart.
pub fn tells_same_names(hook: Hook) -> Result<bool> {
    Ok(hook == Hook::Fexit || has_sk_data_ready()?)
}

/// Whether connections in the queue of a member that closes can go to another.
pub fn moves_connections() -> Result<bool> {
    Ok(release()? >= (5, 14))
}

/// Whether hash maps may get memory as they go.
pub fn allocates_in_programs() -> Result<bool> {
    Ok(release()? >= (6, 1))
}

/// The most that the maps of an idle host may take, in MB, as the kernel accounts for them. `None`
/// where it states how large they would be when full.
pub fn idle_maps_mb() -> Result<Option<u64>> {
    let release = release()?;
    Ok(if release < (5, 11) {
        // Room for all connections, and for what each is doing, is taken at once.
        Some(36)
    } else if release < (6, 4) {
        None
    } else {
        Some(4)
    })
}

/// Whether a program can be preempted by an event that the kernel then skips.
pub fn may_skip_accepts() -> Result<bool> {
    Ok(release()? >= (7, 0))
}

/// Whether the programs may use atomic instructions that return the old value.
pub fn has_fetching_atomics() -> Result<bool> {
    Ok(release()? >= (5, 12))
}

/// How reads and writes are followed; `None` where turns cannot be.
pub fn turns() -> Result<Option<&'static str>> {
    let release = release()?;
    Ok(if release < (5, 13) {
        None
    } else if release < (6, 3) {
        Some("fexit")
    } else if release < (7, 0) {
        Some("raw_tp")
    } else {
        Some("tracepoint")
    })
}

/// Whether turns of unix connections are followed.
pub fn sees_unix_turns() -> Result<bool> {
    Ok(release()? >= (6, 3))
}

/// States what was found here, for the tables of docs/kernels.md.
pub fn state(fact: &str, value: &str) -> Result<()> {
    let Some(path) = env::var_os("RAINDROPS_FACTS") else {
        return Ok(());
    };
    let mut file = OpenOptions::new().append(true).open(path)?;
    writeln!(file, "{fact}\t{value}").context("stating a fact")
}
