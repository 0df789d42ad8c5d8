//! A `/proc` in a temporary directory, with as much in it as the readers read.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub(super) struct FakeProc(TempDir);

/// A process to write; a field that is empty writes nothing.
#[derive(Clone, Copy)]
pub(super) struct Fake<'a> {
    pub pid: u32,
    pub parent: u32,
    pub started: u64,
    pub comm: &'a str,
    pub cmdline: &'a str,
    pub links: &'a [&'a str],
    pub children: &'a str,
}

pub(super) const FAKE: Fake<'static> = Fake {
    pid: 0,
    parent: 1,
    started: 100,
    comm: "app",
    cmdline: "app\0",
    links: &[],
    children: "",
};

impl FakeProc {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("stat"), "cpu  1 2 3\nbtime 1795316000\n").unwrap();
        fs::create_dir(dir.path().join("sys")).unwrap();
        Self(dir)
    }

    pub fn root(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub fn path(&self, pid: u32) -> PathBuf {
        self.0.path().join(pid.to_string())
    }

    pub fn remove(&self, pid: u32) {
        fs::remove_dir_all(self.path(pid)).unwrap();
    }

    pub fn write(&self, fake: Fake<'_>) {
        let Fake {
            pid,
            parent,
            started,
            comm,
            cmdline,
            links,
            children,
        } = fake;
        let dir = self.path(pid);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("fd")).unwrap();
        fs::create_dir_all(dir.join(format!("task/{pid}"))).unwrap();
        for (number, link) in links.iter().enumerate() {
            symlink(link, dir.join(format!("fd/{number}"))).unwrap();
        }
        let zeros = "0 ".repeat(15);
        write(
            &dir,
            "stat",
            &format!("{pid} ({comm}) S {parent} {zeros}1 0 {started} 0 0\n"),
        );
        write(
            &dir,
            "status",
            &format!("Name:\tx\nUid:\t0\t33\t0\t0\nNSpid:\t{pid}\t7\n"),
        );
        write(&dir, "cgroup", "0::/system.slice/app.service\n");
        write(&dir, "cmdline", cmdline);
        write(&dir, &format!("task/{pid}/children"), children);
    }

    /// A command line that cannot be read: opening it waits until [`Self::thaw`].
    pub fn freeze(&self, pid: u32) {
        let path = self.path(pid).join("cmdline");
        let _ = fs::remove_file(&path);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
    }

    pub fn thaw(&self, pid: u32) {
        let path = self.path(pid).join("cmdline");
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}
