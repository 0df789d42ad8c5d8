//! A kernel's image and modules, wherever a package or a build has put them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// What is needed to boot a kernel and load its modules.
#[derive(Debug)]
pub struct Image {
    pub vmlinuz: PathBuf,
    /// By name, with `_` for `-`.
    modules: BTreeMap<String, PathBuf>,
}

/// A module's name and its bytes.
pub type Module = (String, Vec<u8>);

impl Image {
    /// Of a directory that `dpkg -x` has made, or of a bare image, which has all that it needs
    /// built in or its modules beside it in `lib/modules`.
    pub fn find(path: &Path) -> Result<Self> {
        ensure!(path.exists(), "{} does not exist", path.display());
        let (vmlinuz, root) = if path.is_dir() {
            let mut images = Vec::new();
            walk(path, &mut |file| {
                if file_name(file).starts_with("vmlinuz") {
                    images.push(file.to_path_buf());
                }
            })?;
            match &images[..] {
                [image] => (image.clone(), path.to_path_buf()),
                _ => bail!("{} images of a kernel in {}", images.len(), path.display()),
            }
        } else {
            let release = file_name(path).trim_start_matches("vmlinuz-");
            let boot = path.parent().unwrap_or(Path::new("."));
            let modules = boot.join("../lib/modules").join(release);
            (path.to_path_buf(), modules)
        };
        let mut modules = BTreeMap::new();
        if root.is_dir() {
            walk(&root, &mut |file| {
                if let Some((name, rest)) = file_name(file).split_once(".ko")
                    && (rest.is_empty() || rest.starts_with('.'))
                {
                    modules.insert(normal(name), file.to_path_buf());
                }
            })?;
        }
        Ok(Self { vmlinuz, modules })
    }

    /// These modules and what they depend on, in the order of loading. What the kernel has no
    /// module for is taken to be built in: its absence shows when it is used.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut loaded = Vec::new();
        for name in names {
            self.add(&normal(name), &mut loaded)?;
        }
        Ok(loaded)
    }

    fn add(&self, name: &str, loaded: &mut Vec<Module>) -> Result<()> {
        let Some(path) = self.modules.get(name) else {
            return Ok(());
        };
        if loaded.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        let bytes = read(path)?;
        for needed in depends(&bytes) {
            self.add(&normal(&needed), loaded)?;
        }
        loaded.push((name.to_owned(), bytes));
        Ok(())
    }
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) -> Result<()> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", directory.display()))?;
        // Links among them lead to headers, or out of the tree.
        let kind = entry.file_type().context("reading a file's type")?;
        if kind.is_dir() {
            walk(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path());
        }
    }
    Ok(())
}

/// A module as the kernel takes it, which is not compressed.
fn read(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("reading {}", path.display())),
    };
    let output = Command::new(program).arg("-dc").arg(path).output();
    let output = output.with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program} -dc {}: {}",
        path.display(),
        output.status
    );
    Ok(output.stdout)
}

/// Names that follow `depends=` in a module's information, which is text ended by a zero.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next();
    let value = String::from_utf8_lossy(value.unwrap_or_default());
    let names = value.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that modules come after those that they depend on, once each, and that what is built
    /// in is passed over.
    #[test]
    fn modules_follow_their_dependencies() -> Result<()> {
        let tree = tempfile::tempdir()?;
        let modules = tree.path().join("lib/modules/1.0/kernel");
        fs::create_dir_all(&modules)?;
        fs::write(tree.path().join("vmlinuz-1.0"), "")?;
        for (file, depends) in [
            ("tcp_diag.ko", "inet-diag"),
            ("mptcp_diag.ko", "inet_diag,built_in"),
            ("inet_diag.ko", ""),
            ("udp_diag.ko", "inet_diag"),
        ] {
            fs::write(
                modules.join(file),
                format!("name\0depends={depends}\0intree=Y\0"),
            )?;
        }
        let image = Image::find(tree.path())?;
        let found = image.modules(&["tcp_diag", "mptcp-diag", "unix_diag"])?;
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["inet_diag", "tcp_diag", "mptcp_diag"]);
        Ok(())
    }
}
