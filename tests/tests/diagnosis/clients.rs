//! Clients that keep a server busy without use.

use std::{io::Write as _, thread, time::Duration};

use anyhow::{Result, bail};
use raindrops_tests::{
    client::{Address, Client, answered, asking},
    daemon::{Place, User},
    doctor::figures,
    listening, netns,
    servers::unicorn,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::diagnose::Severity;

/// Check that workers whose clients have left without an answer are told to work for nobody.
#[test]
fn clients_that_give_up() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_with(4)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let hold = server.hold("all")?;
        let mut stays = asking(&listener, 1, "/park/all")?;
        let leave = asking(&listener, 3, "/park/all")?;
        wait::until("busy workers", || {
            Ok((server.middleware()?.calling == 4).then_some(()))
        })?;
        drop(leave);
        let verdict = daemon.until_verdict("half-closed-pileup", |_| true)?;
        assert_eq!(verdict.subject.address, Some(listener.to_string()));
        let names = ["half_closed", "active", "threads"];
        assert_eq!(
            figures(&verdict, names),
            [Some(3), Some(1), Some(4)],
            "{verdict:?}"
        );
        drop(hold);
        answered(&mut stays)?;
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that connections that the server leaves open after their clients have left, read or unread,
/// are told though no turn is open.
#[test]
fn connections_that_nobody_closes() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(64)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let pairs = listening::accepted(&listening, 25)?;
        let (mut clients, kept): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        for client in &mut clients[..10] {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        }
        drop(clients);
        // It is looked for at every look of so long.
        thread::sleep(Duration::from_secs(9));
        let verdict = daemon.until_verdict("half-closed-pileup", |_| true)?;
        assert_eq!(
            figures(&verdict, ["half_closed", "active", "left_open", "unread"]),
            [Some(25), Some(0), Some(25), Some(10)],
            "{verdict:?}"
        );
        drop(kept);
        daemon.until_well()?;
        Ok(())
    })
}

/// Check that a reader who does not go on is told to take the worker that answers him, as no trouble
/// while nobody waits, and not when he does.
#[test]
fn stalled_readers_take_half_of_the_threads() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("unicorn")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let listener = Address::Tcp(server.tcp[0]);
        let mut client = Client::connect(&listener)?;
        // More than the buffers of a connection.
        client.ask_and_close("/big/64")?;
        client.begun()?;
        let diagnosis = daemon.until_diagnosed("a slow reader", |it| {
            it.verdicts.iter().any(|it| it.verdict == "slow-clients")
        })?;
        // The other worker is there for whoever comes.
        let [verdict] = &diagnosis.verdicts[..] else {
            bail!("only this: {diagnosis:?}");
        };
        assert_eq!(verdict.severity, Severity::Info, "{verdict:?}");
        assert_eq!(
            figures(verdict, ["blocked", "threads"]),
            [Some(1), Some(2)],
            "{verdict:?}"
        );
        // Nobody is left for whoever comes next.
        let mut other = Client::connect(&listener)?;
        other.ask_and_close("/big/64")?;
        other.begun()?;
        let verdict =
            daemon.until_verdict("slow-clients", |it| it.severity == Severity::Warning)?;
        assert_eq!(
            figures(&verdict, ["blocked", "threads"]),
            [Some(2), Some(2)],
            "{verdict:?}"
        );
        for mut client in [client, other] {
            assert_eq!(client.answered()?.len(), 64 << 20);
        }
        daemon.until_well()?;
        Ok(())
    })
}
