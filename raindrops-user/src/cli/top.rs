//! `raindrops top`: keys, figures and the time go into a state, which is painted.
//!
//! The loop never waits for a daemon: who fetches is on threads of their own, and tells what came.

mod fetch;
mod screen;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use raindrops_user::top::{Flow, From, Key, Look, Now, State};

use self::{
    fetch::{Fetching, Told},
    screen::{Input, Screen},
};
use super::{
    client::{self, Way},
    terminal,
};

/// Signals, and the age of what is shown, are looked at this often.
const BEAT: Duration = Duration::from_millis(200);

/// Watch the listeners of this host, their queues and workers, on the whole screen.
///
/// Asks the daemon where there is one, else reads this host itself while it runs. Press ? for the keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket of the daemon [default: where `raindrops serve` puts it]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What the loop is woken by.
enum Event {
    Input(Input),
    Told(Told),
    /// The terminal cannot be read any more.
    Gone(io::Error),
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("top needs a terminal; for a pipe or a file use raindrops show");
    }
    let (tell, events) = mpsc::channel();
    let told = {
        let tell = tell.clone();
        move |it| tell.send(Event::Told(it)).is_ok()
    };
    let (from, fetching) = match client::way(args.socket.as_deref())? {
        Way::Daemon(daemon) => {
            let from = From::Daemon(daemon.to_string());
            (from, Fetching::ask(daemon, told)?)
        }
        Way::OneReading(_) => (From::Own(None), Fetching::read(told)?),
    };
    let look = Look {
        color: terminal::shows_color(),
        unicode: terminal::shows_unicode(),
    };
    let mut screen = Screen::take()?;
    read_keys(tell)?;
    let ended = watch(&mut screen, &events, &fetching, look, from);
    drop(screen);
    fetching.stop();
    ended.map(|()| ExitCode::SUCCESS)
}

/// On a thread that ends with the process: a read of the terminal cannot be called off.
fn read_keys(tell: mpsc::Sender<Event>) -> anyhow::Result<()> {
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            loop {
                let event = match screen::read() {
                    Ok(input) => Event::Input(input),
                    Err(error) => {
                        let _ = tell.send(Event::Gone(error));
                        return;
                    }
                };
                if tell.send(event).is_err() {
                    return;
                }
            }
        })
        .context("cannot start the thread that reads the keys")?;
    Ok(())
}

fn watch(
    screen: &mut Screen,
    events: &mpsc::Receiver<Event>,
    fetching: &Fetching,
    look: Look,
    from: From,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let now = || Now {
        running: start.elapsed(),
        wall: SystemTime::now(),
    };
    let mut state = State::new(look, from, now());
    let mut wanted = None;
    while !screen.is_told_to_end() {
        state.at(now());
        screen.draw(&state)?;
        let mut next = match events.recv_timeout(BEAT) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => bail!("nobody reads the terminal any more"),
        };
        state.at(now());
        // All that has come is shown at once: a terminal may be slower than a key that repeats.
        while let Some(event) = next {
            if on(&mut state, screen, event)? == Flow::Quit {
                return Ok(());
            }
            next = events.try_recv().ok();
        }
        if state.wants() != wanted {
            wanted = state.wants();
            fetching.list(wanted);
        }
    }
    Ok(())
}

fn on(state: &mut State, screen: &mut Screen, event: Event) -> anyhow::Result<Flow> {
    match event {
        Event::Input(Input::Key(key)) => return Ok(state.on(key)),
        Event::Input(Input::Suspend) => screen.suspend()?,
        // Drawing asks how large the terminal is.
        Event::Input(Input::Other) => {}
        Event::Gone(error) => return Err(error).context("cannot read the terminal"),
        Event::Told(Told::View(view, age)) => state.take(*view, age),
        Event::Told(Told::Failed(why)) => state.fail(why),
        Event::Told(Told::History(history)) => state.remember(&history),
        Event::Told(Told::Listing(pid, listing)) => state.list(pid, *listing),
    }
    Ok(Flow::Stay)
}
