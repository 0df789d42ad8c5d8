//! What this kernel lets raindrops do: which programs load, and what they can know here.
//! docs/kernels.md is made of what these tests state.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_tests::{
    ability,
    daemon::{self, Daemon, Place, User},
    listening,
    lookup::{connections, listener, listeners},
    netns,
    skip::{Need, can_run},
    wait,
};
use raindrops_user::view::{Source, SourceState};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, listen, socket_with,
    sockopt::set_socket_reuseport,
};

const CONNECTIONS: u64 = 20;

fn detail<'a>(source: &'a Source, name: &str) -> Result<&'a str> {
    let detail = source.detail.get(name);
    let detail = detail.with_context(|| format!("no {name} in {:?}", source.detail))?;
    Ok(detail)
}

/// What the kernel says of the programs, links and maps that the daemon holds, one text each.
fn descriptors(daemon: &Daemon) -> Result<Vec<String>> {
    let directory = format!("/proc/{}/fdinfo", daemon.pid());
    let entries = fs::read_dir(&directory).with_context(|| format!("reading {directory}"))?;
    // Descriptors come and go.
    let texts = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts.collect())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn doctor(daemon: &Daemon) -> Result<String> {
    let socket = daemon.socket().to_string_lossy();
    let output = daemon::raindrops(["doctor", "--socket", &socket])?;
    String::from_utf8(output.stdout).context("doctor prints UTF-8")
}

/// Check that the programs load with the hook that was asked for, that connections are told their
/// listeners in the way that this kernel has, and that doctor says what a hook costs.
#[test]
fn programs_load() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        let view = daemon.view()?;
        daemon::expect_bpf(&view)?;
        let bpf = daemon::source(&view, "bpf")?;
        let accept = detail(bpf, "accept")?;
        let refused = bpf.detail.get("refused");
        match env::var(daemon::ACCEPT_HOOK).ok().as_deref() {
            // Some hosts permit no such programs; the kernel could.
            None => assert_eq!(accept == "fexit", refused.is_none(), "{bpf:?}"),
            Some("auto") => assert_eq!((accept, refused), ("fexit", None)),
            Some(hook) => assert_eq!((accept, refused), (hook, None)),
        }
        let by = if ability::has_sk_data_ready()? {
            "sk_data_ready"
        } else {
            "address"
        };
        assert_eq!(detail(bpf, "listener")?, by);
        let lifecycle = lifecycle(&daemon)?;
        assert_eq!(lifecycle, ability::lifecycle()?);
        let doctor = doctor(&daemon)?;
        let says_cost = doctor.contains("every system call of this host");
        let hooks_calls = accept == "syscall" || detail(bpf, "turns")?.ends_with("+syscalls");
        assert_eq!(says_cost, hooks_calls, "doctor:\n{doctor}");

        ability::state("lifecycle: `inet_sock_set_state`", &lifecycle)?;
        ability::state("accept hook that serves", accept)?;
        ability::state("a connection's listener by", by)
    })
}

/// How the daemon is attached to the tracepoint of state changes, by the kernel's own account.
fn lifecycle(daemon: &Daemon) -> Result<String> {
    let all = descriptors(daemon)?;
    let raw = all
        .iter()
        .filter(|text| field(text, "link_type") == Some("raw_tracepoint"))
        .filter(|text| field(text, "tp_name") == Some("inet_sock_set_state"))
        .count();
    let view = daemon.view()?;
    let way = detail(daemon::source(&view, "bpf")?, "lifecycle")?;
    Ok(match (raw, way) {
        (1, "raw_tp") => "raw tracepoint".to_owned(),
        (2, "raw_tp") => "raw tracepoint, twice".to_owned(),
        (1, "raw_tp+tracepoint") => "raw tracepoint, then tracepoint".to_owned(),
        other => format!("{other:?}"),
    })
}

/// Check that without an accept hook BPF is off, with the reason, and that queues are still shown.
#[test]
fn no_accept_hook() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(16)?;
        let address = listening.local_addr()?;
        let _queued = listening::begin_connections(address, 3)?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &["--accept-hook", "none"])?;
        let address = address.to_string();
        let view = daemon.until("the queue", |view| {
            listener(view, &address).is_ok_and(|row| row.queue.queued == Some(3))
        })?;
        let bpf = daemon::source(&view, "bpf")?;
        assert_eq!(bpf.state, SourceState::Off);
        let reason = bpf.reason.as_deref().context("off without a reason")?;
        assert!(reason.contains("--accept-hook none"), "{reason}");
        assert!(listener(&view, &address)?.connections.is_none());
        let doctor = doctor(&daemon)?;
        assert!(doctor.contains(reason), "doctor:\n{doctor}");
        Ok(())
    })
}

