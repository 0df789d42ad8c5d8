//! The figures as a file, for the textfile collector of node_exporter.
//!
//! On a thread of its own: a disk that hangs must hold up neither the sampler nor clients. A reader
//! sees the whole file or the one before, never a part; what the daemon leaves is nothing, because
//! old figures look like new ones. Those of a sampler that hangs are not written again: the file is
//! then as old as they are, which is what node_exporter tells of it
//! (`node_textfile_mtime_seconds`).

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{
    publish::{Form, Hub, STALE},
    render::openmetrics::Dialect,
};

const EVERY: Duration = Duration::from_secs(15);
/// How long it may take to remove the file.
const PATIENCE: Duration = Duration::from_secs(2);

const NAME: &str = "raindrops.prom";
/// The collector reads what ends in `.prom`.
const UNFINISHED: &str = ".raindrops.prom.new";

/// Writes until it is told to stop.
#[derive(Debug)]
pub struct Textfile {
    stop: mpsc::Sender<()>,
    stopped: mpsc::Receiver<()>,
}

impl Textfile {
    pub fn start(directory: PathBuf, hub: Arc<Hub>) -> io::Result<Self> {
        let (stop, told) = mpsc::channel();
        let (done, stopped) = mpsc::channel();
        thread::Builder::new()
            .name("textfile".to_owned())
            .spawn(move || {
                let mut trouble = Trouble::default();
                loop {
                    if let Some(published) = hub.peeked() {
                        let text = || published.answer(Form::Metrics(Dialect::Prometheus));
                        trouble.note(&directory, renew(&directory, published.age(), text));
                    }
                    match told.recv_timeout(EVERY) {
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                if let Err(error) = remove(&directory) {
                    let path = directory.join(NAME);
                    log::error!(
                        "{}: cannot remove it: {error}; figures in it are old",
                        path.display()
                    );
                }
                // Fails when nobody waits any more.
                let _ = done.send(());
            })?;
        Ok(Self { stop, stopped })
    }

    /// Has the file removed. Waits for that a while: a disk may hang.
    pub fn stop(self) {
        let _ = self.stop.send(());
        if self.stopped.recv_timeout(PATIENCE).is_err() {
            log::warn!("{NAME} cannot be removed in time: it may be left");
        }
    }
}

/// How the file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Written,
    /// There are no new figures.
    Stale,
    Failed(String),
}

/// The last state, so that one that lasts is told once.
#[derive(Debug, Default)]
struct Trouble(State);

impl Trouble {
    fn note(&mut self, directory: &Path, state: State) {
        if state != self.0 {
            let path = directory.join(NAME);
            let path = path.display();
            match &state {
                State::Failed(error) => {
                    log::error!(
                        "{path}: cannot write it: {error}; figures in it are old or missing"
                    );
                }
                State::Stale => log::warn!(
                    "{path}: not written: there are no new figures; see whether the host thrashes"
                ),
                State::Written => log::info!("{path}: written again"),
            }
        }
        self.0 = state;
    }
}

/// Writes figures of this age, unless they are so old that nobody must take them for new ones.
fn renew<T: AsRef<[u8]>>(directory: &Path, age: Duration, text: impl FnOnce() -> T) -> State {
    if age >= STALE {
        return State::Stale;
    }
    match write(directory, text().as_ref()) {
        Ok(()) => State::Written,
        Err(error) => State::Failed(error.to_string()),
    }
}

fn write(directory: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(UNFINISHED);
    // What a daemon that was killed has left.
    if let Err(error) = fs::remove_file(&unfinished)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let finish = || {
        // Whoever may write there could have put a link in its place.
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        fs::rename(&unfinished, directory.join(NAME))
    };
    finish().inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let victim = directory.join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, directory.join(UNFINISHED)).unwrap();
        symlink(&victim, directory.join(NAME)).unwrap();
        for text in ["one 1\n", "two 2\n"] {
            write(directory, text.as_bytes()).unwrap();
            let path = directory.join(NAME);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(metadata.is_file());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o644);
            assert!(!directory.join(UNFINISHED).exists());
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        remove(directory).unwrap();
        remove(directory).unwrap();
        assert!(!directory.join(NAME).exists());
    }

    #[test]
    fn what_is_old_leaves_the_file_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let text = || fs::read_to_string(directory.join(NAME)).ok();
        let young = STALE - Duration::from_millis(1);
        for (age, new, state, expected) in [
            (STALE, "one", State::Stale, None),
            (young, "two", State::Written, Some("two")),
            (STALE, "three", State::Stale, Some("two")),
            (Duration::ZERO, "four", State::Written, Some("four")),
        ] {
            assert_eq!(renew(directory, age, || new), state, "{new}");
            assert_eq!(text().as_deref(), expected, "{new}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = Path::new("/nonexistent-directory");
        let error = write(directory, b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let state = renew(directory, Duration::ZERO, || "");
        assert_eq!(state, State::Failed(error.to_string()));
    }
}
