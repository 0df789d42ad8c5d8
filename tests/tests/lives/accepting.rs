//! Ways to accept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

use anyhow::Result;
use raindrops_tests::{
    io_uring::Ring,
    life::{Hook, Setting, led},
    listening::{self, accept_without_address, client, pair},
    row::Figures,
    skip,
};

/// Check that an accept is counted once whether or not the application asks who came.
#[test]
fn without_an_address() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = listening::tcp(16)?;
        let client = client(listening.local_addr()?)?;
        let server = accept_without_address(&listening)?;
        life.shows(&listening, Figures::open(1))?;
        drop((client, server));
        life.shows(&listening, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that connections accepted by io_uring, which is no system call of that name, are counted
/// while they are open, and that the row says that something is missing.
#[test]
fn by_io_uring() -> Result<()> {
    led(Setting::default(), |life| {
        let Some(ring) = Ring::new()? else {
            skip::report("this host cannot: no io_uring");
            return Ok(());
        };
        let listening = listening::tcp(16)?;
        let is_seen = life.hook == Hook::Fexit;
        let late = |figures: Figures| Figures {
            late_accepts: u64::from(!is_seen),
            incomplete: !is_seen,
            ..figures
        };
        let usual = pair(&listening)?;
        let ended = (client(listening.local_addr()?)?, ring.accept(&listening)?);
        life.shows(&listening, late(Figures::open(2)))?;
        drop(ended);
        let one_left = Figures {
            accepts: 2,
            active: 1,
            closes: 1,
            ..Figures::NONE
        };
        life.shows(&listening, late(one_left))?;
        drop(usual);
        life.shows(&listening, late(Figures::closed(2)))?;
        Ok(())
    })
}

/// Check that a connection accepted by io_uring and half closed by its client is late, not aborted.
#[test]
fn by_io_uring_and_half_closed() -> Result<()> {
    led(Setting::default(), |life| {
        let Some(ring) = Ring::new()? else {
            skip::report("this host cannot: no io_uring");
            return Ok(());
        };
        let listening = listening::tcp(16)?;
        drop(client(listening.local_addr()?)?);
        drop(ring.accept(&listening)?);
        let is_seen = life.hook == Hook::Fexit;
        let late = Figures {
            late_accepts: u64::from(!is_seen),
            incomplete: !is_seen,
            ..Figures::closed(1)
        };
        life.shows(&listening, late)?;
        Ok(())
    })
}

/// Check that clients of both families count on the one listener that serves both.
#[test]
fn of_both_families() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let port = listening.local_addr()?.port();
        let to = |ip: IpAddr, count: usize| {
            let connect = || Ok((TcpStream::connect((ip, port))?, listening.accept()?));
            (0..count).map(|_| connect()).collect::<Result<Vec<_>>>()
        };
        let held = (
            to(Ipv4Addr::LOCALHOST.into(), 3)?,
            to(Ipv6Addr::LOCALHOST.into(), 2)?,
        );
        let view = life.shows(&listening, Figures::open(5))?;
        let tcp = view.listeners.iter().filter(|row| row.protocol == "tcp");
        assert_eq!(tcp.count(), 1);
        drop(held);
        life.shows(&listening, Figures::closed(5))?;
        Ok(())
    })
}

/// Check that a wildcard listener counts the clients of each of its addresses.
#[test]
fn at_any_address() -> Result<()> {
    led(Setting::default(), |life| {
        let listening = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listening.local_addr()?.port();
        let held: Vec<_> = (1..=3)
            .map(|host| {
                let client = TcpStream::connect((Ipv4Addr::new(127, 0, 0, host), port))?;
                Ok((client, listening.accept()?))
            })
            .collect::<Result<_>>()?;
        life.shows(&listening, Figures::open(3))?;
        drop(held);
        life.shows(&listening, Figures::closed(3))?;
        Ok(())
    })
}
