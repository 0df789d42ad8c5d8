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
    pub state: char,
    pub threads: u32,
    pub cmdline: &'a str,
    pub links: &'a [&'a str],
    pub children: &'a str,
}

pub(super) const FAKE: Fake<'static> = Fake {
    pid: 0,
    parent: 1,
    started: 100,
    comm: "app",
    state: 'S',
    threads: 1,
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
            state,
            threads,
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
        let stat = stat(pid, comm.as_bytes(), (state, parent, threads, started));
        fs::write(dir.join("stat"), stat).unwrap();
        write(
            &dir,
            "status",
            &format!("Name:\tx\nUid:\t0\t33\t0\t0\nNSpid:\t{pid}\t7\n"),
        );
        write(&dir, "cgroup", "0::/system.slice/app.service\n");
        write(&dir, "cmdline", cmdline);
        write(&dir, &format!("task/{pid}/children"), children);
    }

    /// A thread that is not its process's first, in the state `state`.
    pub fn write_thread(&self, pid: u32, tid: u32, comm: &[u8], state: char) {
        let stat = stat(tid, comm, (state, 1, 2, 200));
        self.write_of_thread(pid, tid, "stat", &stat);
    }

    pub fn write_of_thread(&self, pid: u32, tid: u32, name: &str, bytes: &[u8]) {
        let dir = self.path(pid).join(format!("task/{tid}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
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

/// State, parent, threads, start.
fn stat(id: u32, comm: &[u8], rest: (char, u32, u32, u64)) -> Vec<u8> {
    let (state, parent, threads, started) = rest;
    let zeros = "0 ".repeat(15);
    let head = format!("{id} (");
    let tail = format!(") {state} {parent} {zeros}{threads} 0 {started} 0 0\n");
    [head.as_bytes(), comm, tail.as_bytes()].concat()
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}
