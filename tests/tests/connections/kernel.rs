//! Connections of the test's own, held against what both ends did.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd, unix::net::UnixListener},
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening,
    netns::{self, Inhabited},
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::connections::{Connection, Listing, State};
use rustix::{fs::fstat, net::sockopt::socket_cookie};
use serde_json::Value;

use crate::list;

fn row<'a>(listing: &'a Listing, client: &TcpStream) -> Result<&'a Connection> {
    let peer = client.local_addr()?.to_string();
    let mut rows = listing.connections.iter();
    let row = rows.find(|row| row.peer.as_ref() == Some(&peer));
    row.with_context(|| format!("no connection of {peer} in {listing:?}"))
}

fn inode(socket: impl AsFd) -> Result<u64> {
    Ok(fstat(socket)?.st_ino)
}

/// What the kernel says that arrived, that the server has not read, and that the client acknowledged.
fn moved(row: &Connection) -> Option<(u64, u32, u64)> {
    let tcp = row.tcp.as_ref()?;
    Some((tcp.bytes_received?, tcp.unread_bytes, tcp.bytes_acked?))
}

/// Check that exactly the accepted connections of a listener are listed, each with its socket and the
/// bytes that its two ends have moved, and those whose client has closed as such.
#[test]
fn each_connection_has_the_bytes_of_its_ends() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        const COUNT: usize = 40;
        let (listener, other) = (listening::tcp(64)?, listening::tcp(64)?);
        let address = listener.local_addr()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let mut pairs = listening::accepted(&listener, COUNT)?;
        let _others = listening::accepted(&other, 3)?;
        let _queued = listening::client(address)?;
        for (number, (client, server)) in pairs.iter_mut().enumerate() {
            client.write_all(&vec![1; number * 100])?;
            server.read_exact(&mut vec![0; number * 30])?;
            server.write_all(&vec![2; number * 7])?;
            client.read_exact(&mut vec![0; number * 7])?;
        }
        let (closed, open) = pairs.split_at(COUNT / 2);
        for (client, _) in closed {
            client.shutdown(Shutdown::Write)?;
        }
        let query = format!("listener={address}");
        let id = &list(&daemon, &query)?.listeners[0].id;
        wait::until("every connection as its ends know it", || {
            let listing = list(&daemon, &query)?;
            ensure!(
                listing.connections.len() == COUNT && listing.matched == COUNT,
                "not the accepted ones: {listing:?}"
            );
            ensure!(!listing.truncated && listing.scan_complete);
            for (number, (client, server)) in pairs.iter().enumerate() {
                let row = row(&listing, client)?;
                ensure!(row.listener.as_ref() == Some(id), "{row:?}");
                ensure!(row.address == Some(address.to_string()), "{row:?}");
                ensure!(row.inode == Some(inode(server)?), "{row:?}");
                let cookie = socket_cookie(server)?.to_string();
                ensure!(row.cookie == Some(cookie), "{row:?}");
                let state = if number < closed.len() {
                    State::CloseWait
                } else {
                    State::Established
                };
                let [sent, unread, answered] = [number * 100, number * 70, number * 7];
                let expected = (sent as u64, unread as u32, answered as u64);
                // What was sent last arrives a moment later.
                if row.state != Some(state) || moved(row) != Some(expected) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })?;
        ensure!(open.len() + closed.len() == COUNT);
        let all = list(&daemon, "limit=4096")?;
        let of_tcp = all.connections.iter().filter(|row| row.tcp.is_some());
        assert_eq!(of_tcp.count(), COUNT + 3);
        // The daemon's own socket is one.
        assert_eq!(all.listeners.len(), 3);
        let both = format!("{query}&listener={}&limit=5", other.local_addr()?);
        let both = list(&daemon, &both)?;
        assert_eq!((both.connections.len(), both.matched), (5, COUNT + 3));
        assert!(both.truncated && both.scan_complete);
        Ok(())
    })
}

