//! Debian's kernel packages in a cache: fetched by apt, checked by its keys, never installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{mirror, pinned::Pinned};
use crate::{process, workspace};

/// The newest kernel of a suite is what this depends on.
const NEWEST: &str = "linux-image-cloud-amd64";

/// A kernel's files, unpacked.
#[derive(Debug)]
pub struct Unpacked {
    pub directory: PathBuf,
    pub version: String,
}

/// The kernel at its pinned version; where that cannot be had, at the newest that can, which is
/// said.
pub fn unpacked(pinned: &Pinned) -> Result<Unpacked> {
    let cache = cache()?.join(&pinned.name);
    if let Some(found) = cached(&cache, &pinned.version) {
        return Ok(found);
    }
    let unpacked = fetch(pinned, &cache).or_else(|error| {
        let newest = newest(&cache).with_context(|| {
            format!(
                "no kernel {}: {error:#}; `--kernel PATH` needs no archive",
                pinned.name
            )
        })?;
        eprintln!("{error:#}");
        Ok::<_, anyhow::Error>(newest)
    })?;
    if unpacked.version != pinned.version {
        println!(
            "kernel {}: {} instead of {}, which cannot be had: update xtask/kernels",
            pinned.name, unpacked.version, pinned.version
        );
    }
    Ok(unpacked)
}

fn cache() -> Result<PathBuf> {
    let caches = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
        .unwrap_or_else(workspace::target_directory);
    let cache = caches.join("raindrops/kernels");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    Ok(cache)
}

fn cached(cache: &Path, version: &str) -> Option<Unpacked> {
    let directory = cache.join(version);
    directory.is_dir().then(|| Unpacked {
        directory,
        version: version.to_owned(),
    })
}

fn newest(cache: &Path) -> Option<Unpacked> {
    let entries = fs::read_dir(cache).ok()?.flatten();
    let kernels = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let newest = kernels.max_by_key(|entry| entry.metadata().and_then(|it| it.modified()).ok())?;
    cached(cache, &newest.file_name().to_string_lossy())
}

fn fetch(pinned: &Pinned, cache: &Path) -> Result<Unpacked> {
    let apt = Apt::for_suite(&pinned.suite)?;
    let (package, version) = if apt.versions(&pinned.package)?.contains(&pinned.version) {
        (pinned.package.clone(), pinned.version.clone())
    } else {
        apt.newest()?
    };
    if let Some(found) = cached(cache, &version) {
        return Ok(found);
    }
    // Since 7.x the image and its modules are packages of their own, on which this one depends.
    let parts = apt.depends(&package, &version)?.into_iter();
    let parts = parts
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
    let wanted: Vec<String> = parts
        .chain([package])
        .map(|name| format!("{name}={version}"))
        .collect();
    let debs = apt.download(&wanted)?;

    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let unpacking = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(cache)
        .context("creating a directory in the cache")?;
    for deb in debs {
        let mut dpkg = Command::new("dpkg");
        process::run(dpkg.arg("-x").arg(deb).arg(unpacking.path()))?;
    }
    let directory = cache.join(&version);
    fs::rename(unpacking.path(), &directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    // It has moved, so there is nothing to remove.
    let _ = unpacking.keep();
    Ok(Unpacked { directory, version })
}

/// apt with lists of its own, of one suite, so that the machine's stay as they are.
struct Apt {
    state: tempfile::TempDir,
}

impl Apt {
    fn for_suite(suite: &str) -> Result<Self> {
        let state = tempfile::tempdir().context("creating a directory for apt")?;
        for directory in ["lists/partial", "archives/partial", "debs"] {
            let directory = state.path().join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("creating {}", directory.display()))?;
        }
        let line = mirror::source_line(suite)?;
        fs::write(state.path().join("sources.list"), line).context("writing a source list")?;
        let apt = Self { state };
        process::run(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let own = |option: &str, path: &str| {
            let path = self.state.path().join(path);
            ["-o".to_owned(), format!("{option}={}", path.display())]
        };
        let mut command = Command::new(program);
        command
            .arg("-q")
            .args(own("Dir::Etc::sourcelist", "sources.list"))
            .args(own("Dir::State", ""))
            .args(own("Dir::State::lists", "lists"))
            .args(own("Dir::Cache", ""))
            .args(["-o", "Dir::Etc::sourceparts=/dev/null"])
            .args(["-o", "Dir::State::status=/dev/null"])
            .args(["-o", "APT::Architecture=amd64"])
            .args(["-o", "APT::Sandbox::User=root"])
            .args(["-o", "Acquire::Retries=3"])
            .env("LC_ALL", "C")
            .current_dir(self.state.path().join("debs"))
            .stdin(Stdio::null());
        command
    }

    /// A field of each version of a package, newest first.
    fn fields(&self, package: &str, field: &str) -> Result<Vec<String>> {
        let mut show = self.command("apt-cache");
        let text = process::output(show.args(["show", package]));
        // apt-cache fails where there is no such package.
        let text = text.unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let value = line.strip_prefix(field)?.strip_prefix(": ")?;
            Some(value.to_owned())
        });
        Ok(lines.collect())
    }

    fn versions(&self, package: &str) -> Result<Vec<String>> {
        self.fields(package, "Version")
    }

    fn depends(&self, package: &str, version: &str) -> Result<Vec<String>> {
        let versions = self.versions(package)?;
        let at = versions.iter().position(|it| it == version);
        let depends = self.fields(package, "Depends")?;
        let depends = at.and_then(|at| depends.get(at)).map(String::as_str);
        let names = depends.unwrap_or_default().split(',');
        let names = names.filter_map(|one| one.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The newest kernel of the suite, and its version.
    fn newest(&self) -> Result<(String, String)> {
        let version = self.versions(NEWEST)?.into_iter().next();
        let version = version.with_context(|| format!("the archive has no {NEWEST}"))?;
        let depends = self.depends(NEWEST, &version)?;
        let package = depends
            .into_iter()
            .find(|name| name.starts_with("linux-image-"));
        let package = package.with_context(|| format!("{NEWEST} depends on no kernel"))?;
        Ok((package, version))
    }

    fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        process::run(self.command("apt-get").arg("download").args(packages))?;
        let debs = fs::read_dir(self.state.path().join("debs")).context("listing packages")?;
        let debs: Vec<PathBuf> = debs.flatten().map(|entry| entry.path()).collect();
        if debs.len() != packages.len() {
            bail!("apt fetched {} of {} packages", debs.len(), packages.len());
        }
        Ok(debs)
    }
}
