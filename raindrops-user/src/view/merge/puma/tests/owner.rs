//! Whose an answer is, and which process it names.

use super::{
    super::owner::{Evidence, Held},
    Address, ControlAnswer, Pid, UnixName, answer, classified, cluster, path, without_workers,
};

fn tcp(ip: [u8; 4], port: u16) -> Address {
    let ip = ip.into();
    Address::Tcp { ip, port }
}

fn tcp6(last: u8, port: u16) -> Address {
    let mut ip = [0; 16];
    ip[15] = last;
    let ip = ip.into();
    Address::Tcp { ip, port }
}

/// Address, whether it is in our network namespace, server.
type Listening<'a> = (&'a Address, bool, Option<&'a str>);

fn owner(listeners: &[Listening<'_>], address: &Address, answer: &ControlAnswer) -> Option<String> {
    let (proc, servers) = classified();
    let ids: Vec<Option<String>> = listeners
        .iter()
        .map(|(_, _, id)| id.map(str::to_owned))
        .collect();
    let held = listeners.iter().zip(&ids);
    let held = held.map(|((address, is_own, _), server)| Held {
        address,
        is_own: *is_own,
        server: server.as_ref(),
    });
    let evidence = Evidence {
        servers: Some(&servers),
        proc: Some(&proc),
        listeners: held.collect(),
    };
    let owner = evidence.owner(address, answer);
    owner.map(|server| server.id.clone())
}

fn single(peer: Option<u32>) -> ControlAnswer {
    ControlAnswer {
        peer: peer.map(Pid),
        ..answer(without_workers(1))
    }
}

#[test]
fn who_made_the_socket_owns_it() {
    let control = path("/c");
    let listeners = [(&control, true, Some("puma:30"))];
    for (peer, expected) in [
        (Some(10), Some("puma:10")),
        // A worker made it, which is strange and no reason to doubt.
        (Some(21), Some("puma:10")),
        // Neither systemd nor nginx nor an unknown process answers as puma does.
        (Some(1), Some("puma:30")),
        (Some(60), Some("puma:30")),
        (Some(4711), Some("puma:30")),
        (None, Some("puma:30")),
    ] {
        let found = owner(&listeners, &control, &single(peer));
        assert_eq!(found.as_deref(), expected, "{peer:?}");
    }
}

#[test]
fn who_listens_at_the_address_owns_it() {
    let abstract_name = Address::Unix(UnixName::Abstract(b"c".to_vec()));
    let here = tcp([127, 0, 0, 1], 9293);
    let any = tcp([0; 4], 9293);
    let [any6, here6] = [tcp6(0, 9293), tcp6(1, 9293)];
    let [other_port, other_ip] = [tcp([127, 0, 0, 1], 9294), tcp([127, 0, 0, 2], 9293)];
    let [c, d, relative] = ["/c", "/d", "c"].map(path);
    let (a, b) = (Some("puma:10"), Some("puma:30"));
    let table: [(&[Listening<'_>], &Address, Option<&str>); 22] = [
        (&[], &here, None),
        (&[(&here, true, a)], &here, a),
        (&[(&other_port, true, a)], &here, None),
        (&[(&other_ip, true, a)], &here, None),
        // In a container with the same address.
        (&[(&here, false, a)], &here, None),
        (&[(&here, false, a), (&here, true, b)], &here, b),
        // Wildcards, where there is no listener of its own.
        (&[(&any, true, a)], &here, a),
        (&[(&any6, true, a)], &here, a),
        (&[(&any6, true, a), (&any, true, b)], &here, b),
        (&[(&any, true, a), (&here, true, b)], &here, b),
        (&[(&any, true, a)], &here6, None),
        (&[(&any6, true, a)], &here6, a),
        // A forwarder has it, or nobody knows who has it.
        (
            &[(&any, true, a), (&here, true, Some("nginx:60"))],
            &here,
            None,
        ),
        (&[(&any, true, a), (&here, true, None)], &here, None),
        // SO_REUSEPORT.
        (&[(&here, true, a), (&here, true, a)], &here, a),
        (&[(&here, true, a), (&here, true, b)], &here, None),
        // A path leads into any network namespace, an abstract name does not.
        (&[(&c, false, b)], &c, b),
        (&[(&c, false, b), (&c, true, a)], &c, None),
        (&[(&d, true, b)], &c, None),
        (&[(&abstract_name, true, b)], &abstract_name, b),
        (&[(&abstract_name, false, b)], &abstract_name, None),
        (&[(&relative, true, b)], &abstract_name, None),
    ];
    for (listeners, address, expected) in table {
        let found = owner(listeners, address, &single(None));
        assert_eq!(found.as_deref(), expected, "{address} {listeners:?}");
    }
}

/// Check that where neither is known the workers tell, by the pids that puma gives them.
#[test]
fn whose_workers_are_named_owns_it() {
    for (named, expected) in [
        (&[(20, 0), (21, 1)][..], Some("puma:10")),
        (&[(21, 1)], Some("puma:10")),
        (&[(21, 1), (4711, 0)], None),
        (&[(14, 0), (15, 1)], Some("puma:30")),
        (&[(40, 0)], None),
        (&[(20, 0), (14, 1)], None),
        (&[(61, 0)], None),
        (&[], None),
    ] {
        let found = owner(&[], &path("/c"), &answer(cluster(named)));
        assert_eq!(found.as_deref(), expected, "{named:?}");
    }
}

#[test]
fn a_named_process_is_one_of_its_servers() {
    let (proc, servers) = classified();
    let evidence = Evidence {
        servers: Some(&servers),
        proc: Some(&proc),
        listeners: Vec::new(),
    };
    for (id, named, expected) in [
        ("puma:10", 20, Some(20)),
        // Too young or too old to be seen, but of our own pid namespace.
        ("puma:10", 22, Some(22)),
        ("puma:30", 14, Some(40)),
        ("puma:30", 15, Some(41)),
        ("puma:30", 1, Some(30)),
        ("puma:30", 16, None),
        ("puma:30", 40, None),
    ] {
        let server = servers.servers.iter().find(|it| it.id == id).unwrap();
        let found = evidence.process(server, Pid(named));
        assert_eq!(found, expected.map(Pid), "{id} {named}");
    }
}
