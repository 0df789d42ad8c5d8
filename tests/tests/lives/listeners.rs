//! Lives of listeners.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Result;
use raindrops_tests::{
    daemon, kernel,
    life::{Setting, led},
    listening::{self, pair, reusable},
    netns,
    row::Figures,
    wait,
};
use raindrops_user::view::View;
use rustix::fs::fstat;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Check that a listener made again on the same port is another one, which begins at 0, and that
/// connections of the first do not touch it.
#[test]
fn made_again_on_the_same_port() -> Result<()> {
    led(Setting::default(), |life| {
        let first = reusable(ANY_PORT, 16)?;
        let address = first.local_addr()?;
        let old = fstat(&first)?.st_ino;
        let held = (pair(&first)?, pair(&first)?);
        life.shows(&first, Figures::open(2))?;
        drop(first);

        let second = reusable(address, 16)?;
        let begun = Figures {
            unseen: 2,
            ..Figures::NONE
        };
        life.shows(&second, begun)?;
        let view = life.shows_no(old)?;
        let here = view.listeners.iter().filter(|row| row.protocol == "tcp");
        assert_eq!(here.count(), 1);
        let more = pair(&second)?;
        drop(held);
        life.shows(&second, Figures::open(1))?;
        drop(more);
        life.shows(&second, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that a socket which stops listening has no row, and that its totals go on when it listens
/// again, because it is the same socket.
#[test]
fn listens_again() -> Result<()> {
    led(Setting::default(), |life| {
        // One that the kernel chose would be given back when the socket stops listening.
        let port = reusable(ANY_PORT, 1)?.local_addr()?.port();
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let held = pair(&listening)?;
        life.shows(&listening, Figures::open(1))?;
        rustix::net::shutdown(&listening, rustix::net::Shutdown::Read)?;
        life.shows_no(fstat(&listening)?.st_ino)?;

        rustix::net::listen(&listening, 16)?;
        life.shows(&listening, Figures::open(1))?;
        let more = pair(&listening)?;
        life.shows(&listening, Figures::open(2))?;
        drop((held, more));
        life.shows(&listening, Figures::closed(2))?;
        Ok(())
    })
}

/// Check that listeners on one port of two addresses are told apart.
#[test]
fn on_one_port_of_two_addresses() -> Result<()> {
    led(Setting::default(), |life| {
        let one = listening::tcp(16)?;
        let port = one.local_addr()?.port();
        let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port))?;
        for (listening, count) in [(&one, 2), (&other, 3)] {
            let held = listening::accepted(listening, count)?;
            life.shows(listening, Figures::open(count as u64))?;
            drop(held);
        }
        life.shows(&one, Figures::closed(2))?;
        let view = life.shows(&other, Figures::closed(3))?;
        assert_eq!(view.groups, [], "they share nothing");
        Ok(())
    })
}

/// Check that a wildcard and one of its addresses on the same port are told apart.
#[test]
fn on_a_wildcard_and_an_address() -> Result<()> {
    led(Setting::default(), |life| {
        let wildcard = reusable(SocketAddr::from(([0, 0, 0, 0], 0)), 16)?;
        let port = wildcard.local_addr()?.port();
        // Only sockets that are not listening yet may overlap.
        drop(wildcard);
        let sockets = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST].map(|ip| {
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            )?;
            rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddr::from((ip, port)))?;
            rustix::net::listen(&socket, 16)?;
            Ok::<_, rustix::io::Errno>(TcpListener::from(socket))
        });
        let [wildcard, address] = sockets;
        let (wildcard, address) = (wildcard?, address?);
        let to_address = pair(&address)?;
        let to_other = (
            std::net::TcpStream::connect((Ipv4Addr::new(127, 0, 0, 3), port))?,
            wildcard.accept()?,
        );
        life.shows(&address, Figures::open(1))?;
        // Seen from the kernel's list both are connections to the wildcard's port.
        let open = Figures {
            unseen: 1,
            ..Figures::open(1)
        };
        life.shows(&wildcard, open)?;
        drop((to_address, to_other));
        life.shows(&address, Figures::closed(1))?;
        life.shows(&wildcard, Figures::closed(1))?;
        Ok(())
    })
}

/// Check that connections to the same address in another network namespace do not touch ours.
#[test]
fn at_one_address_of_two_namespaces() -> Result<()> {
    led(Setting::default(), |life| {
        let ours = listening::tcp(16)?;
        let address = ours.local_addr()?;
        let held = pair(&ours)?;
        life.shows(&ours, Figures::open(1))?;
        netns::in_new(|| {
            let foreign = reusable(address, 16)?;
            let others = listening::accepted(&foreign, 3)?;
            drop(others);
            let _more = listening::accepted(&foreign, 2)?;
            // In a reading after all this.
            let at = wait::monotonic_ns();
            life.daemon()
                .until("a reading after the foreign ones", |view| {
                    daemon::read_at_ns(view, "sock_diag").is_ok_and(|read| read > at)
                })?;
            Ok(())
        })?;
        let view = life.shows(&ours, Figures::open(1))?;
        let netns = kernel::netns_inode()?;
        let here = |view: &View| {
            let rows = view.listeners.iter();
            let rows = rows.filter(|row| row.protocol == "tcp" && row.netns.inode == netns);
            rows.count()
        };
        assert_eq!(here(&view), 1);
        drop(held);
        life.shows(&ours, Figures::closed(1))?;
        Ok(())
    })
}
