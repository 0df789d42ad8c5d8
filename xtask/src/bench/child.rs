//! Child processes of the harness: they end with it, and those that answer on lines are asked so.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::process::shown;

/// How long anything that is waited for may take.
pub const CEILING: Duration = Duration::from_secs(60);

/// Waits for what may take until the ceiling.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + CEILING;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", CEILING.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = shown(command);
        // SAFETY: prctl is async-signal-safe and does not allocate.
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Self { child, name })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed()).context("a process without a pid")?;
        if !self.has_ended()? {
            kill_process(pid, signal).with_context(|| format!("ending {}", self.name))?;
        }
        let child = &mut self.child;
        until(&format!("{} to end", self.name), || Ok(child.try_wait()?))?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is asked on its standard input and answers on its standard output, a line each.
#[derive(Debug)]
pub struct Answering {
    running: Running,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Answering {
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command)?;
        let questions = running.child.stdin.take().context("no standard input")?;
        let answers = running.child.stdout.take().context("no standard output")?;
        Ok(Self {
            running,
            questions,
            answers: BufReader::new(answers),
        })
    }

    /// The next line.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        let read = read.with_context(|| format!("reading from {}", self.running.name))?;
        ensure!(read != 0, "{} ended before it answered", self.running.name);
        Ok(line.trim_end().to_owned())
    }

    /// Asks without waiting for the answer.
    pub fn send(&mut self, question: &str) -> Result<()> {
        writeln!(self.questions, "{question}")
            .with_context(|| format!("asking {}", self.running.name))
    }

    /// The answer to a question.
    pub fn ask(&mut self, question: &str) -> Result<String> {
        self.send(question)?;
        self.line()
    }
}

/// The numbers of a line.
pub fn numbers<T: FromStr, const N: usize>(line: &str) -> Result<[T; N]> {
    let numbers: Option<Vec<T>> = line
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .with_context(|| format!("{N} numbers expected, not {line:?}"))
}
