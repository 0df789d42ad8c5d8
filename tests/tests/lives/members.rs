//! Members of a SO_REUSEPORT group.

use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    ability, kernel,
    life::{Hook, Life, Setting, led},
    listening::{client, group},
    lookup,
    row::Figures,
};
use rustix::fs::fstat;

const MEMBERS: usize = 3;

/// Connects until each member has at least `each` in its queue.
fn fill(members: &[TcpListener], each: u32) -> Result<Vec<TcpStream>> {
    let address = members.first().context("no member")?.local_addr()?;
    let mut clients = Vec::new();
    loop {
        let queued: Result<Vec<u32>> = members
            .iter()
            .map(|it| Ok(kernel::backlog(it)?.0))
            .collect();
        if queued?.iter().all(|queued| *queued >= each) {
            return Ok(clients);
        }
        ensure!(clients.len() < 100, "one member gets nothing of a hundred");
        clients.push(client(address)?);
    }
}

/// Accepts all that waits.
fn drain(member: &TcpListener) -> Result<Vec<TcpStream>> {
    let queued = kernel::backlog(member)?.0;
    (0..queued).map(|_| Ok(member.accept()?.0)).collect()
}

fn counts(accepted: &[Vec<TcpStream>]) -> Vec<u64> {
    accepted.iter().map(|them| them.len() as u64).collect()
}

/// Waits until each member shows what it has accepted. Where members cannot be told apart, their
/// rows must say so, and only the sum is compared.
fn show(
    life: &Life,
    members: &[TcpListener],
    accepted: &[u64],
    figures: fn(u64) -> Figures,
) -> Result<()> {
    if life.tells_members || !life.is_counted() {
        for (member, accepted) in members.iter().zip(accepted) {
            life.shows(member, figures(*accepted))?;
        }
        return Ok(());
    }
    let expected = accepted.iter().sum();
    let address = members.first().context("no member")?.local_addr()?;
    life.daemon().until("the sum of a group", |view| {
        let rows = lookup::listeners(view, &address.to_string());
        let groups = rows.iter().filter_map(|row| row.connections.as_ref());
        let all = groups.map(|it| it.accepts.filter(|_| !it.complete));
        rows.len() == members.len() && all.sum::<Option<u64>>() == Some(expected)
    })?;
    Ok(())
}

/// Check that each member counts its own connections, and that those of one that closes with a
/// queue are reset and touch no other.
#[test]
fn each_for_itself() -> Result<()> {
    led(Setting::default(), |life| {
        let mut members = group(MEMBERS, 64)?;
        let clients = fill(&members, 1)?;
        let accepted: Vec<Vec<TcpStream>> = members.iter().map(drain).collect::<Result<_>>()?;
        show(life, &members, &counts(&accepted), Figures::open)?;

        let queued = fill(&members, 1)?;
        let first = members.remove(0);
        let inode = fstat(&first)?.st_ino;
        drop(first);
        life.shows_no(inode)?;
        let mut accepted: Vec<_> = accepted.into_iter().skip(1).collect();
        for (member, accepted) in members.iter().zip(&mut accepted) {
            accepted.extend(drain(member)?);
        }
        if !life.tells_members && life.is_counted() {
            // Which of them were counted on the one that is gone is not known; that some were is said.
            life.may_leave_gap("left-to-another");
            return Ok(());
        }
        let left = counts(&accepted);
        show(life, &members, &left, Figures::open)?;
        drop((clients, queued, accepted));
        show(life, &members, &left, Figures::closed)
    })
}

/// Check that connections that a closing member leaves to another count on the one that accepts
/// them, and that it is said where this is a guess.
#[test]
fn one_leaves_its_queue_to_another() -> Result<()> {
    let setting = Setting {
        sysctls: &[("ipv4.tcp_migrate_req", "1")],
        ..Setting::default()
    };
    led(setting, |life| {
        let mut members = group(2, 64)?;
        let clients = fill(&members, 2)?;
        show(life, &members, &[0, 0], Figures::open)?;
        let second = members.pop().context("two")?;
        let first = members.pop().context("two")?;
        let inode = fstat(&first)?.st_ino;
        drop(first);
        life.shows_no(inode)?;
        let accepted = drain(&second)?;
        if !ability::moves_connections()? {
            assert!(accepted.len() < clients.len(), "the kernel moves none");
            life.may_leave_gap("left-to-another");
            return Ok(());
        }
        assert_eq!(accepted.len(), clients.len(), "the kernel moves them");
        let open = Figures::open(clients.len() as u64);
        if life.tells_members || !life.is_counted() {
            life.shows(&second, open)?;
        }
        if life.hook == Hook::Syscall {
            life.leaves_gap("left-to-another");
        }
        drop((clients, accepted));
        Ok(())
    })
}
