//! The example with axum, which is built with the tests of its crate.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use raindrops_slab::{Slab, read::Value};
use raindrops_tests::{
    client::{self, Address},
    skip, wait,
};

/// The built example, beside this test.
fn example() -> Option<PathBuf> {
    let this = env::current_exe().ok()?;
    let path = this.parent()?.parent()?.join("examples/axum");
    path.exists().then_some(path)
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Check that requests are counted, that a client who leaves is no longer answered, and that nothing
/// is being answered when the server was killed.
#[test]
fn counts_requests() -> Result<()> {
    let Some(example) = example() else {
        skip::report(
            "the example is not built: run `cargo xtask test`, or first \
             `cargo build --package raindrops-slab --example axum`",
        );
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("axum.slab");
    let child = Command::new(example)
        .arg("127.0.0.1:0")
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut server = Ended(child);
    let stdout = server.0.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address = Address::Tcp(line.trim().parse().with_context(|| line.clone())?);

    let slab = Slab::open(&path)?;
    let is = |requests, calling| {
        wait::until("requests and calling", || {
            let totals = slab.totals();
            let now = (totals.counter("requests"), totals.gauge("calling"));
            Ok((now == (Some(requests), Some(calling))).then_some(()))
        })
    };
    for _ in 0..5 {
        client::short(&address, "/")?;
    }
    is(5, 0)?;
    let Some(Value::Histogram { buckets, .. }) = slab.totals().get("answer").cloned() else {
        anyhow::bail!("no histogram");
    };
    assert_eq!(buckets.iter().sum::<u64>(), 5);
    let leaving = client::asking(&address, 2, "/sleep")?;
    is(7, 2)?;
    drop(leaving);
    is(7, 0)?;
    let _staying = client::asking(&address, 1, "/sleep")?;
    is(8, 1)?;
    drop(server);
    is(8, 0)
}
