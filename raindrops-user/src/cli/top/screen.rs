//! The terminal: taken, painted, read, and given back as it was, however top ends.

use std::{
    io::{self, Write as _},
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use raindrops_user::{
    escape::printable,
    top::{State, draw},
};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor,
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{self, EnterAlternateScreen, LeaveAlternateScreen},
    },
};
use rustix::process::{Signal, kill_current_process_group};

use super::Key;

/// What ends top as `q` does.
const ENDINGS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

pub enum Input {
    Key(Key),
    /// Ctrl-Z.
    Suspend,
    /// The size has changed, or nothing that means anything.
    Other,
}

/// Given back when dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    told_to_end: Arc<AtomicBool>,
    /// What threads said that fell: it would be painted over.
    fallen: Arc<Mutex<Vec<String>>>,
}

impl Screen {
    pub fn take() -> anyhow::Result<Self> {
        let told_to_end = Arc::new(AtomicBool::new(false));
        for signal in ENDINGS {
            let told = Arc::clone(&told_to_end);
            // SAFETY: it stores into an atomic, and does nothing else.
            unsafe {
                signal_hook_registry::register(signal, move || told.store(true, Ordering::Release))
            }
            .context("cannot handle signals")?;
        }
        let fallen = Arc::new(Mutex::new(Vec::new()));
        keep_panics_off(Arc::clone(&fallen));
        enter().context("cannot take the terminal")?;
        let backend = CrosstermBackend::new(io::stdout());
        match Terminal::new(backend) {
            Ok(terminal) => Ok(Self {
                terminal,
                told_to_end,
                fallen,
            }),
            Err(error) => {
                leave();
                Err(error).context("cannot take the terminal")
            }
        }
    }

    pub fn is_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::Acquire)
    }

    pub fn draw(&mut self, state: &State) -> anyhow::Result<()> {
        let drawn = self.terminal.draw(|frame| draw(state, frame));
        drawn.context("cannot write to the terminal")?;
        Ok(())
    }

    /// As Ctrl-Z does for programs that leave the terminal alone.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        leave();
        // The whole group, as the terminal does it: a shell waits for what started us, if anything did.
        kill_current_process_group(Signal::TSTP).context("cannot suspend")?;
        // Continues here.
        enter().context("cannot take the terminal again")?;
        // One that knows nothing of what was painted. Clearing would ask where the cursor is, and the
        // answer would go to the thread that reads the keys.
        let backend = CrosstermBackend::new(io::stdout());
        self.terminal = Terminal::new(backend).context("cannot take the terminal again")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
        let fallen = self.fallen.lock().unwrap_or_else(PoisonError::into_inner);
        for text in fallen.iter() {
            super::terminal::note(text);
        }
    }
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, cursor::Hide).inspect_err(|_| leave())
}

/// As much as still can be done: the terminal may be gone.
fn leave() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
    let _ = io::stdout().flush();
}

/// A panic of the painting thread ends top, with the terminal given back before it is told. One of
/// another thread is told when top ends; that its figures stand still is on the screen.
fn keep_panics_off(fallen: Arc<Mutex<Vec<String>>>) {
    let painting = thread::current().id();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == painting {
            leave();
            usual(info);
        } else {
            let name = thread::current().name().unwrap_or("unnamed").to_owned();
            let text = printable(&format!("thread {name}: {info}"));
            let mut fallen = fallen.lock().unwrap_or_else(PoisonError::into_inner);
            fallen.push(text);
        }
    }));
}

/// Waits for what is typed next.
pub fn read() -> io::Result<Input> {
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => input(key),
        _ => Input::Other,
    })
}

fn input(key: KeyEvent) -> Input {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    let key = match key.code {
        KeyCode::Char('c') if with_control => Key::Interrupt,
        KeyCode::Char('z') if with_control => return Input::Suspend,
        // Some terminals send it for Backspace.
        KeyCode::Char('h') if with_control => Key::Backspace,
        KeyCode::Char(_) if with_control || key.modifiers.contains(KeyModifiers::ALT) => {
            return Input::Other;
        }
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return Input::Other,
    };
    Input::Key(key)
}
