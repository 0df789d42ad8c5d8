//! `deb`: a Debian package with everything that raindrops is.
//!
//! What is in it and where, `[package.metadata.deb]` in raindrops-user/Cargo.toml says. Here is only
//! made what is not in the repository: what the built binary prints, and copies that keep their
//! directories.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{debian, process, provide, test, workspace};

/// Builds a Debian package of the release profile, into target/debian
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// For whom completions are made, and the names of the files.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "raindrops"),
    ("fish", "raindrops.fish"),
    ("zsh", "_raindrops"),
];
/// What cargo-deb asks for the libraries that the binary needs, and what strips it.
const NEEDS: [(&str, &str); 2] = [("dpkg-dev", "dpkg-shlibdeps"), ("binutils", "objcopy")];

pub fn run(_: &Arguments) -> Result<()> {
    println!("{}", package()?.display());
    Ok(())
}

/// Builds the package and returns where it is.
pub fn package() -> Result<PathBuf> {
    install_needs()?;
    let binary = test::build_binary(true)?;
    let library = test::build_slab_library(true)?;
    let directory = binary.with_file_name("deb");
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    manual(&binary, &directory.join("man"))?;
    for (shell, file) in SHELLS {
        let script = printed(&binary, &["completions", shell])?;
        write(&directory.join(file), &script)?;
    }
    write(&directory.join("raindrops_slab.pc"), &pkg_config())?;
    let archive = library.with_extension("a");
    process::run(
        Command::new("objcopy")
            .arg("--strip-debug")
            .arg(archive)
            .arg(directory.join("libraindrops_slab.a")),
    )?;
    documents(&directory.join("doc"))?;

    let before = packages()?;
    for old in before {
        fs::remove_file(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    provide::cargo_program("cargo-deb")?;
    process::run(
        Command::new(workspace::cargo())
            .current_dir(workspace::root())
            // The profile keeps some for backtraces, which would be most of the package.
            .args(["deb", "--no-build", "--strip", "--package", "raindrops-user"]),
    )?;
    match packages()?.as_slice() {
        [package] => Ok(package.clone()),
        packages => bail!("cargo-deb made {} packages", packages.len()),
    }
}

fn install_needs() -> Result<()> {
    let is_missing = |program: &str| workspace::program(program).is_none();
    let missing = NEEDS.iter().filter(|(_, program)| is_missing(program));
    let missing: Vec<&str> = missing.map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !debian::is_debian() || !workspace::is_root() {
        bail!(
            "install these packages of Debian first: {}",
            missing.join(" ")
        );
    }
    debian::install(&missing)
}

/// Packages that were made.
fn packages() -> Result<Vec<PathBuf>> {
    let directory = workspace::target_directory().join("debian");
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(Vec::new());
    };
    let mut packages = Vec::new();
    for entry in entries {
        let path = entry.context("listing packages")?.path();
        if path.extension().is_some_and(|it| it == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}

/// Every page that the binary has.
fn manual(binary: &Path, directory: &Path) -> Result<()> {
    for name in printed(binary, &["man", "--list"])?.lines() {
        let words: Vec<&str> = name.split(' ').skip(1).collect();
        let page = printed(binary, &[&["man"], words.as_slice()].concat())?;
        let path = directory.join(format!("{}.1", name.replace(' ', "-")));
        write(&path, &page)?;
        // cargo-deb does it only for pages that are not in the build directory.
        let mut gzip = Command::new("gzip");
        process::output(gzip.args(["-9", "--no-name"]).arg(path))?;
    }
    Ok(())
}

fn printed(binary: &Path, arguments: &[&str]) -> Result<String> {
    Ok(process::output(Command::new(binary).args(arguments))? + "\n")
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The README, documents, and what else is of use beside the program.
fn documents(directory: &Path) -> Result<()> {
    let root = workspace::root();
    write(
        &directory.join("README.md"),
        &text(&root.join("README.md"))?,
    )?;
    let gunicorn = "raindrops-slab/examples/gunicorn_slab.py";
    let example = directory.join("examples/gunicorn_slab.py");
    write(&example, &text(&root.join(gunicorn))?)?;
    copy_all(&root.join("docs"), &directory.join("docs"))?;
    let contrib = root.join("contrib");
    if contrib.is_dir() {
        copy_all(&contrib, &directory.join("contrib"))?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("listing {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", from.display()))?;
        let to = to.join(entry.file_name());
        if entry.file_type().context("what a file is")?.is_dir() {
            copy_all(&entry.path(), &to)?;
        } else {
            write(&to, &text(&entry.path())?)?;
        }
    }
    Ok(())
}

/// How C programs find the library.
fn pkg_config() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "prefix=/usr\n\n\
         Name: raindrops_slab\n\
         Description: Counters in shared memory\n\
         Version: {version}\n\
         Libs: -L${{prefix}}/lib -lraindrops_slab\n\
         Libs.private: -pthread\n\
         Cflags: -I${{prefix}}/include\n"
    )
}
