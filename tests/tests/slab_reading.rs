//! Slabs in the daemon's view: whose they are, and what happens when they are not what they seem.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    net::TcpListener,
    os::unix::{
        fs::{FileExt as _, PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use raindrops_slab::{Field, Schema, Slab, Unit, process};
use raindrops_tests::{
    client::{self, Address},
    daemon::{Daemon, Place, User, raindrops, source},
    netns, processes,
    servers::{Server, unicorn},
    skip::{Need, can_run},
    slab::by_worker,
};
use raindrops_user::view::{
    SourceState, View, Worker,
    slabs::{self, Number},
};
use rustix::process::Signal;

fn schema() -> Schema {
    let fields = [
        Field::counter("requests", Unit::NONE),
        Field::gauge("calling", Unit::NONE),
    ];
    Schema::new("shop", 4, fields).expect("a schema")
}

/// A daemon that looks for slabs in a directory of its own, and this user's part of that.
fn daemon(place: &Place, arguments: &[&str]) -> Result<(Daemon, PathBuf)> {
    let root = place.path().join("slabs");
    let part = root.join(rustix::process::getuid().as_raw().to_string());
    fs::create_dir_all(&part)?;
    fs::set_permissions(&part, Permissions::from_mode(0o700))?;
    let config = place.path().join("raindrops.toml");
    fs::write(&config, format!("slab_directory = {root:?}\n"))?;
    let config = config.to_string_lossy();
    let mut all = vec!["--no-bpf", "--config", &*config];
    all.extend(arguments);
    Ok((place.start(User::Same, &all)?, part))
}

/// A daemon that reads the slab of a server which has counted ten requests; that slab, and where the
/// server listens.
fn counting(server: &Server, place: &Place) -> Result<(Daemon, PathBuf, Address)> {
    let path = server.slab();
    let (daemon, _) = daemon(place, &["--slab", &path.to_string_lossy()])?;
    let address = Address::Tcp(server.tcp[0]);
    for _ in 0..10 {
        client::short(&address, "/")?;
    }
    Ok((daemon, path, address))
}

fn at<'a>(view: &'a View, path: &Path) -> Option<&'a slabs::Slab> {
    let path = path.to_string_lossy();
    view.slabs.iter().find(|slab| slab.r#where == path)
}

fn total(slab: &slabs::Slab, name: &str) -> Option<i64> {
    number(slab.counters.get(name)?)
}

fn number(number: &Number) -> Option<i64> {
    match number {
        Number::Count(count) => i64::try_from(*count).ok(),
        Number::Level(level) => Some(*level),
    }
}

fn worker(view: &View, pid: u32) -> Option<&Worker> {
    view.workers.iter().find(|worker| worker.pid == pid)
}

fn of_worker(view: &View, pid: u32, name: &str) -> Option<i64> {
    number(worker(view, pid)?.slab.as_ref()?.get(name)?)
}

/// Check that the figures of a slab are those that the workers themselves have counted, each with
/// its worker, also after one of them was killed while it worked on a request.
#[test]
fn figures_are_with_their_workers() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn"), Need::SlabLibrary]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_with_slab(2)?;
        let place = Place::new()?;
        let (daemon, path, address) = counting(&server, &place)?;
        let parked = server.hold("parked")?;
        let _asking = client::asking(&address, 1, "/park/parked")?;

        let is_told = |view: &View| {
            let Some(slab) = at(view, &path) else {
                return false;
            };
            let workers = by_worker(&path).unwrap_or_default();
            let agrees = |name| {
                workers.len() == 2
                    && workers.iter().all(|it| {
                        it.count(name).ok() == of_worker(view, it.pid, name)
                            && it.count(name).is_ok()
                    })
            };
            total(slab, "calling") == Some(1)
                && agrees("requests")
                && agrees("calling")
                && slab.server.as_deref()
                    == worker(view, workers[0].pid)
                        .and_then(|it| it.server.value().map(String::as_str))
                && slab
                    .slots
                    .is_some_and(|slots| slots.claimed == 2 && slots.ownerless == 0)
        };
        let view = daemon.until("the workers' own figures", is_told)?;
        let requests = at(&view, &path).and_then(|slab| total(slab, "requests"));
        let busy = by_worker(&path)?
            .into_iter()
            .find(|it| it.count("calling").ok() == Some(1))
            .context("no worker is busy")?;
        processes::signal(busy.pid, Signal::KILL)?;
        daemon.until(
            "no request of a worker that is gone, and all that it had counted",
            |view| {
                at(view, &path).is_some_and(|slab| {
                    total(slab, "calling") == Some(0) && total(slab, "requests") == requests
                }) && worker(view, busy.pid).is_none()
            },
        )?;
        drop(parked);

        let shown = raindrops(["show", "--socket", &daemon.socket().to_string_lossy()])?;
        let text = String::from_utf8(shown.stdout)?;
        ensure!(text.contains("\nSlabs\n"), "{text}");
        let metrics = String::from_utf8(daemon.get("/metrics")?.body)?;
        let line = format!(
            "raindrops_slab_events_total{{slab=\"{}\",field=\"requests\",service=\"unicorn\"}} {}\n",
            at(&view, &path)
                .and_then(|slab| slab.name.clone())
                .unwrap_or_default(),
            requests.unwrap_or_default(),
        );
        ensure!(metrics.contains(&line), "{line}{metrics}");
        Ok(())
    })
}

