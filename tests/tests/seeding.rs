//! Connections that were accepted before the daemon started.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::Result;
use raindrops_tests::{
    daemon::{self, Place, User},
    listening,
    lookup::{connections, listener},
    netns,
    skip::{Need, can_run},
};
use raindrops_user::view::{Connections, View};

const HELD: usize = 25;

fn figures<'a>(view: &'a View, address: &str) -> Option<&'a Connections> {
    connections(listener(view, address).ok()?).ok()
}

/// Check that connections from before are active and seeded in the first view, are neither
/// accepts nor waits, and are gone when they have closed.
#[test]
fn earlier_connections_are_seeded() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(128)?;
        let address = listening.local_addr()?.to_string();
        let held = listening::accepted(&listening, HELD)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;

        let first = daemon.view()?;
        daemon::expect_bpf(&first)?;
        let groups = connections(listener(&first, &address)?)?;
        assert_eq!(groups.active, Some(HELD as u64));
        assert_eq!(groups.seeded, Some(HELD as u64));
        assert_eq!(groups.accepts, Some(0));
        assert_eq!(groups.wait.as_ref().map(|wait| wait.count), Some(0));
        assert!(groups.complete);

        let later = listening::accepted(&listening, 3)?;
        daemon.until("later connections as accepts", |view| {
            figures(view, &address).is_some_and(|groups| {
                groups.accepts == Some(3)
                    && groups.active == Some(HELD as u64 + 3)
                    && groups.wait.as_ref().is_some_and(|wait| wait.count == 3)
            })
        })?;
        drop((held, later));
        daemon.until("all to be closed", |view| {
            figures(view, &address).is_some_and(|groups| {
                groups.active == Some(0)
                    && groups.half_closed == Some(0)
                    && groups.closes == Some(HELD as u64 + 3)
            })
        })?;
        Ok(())
    })
}

/// Check that figures add up when connections come and go while the daemon starts.
#[test]
fn figures_add_up_across_a_busy_start() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(128)?;
        let address = listening.local_addr()?;
        let held = listening::accepted(&listening, HELD)?;
        let (clients_stop, server_stops) = (AtomicBool::new(false), AtomicBool::new(false));
        let made = AtomicU64::new(0);
        let place = Place::new()?;
        let daemon = thread::scope(|scope| {
            let serving = scope.spawn(|| serve_until(&listening, &server_stops));
            let clients = [(); 2].map(|()| scope.spawn(|| churn(address, &clients_stop, &made)));
            let daemon = place.start(User::Same, &[]);
            let before = made.load(Ordering::Relaxed);
            let busy = daemon.and_then(|daemon| {
                daemon.until("churn under the running daemon", |_| {
                    made.load(Ordering::Relaxed) > before + 100
                })?;
                Ok(daemon)
            });
            clients_stop.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().expect("a client does not panic")?;
            }
            // Only now, so that no client is left without an answer; the connection wakes it.
            server_stops.store(true, Ordering::Relaxed);
            drop(TcpStream::connect(address)?);
            serving.join().expect("the server does not panic")?;
            busy
        })?;
        let address = address.to_string();
        let adds_up = |groups: &Connections| {
            let sum = |figures: &[Option<u64>]| figures.iter().copied().sum::<Option<u64>>();
            sum(&[groups.seeded, groups.accepts])
                == sum(&[groups.active, groups.half_closed, groups.closes])
        };
        let view = daemon.until("only the held connections", |view| {
            figures(view, &address).is_some_and(|groups| {
                groups.active == Some(HELD as u64) && groups.half_closed == Some(0)
            })
        })?;
        let groups = connections(listener(&view, &address)?)?;
        assert!(adds_up(groups), "{groups:?}");
        assert!(groups.seeded >= Some(HELD as u64), "{groups:?}");
        drop(held);
        daemon.until("no connection", |view| {
            figures(view, &address)
                .is_some_and(|groups| groups.active == Some(0) && adds_up(groups))
        })?;
        Ok(())
    })
}

fn serve_until(listening: &TcpListener, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let (mut stream, _) = listening.accept()?;
        let mut byte = [0];
        if stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
    }
    Ok(())
}

fn churn(address: SocketAddr, stop: &AtomicBool, made: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"x")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        made.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
