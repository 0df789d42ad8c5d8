//! `header`: the C header of `raindrops-slab`, made from the functions that C can call.
//!
//! It is committed, so that who uses it needs no Rust.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use cbindgen::{Config, ExportConfig, Language, Style};

use crate::workspace;

/// Writes the C header of raindrops-slab
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only compare it with the one that is committed
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (path, text) = (path(), text()?);
    if !arguments.check {
        return fs::write(&path, text).with_context(|| format!("writing {}", path.display()));
    }
    let committed =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    if committed != text {
        bail!(
            "{} is not what its sources say: run `cargo xtask header`",
            path.display()
        );
    }
    Ok(())
}

fn directory() -> PathBuf {
    workspace::root().join("raindrops-slab/c")
}

fn path() -> PathBuf {
    directory().join("include/raindrops_slab.h")
}

fn text() -> Result<String> {
    let directory = directory();
    let inline = directory.join("inline.h");
    let inline =
        fs::read_to_string(&inline).with_context(|| format!("reading {}", inline.display()))?;
    let types = [
        ("RaindropsSlab", "raindrops_slab"),
        ("RaindropsSlot", "raindrops_slot"),
        ("RaindropsField", "raindrops_field"),
        ("RaindropsHistogram", "raindrops_histogram"),
    ];
    let rename = types.map(|(rust, c)| (rust.to_owned(), c.to_owned()));
    let config = Config {
        language: Language::C,
        style: Style::Both,
        cpp_compat: true,
        include_guard: Some("RAINDROPS_SLAB_H".to_owned()),
        no_includes: true,
        sys_includes: ["stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        usize_is_size_t: true,
        autogen_warning: Some(
            "/* Counters in shared memory; see docs/slabs.md. Made by `cargo xtask header`. */"
                .to_owned(),
        ),
        trailer: Some(inline.trim_end().to_owned()),
        export: ExportConfig {
            rename: rename.into_iter().collect(),
            ..ExportConfig::default()
        },
        ..Config::default()
    };
    let builder = cbindgen::Builder::new().with_src(directory.join("src/lib.rs"));
    let bindings = builder.with_config(config).generate();
    let mut text = Vec::new();
    bindings.context("making the C header")?.write(&mut text);
    String::from_utf8(text).context("the header is no text")
}

#[cfg(test)]
mod tests {
    use super::{Arguments, run};

    #[test]
    fn the_committed_header_is_what_its_sources_say() -> anyhow::Result<()> {
        run(&Arguments { check: true })
    }
}
