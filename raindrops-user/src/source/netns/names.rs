//! Names of namespaces: the files that `ip netns` and docker mount them on.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::{escape::escaped, fact::Fact, ids::NetnsId};

/// Directories of names under the root, the one that is believed first coming first.
const PLACES: [&str; 2] = ["run/netns", "run/docker/netns"];

/// What docker calls the namespace that it runs in itself.
const OF_DOCKER_ITSELF: &str = "default";

/// Names read in one directory.
const MOST: usize = 4096;

/// The names that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The name that is shown, and its file.
    by_namespace: BTreeMap<NetnsId, (String, PathBuf)>,
    /// All names: a namespace can have several.
    by_name: BTreeMap<String, NetnsId>,
    /// Some may be missing.
    partial: bool,
    /// Files that are no namespaces: leftovers of names whose namespace was never mounted, or was
    /// unmounted.
    strays: usize,
}

impl Names {
    /// Reads the directories under `root`, which is `/` in production.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let mut names = Self::default();
        let Ok(namespaces) = fs::metadata("/proc/thread-self/ns/net") else {
            names.partial = true;
            return names;
        };
        for place in PLACES {
            match files(&root.join(place)) {
                Ok(files) => names.add(files, namespaces.dev()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => names.partial = true,
            }
        }
        names
    }

    fn add(&mut self, files: Vec<PathBuf>, namespaces: u64) {
        self.partial |= files.len() >= MOST;
        for path in files {
            let Some(name) = path.file_name() else {
                continue;
            };
            if name == OF_DOCKER_ITSELF && path.parent().is_some_and(|it| it.ends_with(PLACES[1])) {
                continue;
            }
            // Only namespaces live on that device.
            let inode = fs::metadata(&path)
                .ok()
                .filter(|metadata| metadata.dev() == namespaces)
                .and_then(|metadata| u32::try_from(metadata.ino()).ok());
            match inode {
                Some(inode) => {
                    let name = escaped(name.as_bytes());
                    self.by_name.entry(name.clone()).or_insert(NetnsId(inode));
                    self.by_namespace
                        .entry(NetnsId(inode))
                        .or_insert((name, path));
                }
                None => self.strays += 1,
            }
        }
    }

    /// The name of a namespace. Unknown where a directory of names may not be read.
    #[must_use]
    pub fn of(&self, netns: NetnsId) -> Fact<String> {
        match self.by_namespace.get(&netns) {
            Some((name, _)) => Fact::Is(name.clone()),
            None if self.partial => Fact::Unknown,
            None => Fact::Nothing,
        }
    }

    /// The namespace of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NetnsId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn path(&self, netns: NetnsId) -> Option<&Path> {
        self.by_namespace
            .get(&netns)
            .map(|(_, path)| path.as_path())
    }

    /// Namespaces that have a name, and the name.
    pub fn iter(&self) -> impl Iterator<Item = (NetnsId, &str)> {
        let named = self.by_namespace.iter();
        named.map(|(netns, (name, _))| (*netns, name.as_str()))
    }

    /// How many files among the names are no namespaces.
    #[must_use]
    pub const fn strays(&self) -> usize {
        self.strays
    }
}

/// In the order of their names, so that of several names always the same one is taken.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)?
        .take(MOST)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::Names;
    use crate::{fact::Fact, ids::NetnsId, source::netns::of_process};

    #[test]
    fn a_file_that_is_no_namespace_has_no_name_and_a_link_to_one_has() {
        let root = tempfile::tempdir().unwrap();
        let names = root.path().join("run/netns");
        fs::create_dir_all(&names).unwrap();
        fs::write(names.join("file"), "").unwrap();
        fs::create_dir(names.join("directory")).unwrap();
        symlink("nowhere", names.join("dangling")).unwrap();
        symlink("/proc/self/ns/net", names.join("b\nold")).unwrap();
        symlink("/proc/self/ns/net", names.join("second")).unwrap();
        let own = of_process(crate::ids::Pid(std::process::id())).unwrap();
        let names = Names::read(root.path());
        assert_eq!(names.of(own), Fact::Is("b\\nold".to_owned()));
        assert_eq!(names.find("b\\nold"), Some(own));
        assert_eq!(names.find("second"), Some(own));
        assert_eq!(names.iter().count(), 1);
        assert_eq!(names.strays(), 3);
        assert_eq!(names.of(NetnsId(1)), Fact::Nothing);
    }

    #[test]
    fn where_there_are_no_names_a_namespace_is_known_to_have_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Names::read(root.path()).of(NetnsId(1)), Fact::Nothing);
        fs::create_dir(root.path().join("run")).unwrap();
        fs::write(root.path().join("run/netns"), "").unwrap();
        assert_eq!(Names::read(root.path()).of(NetnsId(1)), Fact::Unknown);
    }

    #[test]
    fn docker_does_not_name_the_namespace_of_the_host() {
        let root = tempfile::tempdir().unwrap();
        let names = root.path().join("run/docker/netns");
        fs::create_dir_all(&names).unwrap();
        symlink("/proc/self/ns/net", names.join("default")).unwrap();
        assert_eq!(Names::read(root.path()).iter().count(), 0);
        symlink("/proc/self/ns/net", names.join("1a2b3c")).unwrap();
        assert!(Names::read(root.path()).find("1a2b3c").is_some());
    }
}
