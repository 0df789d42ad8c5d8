//! `calling` and `writing` against Raindrops::Middleware's own counters, in the same processes, at
//! many levels of load.
//!
//! Theirs are read before and after a look of ours; wherever they agree with themselves, ours must be
//! equal. They are read in the memory that the workers share, so that asking is no turn.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{Daemon, Place, User},
    lookup, netns,
    servers::{Hold, Server, middleware::Counted, puma, rainbows, unicorn},
    skip::{Need, can_run},
    turns::Doing,
    wait,
};
use raindrops_user::view::Class;

const LEVELS: usize = 50;
const COMPARABLE: usize = 45;

/// A server under a changing load.
struct Subject {
    server: Server,
    listeners: Vec<Address>,
    /// More than there are threads, so that some wait.
    clients: usize,
    /// An idle client begins something at one level in so many; a busy one ends it at one in two.
    begins: u64,
    workers: Vec<u32>,
    class: Class,
    /// Threads of each worker that answer.
    handlers: u32,
}

/// Check the agreement in 8 processes of unicorn, TCP and unix.
#[test]
fn with_unicorn() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_with(8)?;
        agrees(&Subject {
            listeners: shared(&server),
            clients: 12,
            begins: 2,
            workers: server.workers(),
            class: Class::Direct,
            handlers: 1,
            server,
        })
    })
}

/// Check the agreement in two processes of puma with 8 threads each, over keep-alive connections, TCP
/// and unix.
#[test]
fn with_puma() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("puma")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = puma::start_with(2, "8:8")?;
        agrees(&Subject {
            listeners: shared(&server),
            clients: 24,
            begins: 2,
            workers: server.workers(),
            class: Class::Handoff,
            handlers: 8,
            server,
        })
    })
}

/// Check the agreement in two processes of Rainbows! with pools of 3 threads, over keep-alive
/// connections.
#[test]
fn with_rainbows() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("rainbows")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = rainbows::start()?;
        agrees(&Subject {
            listeners: vec![Address::Tcp(server.tcp[0])],
            clients: 16,
            begins: 4,
            workers: server.workers(),
            class: Class::Handoff,
            handlers: 3,
            server,
        })
    })
}

/// Those of all workers.
fn shared(server: &Server) -> Vec<Address> {
    vec![
        Address::Tcp(server.tcp[0]),
        Address::Unix(server.unix[0].clone()),
    ]
}