/// Check that a request whose body is still arriving shows how much of it has.
#[test]
fn an_upload_progresses() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        const PART: usize = 10_000;
        let listener = listening::tcp(16)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let (mut client, mut server) = listening::pair(&listener)?;
        let query = format!("listener={}", listener.local_addr()?);
        for part in 1..=5 {
            client.write_all(&[1; PART])?;
            // The server reads behind.
            server.read_exact(&mut [0; PART / 2])?;
            let arrived = part * PART;
            let expected = (arrived as u64, (arrived / 2) as u32, 0);
            wait::until("the part to have arrived", || {
                let listing = list(&daemon, &query)?;
                Ok((moved(row(&listing, &client)?) == Some(expected)).then_some(()))
            })?;
        }
        Ok(())
    })
}

/// Check that what a stalled client does not take is shown.
#[test]
fn a_client_that_takes_nothing_is_seen() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listener = listening::tcp(16)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let (client, mut server) = listening::pair(&listener)?;
        server.set_nonblocking(true)?;
        let mut written = 0;
        while let Ok(more) = server.write(&[1; 65536]) {
            written += more as u64;
        }
        let query = format!("listener={}", listener.local_addr()?);
        wait::until(
            "all that was written to be in one place or the other",
            || {
                let listing = list(&daemon, &query)?;
                let tcp = row(&listing, &client)?.tcp.clone().context("no tcp")?;
                let acked = tcp.bytes_acked.context("no bytes_acked")?;
                let left = u64::from(tcp.unacked_bytes);
                ensure!(left > 0 && acked + left == written, "{tcp:?}: {written}");
                // The client's window closes while what was sent before arrives.
                Ok((tcp.notsent_bytes == Some(tcp.unacked_bytes)).then_some(()))
            },
        )
    })
}

fn refusal(daemon: &Daemon, query: &str) -> Result<(u16, String, String)> {
    let answer = daemon.get(&format!("/v1/connections?{query}"))?;
    let json: Value = serde_json::from_slice(&answer.body)?;
    let text = |name: &str| {
        let text = json[name].as_str();
        text.map(str::to_owned)
            .with_context(|| format!("{query}: no {name} in {json}"))
    };
    Ok((answer.status, text("error")?, text("hint")?))
}

/// Check that what cannot be listed is an error that says why, never an empty list.
#[test]
fn what_cannot_be_listed_is_an_error() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let listener = listening::tcp(16)?;
        let address = listener.local_addr()?;
        let path = place.path().join("app.sock");
        let _unix = UnixListener::bind(&path)?;
        let elsewhere = Inhabited::unnamed()?;
        let there = elsewhere.enter(|| listening::tcp(16))?;
        let there: SocketAddr = there.local_addr()?;
        let daemon = place.start(User::Same, &["--no-bpf"])?;
        let missing = format!("127.0.0.1:{}", address.port() ^ 1);
        for (query, status, error, hint) in [
            (
                format!("listener={missing}"),
                404,
                format!("no listener matches \"{missing}\""),
                address.to_string(),
            ),
            (
                format!("listener={there}"),
                404,
                format!("no listener matches \"{there}\""),
                address.to_string(),
            ),
            (
                "limit=many".to_owned(),
                400,
                "limit \"many\" is not a number from 1 to 4096".to_owned(),
                "limit=COUNT".to_owned(),
            ),
            (
                "worker=1".to_owned(),
                503,
                "no connection's worker is known: ".to_owned(),
                String::new(),
            ),
            (
                format!("listener={}", path.display()),
                503,
                "connections of unix listeners are not listed without BPF".to_owned(),
                String::new(),
            ),
        ] {
            let told = refusal(&daemon, &query)?;
            assert_eq!(told.0, status, "{query}: {told:?}");
            assert!(told.1.contains(&error), "{query}: {told:?}");
            assert!(told.2.contains(&hint), "{query}: {told:?}");
        }
        // One that can is listed beside one that cannot.
        let both = list(
            &daemon,
            &format!("listener={}&listener={address}", path.display()),
        )?;
        let what: Vec<&str> = both.notes.iter().map(|note| note.what.as_str()).collect();
        assert_eq!(what, ["turns", "unix"]);
        Ok(())
    })
}

