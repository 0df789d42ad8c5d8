//! A C program that two processes and four threads count in, compiled as the guide says.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_slab::histogram::bucket_of;
use raindrops_tests::{
    skip::{Need, can_run},
    slab,
};

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/slab/shop.c");

/// Compiles a program against one of the libraries, `so` or `a`.
fn compiled(source: &Path, compiler: &str, directory: &Path, library: &str) -> Result<PathBuf> {
    let shared = slab::library().context("the library is not built")?;
    let place = shared.parent().context("no directory of the library")?;
    let program = directory.join("program");
    let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
    rpath.push(place);
    run(Command::new(compiler)
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-I"])
        .arg(slab::sources().join("c/include"))
        .arg("-o")
        .arg(&program)
        .arg(source)
        .arg("-pthread")
        .arg(shared.with_extension(library))
        .arg(rpath))?;
    Ok(program)
}

/// What it prints; an unsuccessful end is an error.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{text}{complaints}",
        output.status
    );
    Ok(text)
}

/// Check that counts of children, one of them killed, and of threads are complete, in memory and in a
/// file, with the shared and the static library.
#[test]
fn a_program_counts() -> Result<()> {
    if !can_run(&[Need::Program("cc"), Need::SlabLibrary]) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    for library in ["so", "a"] {
        let program = compiled(Path::new(SHOP), "cc", directory.path(), library)?;
        run(&mut Command::new(&program))?;
        run(Command::new(&program).arg(directory.path().join("shop.slab")))?;
    }
    Ok(())
}

/// Check that neither the program nor its children use memory wrongly, or keep any.
#[test]
fn a_program_is_clean_under_valgrind() -> Result<()> {
    if !can_run(&[
        Need::Program("cc"),
        Need::SlabLibrary,
        Need::Program("valgrind"),
    ]) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let program = compiled(Path::new(SHOP), "cc", directory.path(), "so")?;
    run(Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99", "--trace-children=yes"])
        .args(["--leak-check=full", "--show-leak-kinds=all"])
        .arg("--errors-for-leak-kinds=all")
        .arg(program))?;
    Ok(())
}

/// Check that the header sorts values into buckets as the crate does.
#[test]
fn values_fall_into_the_same_buckets() -> Result<()> {
    if !can_run(&[Need::Program("cc"), Need::SlabLibrary]) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let source = directory.path().join("buckets.c");
    std::fs::write(
        &source,
        r#"
#include <stdio.h>
#include <stdlib.h>
#include "raindrops_slab.h"
int main(int argc, char **argv) {
  for (int i = 2; i < argc; i++)
    printf("%u\n", raindrops_bucket_of(strtoull(argv[i], NULL, 10), (uint32_t)atoi(argv[1])));
  return 0;
}
"#,
    )?;
    let program = compiled(&source, "cc", directory.path(), "so")?;
    let powers = (0..64).map(|power| 1u64 << power);
    let values = powers.flat_map(|it| [it - 1, it, it + 1, it | it >> 1, it | it >> 2]);
    let values: Vec<u64> = values.chain([u64::MAX]).collect();
    for buckets in [2, 100, 252] {
        let arguments = values.iter().map(u64::to_string);
        let arguments = [buckets.to_string()].into_iter().chain(arguments);
        let printed = run(Command::new(&program).args(arguments))?;
        let expected: String = values
            .iter()
            .map(|value| format!("{}\n", bucket_of(*value, buckets)))
            .collect();
        assert_eq!(printed, expected);
    }
    Ok(())
}

/// Check that a C++ program can use the header.
#[test]
fn the_header_is_cpp_too() -> Result<()> {
    if !can_run(&[Need::Program("c++"), Need::SlabLibrary]) {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let source = directory.path().join("program.cc");
    std::fs::write(
        &source,
        r#"
#include "raindrops_slab.h"
int main() {
  raindrops_field fields[] = {{"requests", RAINDROPS_COUNTER, nullptr, 0}};
  raindrops_slab *slab = raindrops_slab_create(nullptr, "shop", 1, fields, 1);
  raindrops_slot *slot = raindrops_slab_claim(slab, RAINDROPS_SHARED);
  raindrops_counter_add_shared(raindrops_slot_word(slot, "requests", RAINDROPS_COUNTER), 3);
  uint64_t total = 0;
  raindrops_slab_total(slab, "requests", RAINDROPS_COUNTER, &total);
  raindrops_slot_release(slot);
  raindrops_slab_free(slab);
  return total != 3;
}
"#,
    )?;
    run(&mut Command::new(compiled(
        &source,
        "c++",
        directory.path(),
        "so",
    )?))?;
    Ok(())
}
