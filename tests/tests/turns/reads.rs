//! Ways to read and write that are not recv() and send().

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process,
};

use anyhow::{Result, ensure};
use raindrops_tests::{
    client::{Address, Client},
    daemon::{Daemon, Place, User},
    io_uring::Ring,
    listening, lookup, netns,
    servers::nginx,
    skip::{self, Need, can_run},
    turns::{self, Doing, Done},
};
use rustix::pipe::{SpliceFlags, pipe, splice};

const REQUEST: &[u8] = b"12345678";
const ANSWER: &[u8] = b"1234";
const BIG: u64 = 3 << 20;

/// One connection, and what is done on it.
const ONE: Doing = Doing {
    waiting: Some(0),
    reading: Some(0),
    calling: Some(0),
    writing: Some(0),
    blocked: Some(0),
    idle: Some(0),
};
const NOTHING_DONE: Done = Done {
    turns: 0,
    answers: 0,
    bytes_in: 0,
    bytes_out: 0,
};

/// Waits for this, and then looks once more.
fn shows(daemon: &Daemon, address: &str, doing: Doing, done: Done, complete: bool) -> Result<()> {
    let address = [address.to_owned()];
    for _ in 0..2 {
        let what = format!("{doing:?}, {done:?}, complete: {complete}");
        daemon.until(&what, |view| {
            let is_complete = turns::each(view, &address).is_ok_and(|it| it[0].complete);
            is_complete == complete
                && Doing::of_listeners(view, &address).is_ok_and(|it| it == doing)
                && Done::on_listeners(view, &address).is_ok_and(|it| it == done)
        })?;
        daemon.looked_anew(&address)?;
    }
    Ok(())
}

/// Check that to look at data without taking it begins no turn.
#[test]
fn a_peek_is_no_read() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listener = listening::tcp(4)?;
        let address = listener.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let (mut client, mut server) = listening::pair(&listener)?;
        client.write_all(REQUEST)?;
        let mut bytes = [0; 16];
        for _ in 0..3 {
            assert_eq!(server.peek(&mut bytes)?, REQUEST.len());
        }
        let waits = Doing {
            waiting: Some(1),
            ..ONE
        };
        shows(&daemon, &address, waits, NOTHING_DONE, true)?;
        assert_eq!(server.read(&mut bytes)?, REQUEST.len());
        let read = Done {
            turns: 1,
            bytes_in: REQUEST.len() as u64,
            ..NOTHING_DONE
        };
        // Of a process that has answered nothing is not known who answers.
        let read_by_somebody = Doing {
            waiting: None,
            calling: None,
            ..ONE
        };
        shows(&daemon, &address, read_by_somebody, read, true)
    })
}

/// Check that what io_uring reads and writes counts, for the process that has it do so.
#[test]
fn by_io_uring() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let Some(ring) = Ring::new()? else {
            skip::report("this host cannot: io_uring is not allowed");
            return Ok(());
        };
        let listener = listening::tcp(4)?;
        let address = listener.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let (mut client, server) = listening::pair(&listener)?;
        let mut done = NOTHING_DONE;
        for _ in 0..5 {
            // The first is there when it is read; for the others the kernel has to wait.
            client.write_all(REQUEST)?;
            let mut bytes = [0; 16];
            assert_eq!(ring.receive(&server, &mut bytes)?, REQUEST.len());
            assert!(bytes.starts_with(REQUEST));
            done.turns += 1;
            done.bytes_in += REQUEST.len() as u64;
            let is_known = done.answers > 0;
            let called = Doing {
                waiting: is_known.then_some(0),
                calling: is_known.then_some(1),
                ..ONE
            };
            shows(&daemon, &address, called, done, true)?;
            assert_eq!(ring.send(&server, ANSWER)?, ANSWER.len());
            let mut answer = [0; ANSWER.len()];
            client.read_exact(&mut answer)?;
            assert_eq!(answer, ANSWER);
            done.answers += 1;
            done.bytes_out += ANSWER.len() as u64;
            let view = daemon.until(&format!("{done:?}"), |view| {
                let address = std::slice::from_ref(&address);
                Done::on_listeners(view, address).is_ok_and(|it| it == done)
            })?;
            assert_eq!(turns::of_workers(&view, &[process::id()])?, done.turns);
        }
        Ok(())
    })
}

/// Check that files that nginx sends by sendfile() are answers, of as many bytes as came, and over
/// when they are.
#[test]
fn by_sendfile() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("nginx")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = nginx::start()?;
        File::create(server.path("big"))?.set_len(BIG)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Unix(server.unix[0].clone());
        for listener in [listener, Address::Tcp(server.tcp[0])] {
            let address = [listener.to_string()];
            let mut client = Client::connect(&listener)?;
            for number in 1..=3 {
                let body = client.get("/big")?;
                ensure!(body.len() as u64 == BIG, "{} bytes", body.len());
                let done = Done {
                    turns: number,
                    answers: number,
                    bytes_in: client.sent,
                    bytes_out: client.received,
                };
                let idle = Doing {
                    idle: Some(1),
                    ..ONE
                };
                for _ in 0..2 {
                    daemon.until(&format!("{done:?}, {idle:?}"), |view| {
                        Done::on_listeners(view, &address).is_ok_and(|it| it == done)
                            && Doing::of_listeners(view, &address).is_ok_and(|it| it == idle)
                    })?;
                    daemon.looked_anew(&address)?;
                }
            }
        }
        Ok(())
    })
}

/// Check that data which goes into a pipe by splice() makes turns incomplete, and is not waiting.
#[test]
fn by_splice() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listener = listening::tcp(4)?;
        let address = listener.local_addr()?.to_string();
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let (mut client, server) = listening::pair(&listener)?;
        client.write_all(REQUEST)?;
        let waits = Doing {
            waiting: Some(1),
            ..ONE
        };
        shows(&daemon, &address, waits, NOTHING_DONE, true)?;
        let (_out, into) = pipe()?;
        let spliced = splice(&server, None, &into, None, 1 << 12, SpliceFlags::empty())?;
        assert_eq!(spliced, REQUEST.len());
        let idle = Doing {
            idle: Some(1),
            ..ONE
        };
        shows(&daemon, &address, idle, NOTHING_DONE, false)?;
        drop((client, server));
        shows(&daemon, &address, ONE, NOTHING_DONE, true)?;
        let view = daemon.view()?;
        let listener = lookup::listener(&view, &address)?;
        assert_eq!(turns::of(listener)?.unanswered, 0);
        Ok(())
    })
}