/// Check that a slab in memory that has no file is found in who has it mapped. This process serves
/// a listener, as far as the daemon can see.
#[test]
fn memory_without_a_file_is_found() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let _listener = TcpListener::bind("127.0.0.1:0")?;
        let slab = Slab::in_memory(&Schema::new("unnamed", 2, schema().fields().to_vec())?)?;
        let slot = slab.claim()?;
        let requests = slot.counter("requests")?;
        requests.add(41);
        let place = Place::new()?;
        let (daemon, _) = daemon(&place, &[])?;
        let me = std::process::id();
        let found = |view: &View, count| {
            let slab = view
                .slabs
                .iter()
                .find(|it| it.name.as_deref() == Some("unnamed"));
            slab.is_some_and(|slab| {
                slab.r#where == format!("pid {me}")
                    && slab.pids.contains(&me)
                    && total(slab, "requests") == Some(count)
            }) && of_worker(view, me, "requests") == Some(count)
        };
        daemon.until("the slab of this process", |view| found(view, 41))?;
        requests.add(1);
        daemon.until("what was counted since", |view| found(view, 42))?;
        Ok(())
    })
}

/// Check that a slot counts for nobody who does not have the slab mapped, whatever pid is in it.
#[test]
fn a_slot_in_anothers_name_is_nobodys() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let _listener = TcpListener::bind("127.0.0.1:0")?;
        let place = Place::new()?;
        let (daemon, part) = daemon(&place, &[])?;
        let path = part.join("shop.slab");
        let layout = Slab::create(&path, &schema())?.layout().clone();
        let me = process::own()?;
        let file = OpenOptions::new().write(true).open(&path)?;
        let control = raindrops_slab::claim::Control::new(me.pid, 2);
        let owner = layout.owner(1) as u64;
        file.write_all_at(&control.0.to_ne_bytes(), owner)?;
        file.write_all_at(&me.started.to_ne_bytes(), owner + 8)?;
        for placed in layout.fields() {
            let at = layout.slot(1) as u64 + u64::from(placed.offset);
            file.write_all_at(&7_u64.to_ne_bytes(), at)?;
        }
        let view = daemon.until("the slab, and this worker", |view| {
            at(view, &path).is_some() && worker(view, std::process::id()).is_some()
        })?;
        let slab = at(&view, &path).context("no slab")?;
        assert_eq!(
            slab.slots.map(|slots| (slots.claimed, slots.ownerless)),
            Some((1, 1))
        );
        assert_eq!(total(slab, "calling"), Some(0));
        // What was counted is nobody's, and stays.
        assert_eq!(total(slab, "requests"), Some(7));
        assert!(slab.workers.is_empty() && slab.pids.is_empty(), "{slab:?}");
        assert_eq!(of_worker(&view, std::process::id(), "calling"), None);
        Ok(())
    })
}

