//! The figures as a file, for the textfile collector of node_exporter.
//!
//! On a thread of its own: a disk that hangs must hold up neither the sampler nor clients. A reader
//! sees the whole file or the one before, never a part; what the daemon leaves is nothing, because
//! old figures look like new ones.

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
    publish::{Form, Hub},
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
                        let text = published.answer(Form::Metrics(Dialect::Prometheus));
                        trouble.note(&directory, write(&directory, &text));
                    }
                    match told.recv_timeout(EVERY) {
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                trouble.note(&directory, remove(&directory));
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

/// The last failure, so that one that lasts is told once.
#[derive(Debug, Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn note(&mut self, directory: &Path, result: io::Result<()>) {
        let path = directory.join(NAME);
        let now = result.err().map(|error| error.to_string());
        if now != self.0 {
            match &now {
                Some(error) => log::error!(
                    "{}: cannot write it: {error}; figures in it are old or missing",
                    path.display()
                ),
                None => log::info!("{}: written again", path.display()),
            }
        }
        self.0 = now;
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
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = Path::new("/nonexistent-directory");
        let error = write(directory, b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