/// Check that connections in another network namespace than the daemon's have no `tcp`, and that this
/// is said.
#[test]
fn tcp_info_is_of_the_own_namespace() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let elsewhere = Inhabited::unnamed()?;
        let (there, _pairs) = elsewhere.enter(|| {
            let listener = listening::tcp(16)?;
            let pairs = listening::accepted(&listener, 2)?;
            Ok((listener, pairs))
        })?;
        let here: TcpListener = listening::tcp(16)?;
        let _here = listening::pair(&here)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--netns", "all"])?;
        let view = daemon.until("the other namespace", |view| {
            let mut listeners = view.listeners.iter();
            listeners.any(|it| it.netns.inode == elsewhere.inode())
        })?;
        let mut listeners = view.listeners.iter();
        let row = listeners.find(|it| it.netns.inode == elsewhere.inode());
        let id = &row.context("it was just there")?.id;
        assert!(id.starts_with(&elsewhere.inode().to_string()));
        let answer = daemon.get(&format!("/v1/connections?listener={id}"))?;
        assert!(
            answer
                .text()?
                .contains("tcp_info is not read in other network namespaces than the daemon's"),
            "{answer:?}"
        );
        if let Ok(listing) = serde_json::from_slice::<Listing>(&answer.body) {
            assert!(listing.connections.iter().all(|row| row.tcp.is_none()));
        }
        let own = list(&daemon, &format!("listener={}", here.local_addr()?))?;
        assert_eq!(own.connections.len(), 1);
        assert!(own.connections[0].tcp.is_some());
        drop(there);
        Ok(())
    })
}

/// Check that `show --connections` prints them, with and without a daemon, as text and as JSON.
#[test]
fn show_prints_connections() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listener = listening::tcp(16)?;
        let address = listener.local_addr()?.to_string();
        let pairs = listening::accepted(&listener, 3)?;
        let peers: Vec<String> = pairs
            .iter()
            .map(|(client, _)| Ok(client.local_addr()?.to_string()))
            .collect::<Result<_>>()?;
        let (with, without) = (Place::new()?, Place::new()?);
        let daemon = with.start(User::Same, &[])?;
        for socket in [daemon.socket().to_owned(), without.socket()] {
            let socket = socket.to_string_lossy();
            let show = |more: &[&str]| {
                let arguments = ["show", "--socket", &socket, "--connections"];
                daemon::raindrops(arguments.iter().chain(more))
            };
            let text = show(&[&address])?;
            assert!(text.status.success(), "{text:?}");
            let text = String::from_utf8(text.stdout)?;
            let heading = format!("3 accepted connections of {address}, at ");
            assert!(text.starts_with(&heading), "{text}");
            assert!(peers.iter().all(|peer| text.contains(peer)), "{text}");

            let json = show(&["--format", "json", "--limit", "2", &address])?;
            let listing: Listing = serde_json::from_slice(&json.stdout)?;
            assert_eq!((listing.connections.len(), listing.matched), (2, 3));

            let missing = show(&["@no-such"])?;
            assert_eq!(missing.status.code(), Some(1));
            let error = String::from_utf8(missing.stderr)?;
            assert!(
                error.contains("no listener matches \"@no-such\""),
                "{error}"
            );
        }
        for wrong in [
            &["show", "--limit", "2"][..],
            &["show", "--connections", "--limit", "0"],
        ] {
            assert_eq!(
                daemon::raindrops(wrong)?.status.code(),
                Some(2),
                "{wrong:?}"
            );
        }
        Ok(())
    })
}