/// Check that what is no slab is named as such, and that the daemon goes on.
#[test]
fn what_is_no_slab_is_a_gap() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let (mut daemon, part) = daemon(&place, &["--slab", "/dev/full"])?;
        fs::write(part.join("text"), "a".repeat(1000))?;
        File::create(part.join("sparse"))?.set_len(1 << 40)?;
        symlink("/etc/passwd", part.join("link"))?;
        fs::create_dir(part.join("directory"))?;
        ensure!(
            Command::new("mkfifo")
                .arg(part.join("fifo"))
                .status()?
                .success()
        );
        let _socket = UnixListener::bind(part.join("socket"))?;
        let truncated = part.join("truncated");
        let length = Slab::create(&truncated, &schema())?.layout().total() as u64;
        OpenOptions::new()
            .write(true)
            .open(&truncated)?
            .set_len(length / 2)?;
        let named = part.join("\x1b[31m\n");
        fs::write(&named, "")?;
        let good = part.join("good.slab");
        Slab::create(&good, &schema())?;
        let escaped = format!("{}/\\x1b[31m\\n", part.display());
        let refusals = [
            ("text", "not a slab: it does not begin as one"),
            (
                "sparse",
                "1099511627776 bytes long; at most 1048576 are read",
            ),
            ("link", "it is a symbolic link, not a file"),
            ("directory", "it is a directory, not a file"),
            ("fifo", "it is a FIFO, not a file"),
            ("socket", "it is a socket, not a file"),
            ("truncated", "truncated: "),
        ];
        let view = daemon.until("all that is refused", |view| {
            let refused = |start: &str| {
                view.gaps
                    .iter()
                    .any(|gap| gap.what == "slab-refused" && gap.text.starts_with(start))
            };
            let in_part = |(name, why): &(&str, &str)| {
                refused(&format!("slab {}/{name}: {why}", part.display()))
            };
            refusals.iter().all(in_part)
                && refused(&format!("slab {escaped}: not a slab"))
                && refused("slab /dev/full: it is a device, not a file")
        })?;
        ensure!(at(&view, &good).is_some(), "{:?}", view.slabs);
        assert_eq!(source(&view, "slab")?.state, SourceState::On);
        let output = raindrops(["show", "--socket", &daemon.socket().to_string_lossy()])?;
        ensure!(output.status.success());
        ensure!(!output.stdout.contains(&0x1b));
        ensure!(!daemon.has_ended()?);
        Ok(())
    })
}

/// Check that a file which is shortened, lengthened and written over while it is read harms nobody.
#[test]
fn a_file_that_changes_under_the_reader_is_no_harm() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let (mut daemon, part) = daemon(&place, &[])?;
        let path = part.join("shop.slab");
        let length = Slab::create(&path, &schema())?.layout().total();
        let whole = fs::read(&path)?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| -> Result<()> {
            let changing = scope.spawn(|| -> Result<()> {
                let file = OpenOptions::new().write(true).open(&path)?;
                for round in 0_usize.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    file.set_len((round * 97 % length) as u64)?;
                    file.write_all_at(&whole, 0)?;
                    file.write_all_at(&[0xff; 64], (round * 64 % (length - 64)) as u64)?;
                    file.write_all_at(&whole, 0)?;
                }
                Ok(())
            });
            let seen = (0..20).try_for_each(|_| {
                daemon.view()?;
                thread::sleep(std::time::Duration::from_millis(100));
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            changing
                .join()
                .map_err(|_| anyhow::anyhow!("it panicked"))??;
            seen
        })?;
        ensure!(!daemon.has_ended()?);
        daemon.until("the slab as it was", |view| {
            at(view, &path).is_some_and(|slab| total(slab, "requests") == Some(0))
        })?;
        Ok(())
    })
}

/// Check that a user's part that others may write to does not count, nor more files than are read.
#[test]
fn the_directory_is_bounded() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let (daemon, part) = daemon(&place, &[])?;
        for number in 0..300 {
            Slab::create(&part.join(format!("{number:03}.slab")), &schema())?;
        }
        daemon.until("as many as are read, and that there are more", |view| {
            view.slabs.len() == 256 && view.gaps.iter().any(|gap| gap.what == "slabs-not-read")
        })?;
        fs::set_permissions(&part, Permissions::from_mode(0o777))?;
        daemon.until("none, and why", |view| {
            let is_why = "others may use it (mode 777): chmod 700";
            view.slabs.is_empty() && view.gaps.iter().any(|gap| gap.text.ends_with(is_why))
        })?;
        Ok(())
    })
}

/// Check that a worker in a pid namespace of its own has its slots, although its pid there is
/// another's here.
#[test]
fn pids_of_a_container_are_told_from_the_hosts() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("unicorn"), Need::SlabLibrary]) {
        return Ok(());
    }
    netns::in_new(|| {
        let server = unicorn::start_with_slab_in_container(2)?;
        let place = Place::new()?;
        let (daemon, path, _) = counting(&server, &place)?;
        daemon.until("the workers' figures, by their pids on the host", |view| {
            let workers: Vec<u32> = server.workers();
            let counted: Option<i64> = workers
                .iter()
                .map(|pid| of_worker(view, *pid, "requests"))
                .sum();
            let are_inside = workers.iter().all(|pid| {
                worker(view, *pid).is_some_and(|it| it.ns_pid.is_some_and(|inside| inside != *pid))
            });
            let all = at(view, &path).and_then(|slab| total(slab, "requests"));
            workers.len() == 2 && are_inside && counted == all && counted >= Some(10)
        })?;
        Ok(())
    })
}
