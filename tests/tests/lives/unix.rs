//! Lives of unix listeners.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    thread,
    time::Duration,
};

use anyhow::Result;
use raindrops_tests::{
    ability,
    io_uring::Ring,
    life::{Hook, Setting, led},
    listening, lookup,
    row::Figures,
    skip,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

/// A unix listener's figures: its connections' ends are not followed.
fn open(accepts: u64, active: u64) -> Figures {
    Figures {
        accepts,
        active,
        ..Figures::NONE
    }
}

fn client(name: &SocketAddrUnix) -> Result<UnixStream> {
    let client = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    connect(&client, name)?;
    Ok(client.into())
}

/// Check that accepts of unix listeners are counted whatever their names.
#[test]
fn of_any_name() -> Result<()> {
    led(Setting::default(), |life| {
        let path =
            |name: &[u8]| SocketAddrUnix::new(life.place().path().join(OsStr::from_bytes(name)));
        let names = [
            path(b"app.sock")?,
            path(b"\xff\x01.sock")?,
            SocketAddrUnix::new_abstract_name(b"raindrops-lives")?,
            SocketAddrUnix::new_abstract_name(b"raindrops-lives\xfe\0")?,
        ];
        for (name, count) in names.iter().zip(1..) {
            let listening = listening::unix(name)?;
            let held: Vec<_> = (0..count)
                .map(|_| Ok((client(name)?, listening.accept()?)))
                .collect::<Result<_>>()?;
            life.shows(&listening, open(count, count))?;
            let queued = client(name)?;
            let with_queue = Figures {
                queued: 1,
                ..open(count, count)
            };
            life.shows(&listening, with_queue)?;
            drop(listening.accept()?);
            drop((held, queued));
            life.shows(&listening, open(count + 1, 0))?;
        }
        Ok(())
    })
}

/// Check that a unix connection whose client leaves while it is queued is still an accept, as it
/// is for the application.
#[test]
fn client_leaves_the_queue() -> Result<()> {
    led(Setting::default(), |life| {
        let name = SocketAddrUnix::new_abstract_name(b"raindrops-lives-left")?;
        let listening = listening::unix(&name)?;
        drop(client(&name)?);
        let (mut left, _) = listening.accept()?;
        assert_eq!(left.read(&mut [0])?, 0, "the client has left");
        // A unix socket stays established until its own end is closed.
        life.shows(&listening, open(1, 1))?;
        drop(left);
        let held = (client(&name)?, listening.accept()?);
        life.shows(&listening, open(2, 1))?;
        drop(held);
        life.shows(&listening, open(2, 0))?;
        Ok(())
    })
}

/// Check that a listener that is closed with connections in its queue leaves nothing to the next
/// one of its name.
#[test]
fn closed_with_a_queue() -> Result<()> {
    led(Setting::default(), |life| {
        let name = SocketAddrUnix::new_abstract_name(b"raindrops-lives-closed")?;
        let listening = listening::unix(&name)?;
        let queued = [client(&name)?, client(&name)?];
        let two = Figures {
            queued: 2,
            ..Figures::NONE
        };
        life.shows(&listening, two)?;
        drop(listening);
        for mut client in queued {
            assert!(
                !client.read(&mut [0]).is_ok_and(|read| read > 0),
                "it is over"
            );
        }
        let listening = listening::unix(&name)?;
        life.shows(&listening, Figures::NONE)?;
        let held = (client(&name)?, listening.accept()?);
        life.shows(&listening, open(1, 1))?;
        drop(held);
        life.shows(&listening, open(1, 0))?;
        Ok(())
    })
}

/// Check that a connection that outlives its listener is in no other's figures, is no loss when it is read,
/// and leaves nothing when it ends.
#[test]
fn outlived_by_a_connection() -> Result<()> {
    led(Setting::default(), |life| {
        let [name, other] = [&b"raindrops-lives-outlived"[..], b"raindrops-lives-next"]
            .map(SocketAddrUnix::new_abstract_name);
        let (name, other) = (name?, other?);
        let listening = listening::unix(&name)?;
        let mut held = (client(&name)?, listening.accept()?.0);
        life.shows(&listening, open(1, 1))?;
        drop(listening);
        let next = listening::unix(&other)?;
        life.shows(&next, Figures::NONE)?;
        // By now the row of the former is free.
        thread::sleep(Duration::from_millis(500));
        life.shows(&next, Figures::NONE)?;
        held.0.write_all(b"G")?;
        held.1.read_exact(&mut [0])?;
        held.1.write_all(b"G")?;
        life.shows(&next, Figures::NONE)?;
        drop(held);
        Ok(())
    })
}

/// Check that a listener whose socket file is replaced and the one that replaces it are two, each
/// with its own accepts.
#[test]
fn replaced_while_it_lives() -> Result<()> {
    led(Setting::default(), |life| {
        let path = life.place().path().join("app.sock");
        let name = SocketAddrUnix::new(path.as_path())?;
        let old = listening::unix(&name)?;
        let first = (client(&name)?, old.accept()?);
        let queued = client(&name)?;
        fs::remove_file(&path)?;
        let new = listening::unix(&name)?;
        let second: Vec<_> = (0..2)
            .map(|_| Ok((client(&name)?, new.accept()?)))
            .collect::<Result<_>>()?;
        let third = old.accept()?;
        if !ability::tells_same_names(life.hook)? && life.is_counted() {
            let name = path.to_string_lossy();
            life.daemon().until("the sum, marked", |view| {
                let rows = lookup::listeners(view, &name);
                let groups = rows.iter().filter_map(|row| row.connections.as_ref());
                let accepts = groups.clone().filter_map(|it| it.accepts).sum::<u64>();
                accepts == 4 && groups.into_iter().all(|it| !it.complete)
            })?;
            return Ok(());
        }
        life.shows(&old, open(2, 2))?;
        drop((first, queued, third));
        life.shows(&new, open(2, 2))?;
        drop(old);
        drop(second);
        life.shows(&new, open(2, 0))?;
        Ok(())
    })
}

/// Check that unix accepts by io_uring, which no hook on system calls sees, are late ones where
/// arrivals are counted, and missing, but not counted wrongly, elsewhere.
#[test]
fn by_io_uring() -> Result<()> {
    led(Setting::default(), |life| {
        let Some(ring) = Ring::new()? else {
            skip::report("this host cannot: no io_uring");
            return Ok(());
        };
        let name = SocketAddrUnix::new_abstract_name(b"raindrops-lives-uring")?;
        let listening = listening::unix(&name)?;
        // The daemon knows it from now on, and how many are in its queue.
        life.shows(&listening, open(0, 0))?;
        let held = (client(&name)?, ring.accept(&listening)?);
        let is_seen = life.hook == Hook::Fexit;
        let is_found = !is_seen && ability::has_sk_data_ready()?;
        let figures = Figures {
            late_accepts: u64::from(is_found),
            incomplete: is_found,
            ..open(u64::from(is_seen || is_found), 1)
        };
        life.shows(&listening, figures)?;
        drop(held);
        Ok(())
    })
}
