//! Connections of several paths, and those that fall back to one.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    io_uring::Ring,
    kernel,
    life::{Hook, Setting, led},
    listening::{self, client},
    row::Figures,
    skip::{self, Need, can_run},
    wait,
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, bind, connect, ipproto::MPTCP, listen, socket},
};

/// A socket of the protocol; `None` where the kernel has none.
fn multipath() -> Result<Option<rustix::fd::OwnedFd>> {
    match socket(AddressFamily::INET, SocketType::STREAM, Some(MPTCP)) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::PROTONOSUPPORT | Errno::NOPROTOOPT | Errno::INVAL) => {
            skip::report("this host cannot: the kernel has no MPTCP");
            Ok(None)
        }
        Err(error) => Err(error).context("socket"),
    }
}

/// A listener that offers several paths.
fn listening() -> Result<Option<TcpListener>> {
    let Some(socket) = multipath()? else {
        return Ok(None);
    };
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    listen(&socket, 16)?;
    Ok(Some(socket.into()))
}

/// A client and the server's end of a connection that both sides know to be of several paths.
fn connected(listening: &TcpListener) -> Result<Option<(TcpStream, TcpStream)>> {
    let before = kernel::netstat("MPTcpExt", "MPCapableSYNRX")?;
    let Some(client) = multipath()? else {
        return Ok(None);
    };
    connect(&client, &listening.local_addr()?)?;
    let (server, _) = listening.accept()?;
    let after = kernel::netstat("MPTcpExt", "MPCapableSYNRX")?;
    assert_eq!(after, before + 1);
    Ok(Some((client.into(), server)))
}

/// Check that a connection of several paths counts once, on a listener that offers them.
#[test]
fn on_several_paths() -> Result<()> {
    led(Setting::default(), |life| {
        let Some(listening) = listening()? else {
            return Ok(());
        };
        let Some((client, mut server)) = connected(&listening)? else {
            return Ok(());
        };
        life.shows(&listening, Figures::open(1))?;
        client.shutdown(Shutdown::Write)?;
        assert_eq!(server.read(&mut [0])?, 0);
        let half_closed = Figures {
            active: 0,
            half_closed: 1,
            ..Figures::open(1)
        };
        life.shows(&listening, half_closed)?;
        drop(server);
        life.shows(&listening, Figures::closed(1))?;
        drop(client);
        Ok(())
    })
}

/// Check that a connection of several paths that was accepted by io_uring counts once, and is
/// followed as a whole from when it is found.
#[test]
fn accepted_by_io_uring() -> Result<()> {
    led(Setting::default(), |life| {
        let (Some(ring), Some(listening)) = (Ring::new()?, listening()?) else {
            skip::report("this host cannot: no io_uring, or no MPTCP");
            return Ok(());
        };
        let Some(client) = multipath()? else {
            return Ok(());
        };
        connect(&client, &listening.local_addr()?)?;
        let client = TcpStream::from(client);
        let mut server = ring.accept(&listening)?;
        let is_seen = life.hook == Hook::Fexit;
        let late = |figures: Figures| Figures {
            late_accepts: u64::from(!is_seen),
            incomplete: !is_seen,
            ..figures
        };
        life.shows(&listening, late(Figures::open(1)))?;
        client.shutdown(Shutdown::Write)?;
        assert_eq!(server.read(&mut [0])?, 0);
        let half_closed = Figures {
            active: 0,
            half_closed: 1,
            ..Figures::open(1)
        };
        life.shows(&listening, late(half_closed))?;
        drop(server);
        life.shows(&listening, late(Figures::closed(1)))?;
        drop(client);
        Ok(())
    })
}

/// Check that paths which join a connection are no connections of their own.
#[test]
fn joined_by_another_path() -> Result<()> {
    if !can_run(&[Need::Program("ip")]) {
        return Ok(());
    }
    led(Setting::default(), |life| {
        let Some(listening) = listening()? else {
            return Ok(());
        };
        ip(&["mptcp", "limits", "set", "subflow", "2"])?;
        ip(&[
            "mptcp",
            "endpoint",
            "add",
            "127.0.0.2",
            "dev",
            "lo",
            "subflow",
        ])?;
        let Some((mut client, server)) = connected(&listening)? else {
            return Ok(());
        };
        // The first answer tells the client that it may open more.
        (&server).write_all(b"x")?;
        client.read_exact(&mut [0])?;
        wait::until("another path", || {
            let joined = kernel::netstat("MPTcpExt", "MPJoinAckRx")?;
            Ok((joined > 0).then_some(()))
        })?;
        life.shows(&listening, Figures::open(1))?;
        drop((client, server));
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a connection of several paths that is reset in the queue is aborted.
#[test]
fn reset_while_queued() -> Result<()> {
    led(Setting::default(), |life| {
        let Some(listening) = listening()? else {
            return Ok(());
        };
        let Some(client) = multipath()? else {
            return Ok(());
        };
        connect(&client, &listening.local_addr()?)?;
        listening::reset(client)?;
        let aborted = Figures {
            aborted: 1,
            ..Figures::NONE
        };
        life.shows(&listening, aborted)?;
        Ok(())
    })
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status();
    let status = status.context("running ip")?;
    ensure!(status.success(), "ip {arguments:?}: {status}");
    Ok(())
}

/// Check that a client without MPTCP counts like any other on a listener that offers it.
#[test]
fn fallen_back_by_the_client() -> Result<()> {
    led(Setting::default(), |life| {
        let Some(listening) = listening()? else {
            return Ok(());
        };
        let client = client(listening.local_addr()?)?;
        let (server, _) = listening.accept()?;
        life.shows(&listening, Figures::open(1))?;
        drop((client, server));
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a client with MPTCP counts like any other on a listener without.
#[test]
fn fallen_back_by_the_server() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let Some(client) = multipath()? else {
            return Ok(());
        };
        connect(&client, &listening.local_addr()?)?;
        let client = TcpStream::from(client);
        let (server, _) = listening.accept()?;
        life.shows(&listening, Figures::open(1))?;
        drop((client, server));
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}