fn agrees(subject: &Subject) -> Result<()> {
    let place = Place::new()?;
    let daemon = place.start(User::Same, &[])?;
    let server = &subject.server;
    memory_is_what_it_says(server, &subject.listeners[0])?;
    learn(subject, &daemon)?;
    let addresses: Vec<String> = subject.listeners.iter().map(Address::to_string).collect();

    let mut clients = (0..subject.clients)
        .map(|number| {
            let to = subject.listeners[number % subject.listeners.len()].clone();
            Asking::start(to, format!("client{number}"))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut chance = Chance(1);
    let mut seen = BTreeSet::new();
    let (mut comparable, mut told, mut differ) = (0, 0, Vec::new());
    for level in 0..LEVELS {
        for client in &mut clients {
            client.change(subject, &mut chance)?;
        }
        let before = settled(server)?;
        let view = daemon.looked_anew(&addresses)?;
        let after = server.middleware()?;
        if before != after {
            continue;
        }
        comparable += 1;
        seen.insert(before);
        let counted = |doing: Doing| {
            Some(Counted {
                calling: doing.calling?,
                writing: doing.writing?,
            })
        };
        let workers = Doing::of_workers(&view, &subject.workers)?;
        let listeners = Doing::of_listeners(&view, &addresses)?;
        // Which of the turns that wait for a pool are of which of several listeners cannot always be told.
        let is_told = listeners.calling.is_some()
            || subject.class == Class::Direct
            || subject.listeners.len() == 1;
        told += usize::from(is_told);
        let are_equal = if is_told {
            counted(listeners) == Some(before)
        } else {
            listeners.writing == Some(before.writing)
        };
        if counted(workers) != Some(before) || !are_equal {
            differ.push(format!(
                "level {level}: theirs {before:?}, workers {workers:?}, listeners {listeners:?}"
            ));
        }
    }
    println!("{comparable} comparable, {told} by listener: {seen:?}");
    ensure!(differ.is_empty(), "{differ:#?}");
    ensure!(comparable >= COMPARABLE, "only {comparable} comparable");
    ensure!(2 * told >= comparable, "only {told} by listener");
    let most = |of: fn(&Counted) -> u64| seen.iter().map(of).max().unwrap_or(0);
    ensure!(
        seen.len() >= 10 && most(|it| it.calling) >= 3 && most(|it| it.writing) >= 3,
        "too little load: {seen:?}"
    );
    Ok(())
}

/// Check that what is read is what Raindrops::Middleware answers with.
fn memory_is_what_it_says(server: &Server, listener: &Address) -> Result<()> {
    let hold = server.hold("one")?;
    let mut parked = Client::connect(listener)?;
    parked.ask("/park/one")?;
    let expected = Counted {
        calling: 1,
        writing: 0,
    };
    wait::until("a parked request", || {
        Ok((server.middleware()? == expected).then_some(()))
    })?;
    let mut asking = Client::connect(listener)?;
    asking.ask_and_close("/_raindrops")?;
    let answer = String::from_utf8(asking.answered()?)?;
    ensure!(answer.starts_with("calling: 1\nwriting: 0\n"), "{answer}");
    drop(hold);
    parked.answered().map(drop)
}

/// Keeps all threads busy at once, until each is known as one that answers.
fn learn(subject: &Subject, daemon: &Daemon) -> Result<()> {
    let mut round = 0;
    wait::until("all threads to be known", || {
        round += 1;
        let name = format!("round{round}");
        let hold = subject.server.hold(&name)?;
        let mut clients = (0..subject.clients)
            .map(|number| Client::connect(&subject.listeners[number % subject.listeners.len()]))
            .collect::<Result<Vec<_>>>()?;
        // Whom nobody reads at once is left to a reactor.
        thread::sleep(SETTLED);
        for client in &mut clients {
            client.ask(&format!("/park/{name}"))?;
        }
        settled(&subject.server)?;
        drop(hold);
        for client in &mut clients {
            client.answered()?;
        }
        drop(clients);
        let view = daemon.looked_anew(&[])?;
        let is_known = |pid: &u32| {
            lookup::worker(&view, *pid).is_ok_and(|worker| {
                worker.class == Some(subject.class) && worker.threads_seen == Some(subject.handlers)
            })
        };
        Ok(subject.workers.iter().all(is_known).then_some(()))
    })
}

/// For so long nothing has changed where nothing is on its way any more.
const SETTLED: Duration = Duration::from_millis(200);

/// What the server counts when it stays the same for a while.
fn settled(server: &Server) -> Result<Counted> {
    let step = SETTLED / 20;
    let mut last = (server.middleware()?, 0);
    wait::until("the load to settle", || {
        while last.1 < 20 {
            thread::sleep(step);
            let now = server.middleware()?;
            if now != last.0 {
                last = (now, 0);
                return Ok(None);
            }
            last.1 += 1;
        }
        Ok(Some(last.0))
    })
}

/// A client that asks what it is told to, one request after the other.
struct Asking {
    name: String,
    requests: u32,
    jobs: Sender<String>,
    answers: Receiver<Result<()>>,
    is_busy: bool,
    hold: Option<Hold>,
}

impl Asking {
    fn start(to: Address, name: String) -> Result<Self> {
        let (jobs, paths) = channel::<String>();
        let (done, answers) = channel();
        thread::Builder::new().spawn(move || {
            let mut kept = None;
            for path in paths {
                let answered = ask(&to, &mut kept, &path);
                if done.send(answered).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            name,
            requests: 0,
            jobs,
            answers,
            is_busy: false,
            hold: None,
        })
    }

    /// Begins something, or comes to its end, or neither.
    fn change(&mut self, subject: &Subject, chance: &mut Chance) -> Result<()> {
        if let Ok(answered) = self.answers.try_recv() {
            answered.with_context(|| self.name.clone())?;
            self.is_busy = false;
        }
        if self.is_busy {
            if chance.one_in(2) {
                self.hold = None;
            }
        } else if chance.one_in(subject.begins) {
            self.requests += 1;
            let name = format!("{}_{}", self.name, self.requests);
            self.hold = Some(subject.server.hold(&name)?);
            let what = if chance.one_in(2) { "park" } else { "stream" };
            self.jobs.send(format!("/{what}/{name}"))?;
            self.is_busy = true;
        }
        Ok(())
    }
}

/// Over the connection that was kept, or a new one.
fn ask(to: &Address, kept: &mut Option<Client>, path: &str) -> Result<()> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => Client::connect(to)?,
    };
    client.ask(path)?;
    client.answered()?;
    if client.stays() {
        *kept = Some(client);
    }
    Ok(())
}

/// The same in every run.
struct Chance(u64);

impl Chance {
    fn one_in(&mut self, count: u64) -> bool {
        // Numerical Recipes.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).is_multiple_of(count)
    }
}