/// Check that hash maps get their memory at once where programs may not allocate, and only there.
#[test]
fn memory_of_hash_maps() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    const HASH: &str = "1";
    const NO_PREALLOC: u32 = 1;

    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let all = descriptors(&daemon)?;
        let hashes = all
            .iter()
            .filter(|text| field(text, "map_type") == Some(HASH));
        let as_needed = hashes
            .map(|text| {
                let flags = field(text, "map_flags").context("a map without flags")?;
                let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16)?;
                Ok(flags & NO_PREALLOC != 0)
            })
            .collect::<Result<Vec<bool>>>()?;
        assert!(!as_needed.is_empty(), "the daemon holds its maps");
        let expected = ability::allocates_in_programs()?;
        let some = as_needed.contains(&true);
        assert_eq!(some, expected, "{as_needed:?}");
        let value = if some { "as needed" } else { "at once" };
        ability::state("memory of hash maps", value)
    })
}

/// Check that the programs put two events of one connection in order where the kernel has the
/// instructions for it, and only there.
#[test]
fn order_of_events() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf, Need::Program("bpftool")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let all = descriptors(&daemon)?;
        let mut names = all
            .iter()
            .filter_map(|text| field(text, "prog_id"))
            .map(program_name)
            .collect::<Result<Vec<String>>>()?;
        names.sort_unstable();
        let plain = names.iter().any(|name| name.starts_with("socket_state_pl"));
        assert_eq!(plain, !ability::has_fetching_atomics()?, "{names:?}");
        let value = if plain {
            "not for two within nanoseconds on two processors"
        } else {
            "always"
        };
        ability::state("events of one connection are put in order", value)
    })
}

/// The name of a program, which the kernel cuts off.
fn program_name(id: &str) -> Result<String> {
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show", "id", id])
        .output();
    let output = output.context("running bpftool")?;
    let program: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("decoding what bpftool prints of program {id}"))?;
    let name = program["name"].as_str();
    Ok(name.context("a program without a name")?.to_owned())
}

/// A listener that shares its address with others.
fn member(port: u16) -> Result<TcpListener> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).context("bind")?;
    listen(&socket, 128).context("listen")?;
    Ok(socket.into())
}

fn inode(socket: impl AsFd) -> Result<u64> {
    Ok(rustix::fs::fstat(socket).context("fstat")?.st_ino)
}

/// Check that accepts of each member of a SO_REUSEPORT group equal what the application took from
/// it; where this kernel cannot tell members apart, that their sum does and both are marked.
#[test]
fn members_of_a_group() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let first = member(0)?;
        let address = first.local_addr()?;
        let members = [first, member(address.port())?];
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let mut taken = [0; 2];
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = TcpStream::connect(address)?;
            let server = wait::until("a member to get the connection", || {
                let mut accepts = members.iter().zip(&mut taken);
                Ok(accepts.find_map(|(member, count)| {
                    let (server, _) = member.accept().ok()?;
                    *count += 1;
                    Some(server)
                }))
            })?;
            held.push((client, server));
        }
        assert!(taken.iter().all(|count| *count > 0), "{taken:?}");

        let address = address.to_string();
        let view = daemon.until("all accepts", |view| {
            let rows = listeners(view, &address).into_iter();
            let accepts = rows.filter_map(|row| row.connections.as_ref()?.accepts);
            accepts.sum::<u64>() == CONNECTIONS
        })?;
        let bpf = daemon::source(&view, "bpf")?;
        let told = ability::tells_members(detail(bpf, "accept")?)?;
        for (member, count) in members.iter().zip(taken) {
            let inode = inode(member)?;
            let rows = listeners(&view, &address);
            let row = rows.iter().find(|row| row.inode == inode);
            let groups = connections(row.context("no row of a member")?)?;
            assert_eq!(groups.complete, told, "{groups:?}");
            ensure!(
                !told || groups.accepts == Some(count),
                "{count} taken: {groups:?}"
            );
        }
        drop(held);
        let value = if told {
            "yes"
        } else {
            "only their sum, marked incomplete"
        };
        ability::state("members of a SO_REUSEPORT group told apart", value)
    })
}

/// Check that waits of unix connections are known where this kernel tells when they began, and
/// counted as unknown elsewhere.
#[test]
fn waits_of_unix_connections() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let path = place.path().join("app.sock");
        let listening = UnixListener::bind(&path)?;
        let daemon = place.start(User::Same, &[])?;
        daemon::expect_bpf(&daemon.view()?)?;
        let address = path.display().to_string();
        daemon.until("the row", |view| listener(view, &address).is_ok())?;
        let held = (0..CONNECTIONS)
            .map(|_| Ok((UnixStream::connect(&path)?, listening.accept()?)))
            .collect::<Result<Vec<_>>>()?;
        let view = daemon.until("all accepts", |view| {
            let row = listener(view, &address).ok();
            let groups = row.and_then(|row| row.connections.as_ref());
            groups.is_some_and(|groups| groups.accepts == Some(CONNECTIONS))
        })?;
        drop(held);
        let groups = connections(listener(&view, &address)?)?;
        let known = groups.wait.as_ref().map_or(0, |wait| wait.count);
        let is_known = ability::has_sk_data_ready()?;
        let expected = if is_known {
            (CONNECTIONS, Some(0))
        } else {
            (0, Some(CONNECTIONS))
        };
        assert_eq!((known, groups.wait_unknown), expected, "{groups:?}");
        let value = if is_known { "yes" } else { "no" };
        ability::state("wait of unix connections", value)
    })
}
