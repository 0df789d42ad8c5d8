use std::path::Path;

use super::{Style, view};
use crate::{
    fact::Fact,
    view::{
        Class, Stalled, View, WriteEnd,
        puma::{Puma, PumaSource, PumaWorker},
    },
};

fn example() -> View {
    serde_json::from_str(include_str!("../../../tests/data/view.json")).unwrap()
}

fn text(it: &View, style: Style) -> String {
    let mut out = Vec::new();
    view(it, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Compares with a file; `UPDATE_GOLDEN=1` writes it instead.
fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(actual == expected, "{name}:\n{actual}");
}

#[test]
fn whole_screens() {
    let plain = |width| Style {
        color: false,
        width,
    };
    check("show-pipe.txt", &text(&example(), plain(None)));
    check("show-80.txt", &text(&example(), plain(Some(80))));
    check("show-120.txt", &text(&example(), plain(Some(120))));
    check("show-200.txt", &text(&example(), plain(Some(200))));
    check("show-light-80.txt", &text(&light(), plain(Some(80))));
    check("show-light-200.txt", &text(&light(), plain(Some(200))));
    let color = Style {
        color: true,
        width: Some(80),
    };
    check("show-80-color.txt", &text(&example(), color));
}

/// The same host followed with `--turns light`, with a stopped worker, and with puma's own figures.
fn light() -> View {
    let mut it = example();
    it.sources[0]
        .detail
        .insert("turns".to_owned(), "raw_tp".to_owned());
    for turns in it.listeners.iter_mut().filter_map(|it| it.turns.as_mut()) {
        turns.write_end = WriteEnd::NextRead;
        turns.calling = turns.calling.zip(turns.reading).map(|(a, b)| a + b);
        turns.reading = None;
        turns.writing = turns.writing.zip(turns.idle).map(|(a, b)| a + b);
        turns.idle = None;
    }
    let nginx = it.listeners[1].turns.as_mut().unwrap();
    (nginx.blocked, nginx.oldest_us) = (Some(2), Some(312_000_000));
    let puma = it.listeners[4].turns.as_mut().unwrap();
    (puma.waiting, puma.calling) = (None, None);
    for worker in &mut it.workers {
        worker.threads_busy = None;
        if worker.class == Some(Class::Loop) {
            worker.class = Some(Class::Direct);
        }
        let turns = worker.turns.as_mut().unwrap();
        turns.calling = turns.calling.zip(turns.reading).map(|(a, b)| a + b);
        turns.reading = None;
        turns.writing = turns.writing.zip(turns.idle).map(|(a, b)| a + b);
        turns.idle = None;
    }
    let nginx = it.workers[2].turns.as_mut().unwrap();
    (nginx.blocked, nginx.oldest_us) = (Some(2), Some(312_000_000));
    let puma = &mut it.workers[4];
    (puma.class, puma.threads_seen) = (Some(Class::Learning), Some(0));
    let turns = puma.turns.as_mut().unwrap();
    (turns.waiting, turns.calling) = (None, None);
    it.workers[1].state = "T".to_owned();
    it.workers[1].stalled = Some(Stalled {
        thread: 14391,
        thread_name: "ruby".to_owned(),
        state: "T".to_owned(),
        for_ms: 47_900,
        syscall: Some("read".to_owned()),
        wchan: Some("do_signal_stop".to_owned()),
    });
    (it.servers[2].skew, it.servers[2].skew_accepts) = (Some(1.0), Some(125));
    let said = |backlog, capacity| {
        format!(
            r#"{{"pid":1,"index":{capacity},"backlog":{backlog},"running":5,"busy_threads":5,
                 "pool_capacity":{capacity},"max_threads":5}}"#
        )
    };
    let workers: Vec<PumaWorker> = [said(2, 0), said(0, 1)]
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    it.servers[1].puma = Fact::Is(Puma {
        source: PumaSource::Control,
        age_ms: Some(740),
        started_at: None,
        phase: Some(3),
        booted_workers: Some(2),
        old_workers: Some(1),
        workers,
    });
    it
}

/// Check that a worker in which requests wait is told, without the room that only puma knows.
#[test]
fn an_estimate_has_no_capacity() {
    let mut it = example();
    let Fact::Is(puma) = &mut it.servers[1].puma else {
        panic!("no figures");
    };
    puma.workers[0].backlog = Some(3);
    let text = text(&it, Style::default());
    let line = "puma (estimate): backlog 3, running 4, busy 2; worker 0: backlog 3\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn verdicts_leave_room_for_the_table() {
    let mut it = example();
    it.gaps.clear();
    for port in 0..7 {
        let mut other = it.listeners[0].clone();
        other.id = format!("4026531833:9{port}");
        other.address = format!("127.0.0.1:900{port}");
        it.listeners.push(other);
    }
    let text = text(&it, Style::default());
    let head: Vec<&str> = text
        .lines()
        .skip(1)
        .take_while(|it| !it.is_empty())
        .collect();
    assert_eq!(head.len(), 6);
    assert!(head[..5].iter().all(|it| it.starts_with("critical: ")));
    assert_eq!(head[5], "and 3 other verdicts: see raindrops doctor");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [80, 81, 90, 99, 100, 132] {
        let style = Style {
            color: false,
            width: Some(width),
        };
        let texts = [example(), light()].map(|it| text(&it, style));
        for line in texts.iter().flat_map(|it| it.lines()) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

/// Check that what is of another namespace says so, and fits.
#[test]
fn other_namespaces_are_named() {
    let mut it = example();
    let own = it.listeners[0].netns.inode.to_string();
    it.sources.push(crate::view::Source {
        name: "netns".to_owned(),
        state: crate::view::SourceState::On,
        detail: [("own".to_owned(), own)].into(),
        reason: None,
        grant: None,
        age_ms: None,
    });
    let style = Style {
        color: false,
        width: Some(80),
    };
    assert!(!text(&it, style).contains("NETNS"));
    it.listeners[0].netns.inode = 4_026_532_345;
    it.listeners[1].netns.inode = 4_026_532_346;
    it.listeners[1].netns.name = Fact::Is("blue-green".to_owned());
    let text = text(&it, style);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let row = |address: &str| text.lines().find(|line| line.starts_with(address)).unwrap();
    assert!(row("127.").contains(" 4026532345 "), "{text}");
    assert!(row("0.0.0.0:80 ").contains(" blue-green "), "{text}");
    assert!(row("@control").contains(" own "), "{text}");
    let verdict = "127.0.0.1:18080 in network namespace 4026532345 dropped";
    assert!(text.contains(verdict), "{text}");
}

#[test]
fn a_host_without_listeners_says_so() {
    let mut view = example();
    view.listeners.clear();
    view.slabs.clear();
    view.gaps.clear();
    view.sources.retain(|source| source.name == "sock_diag");
    let text = text(&view, Style::default());
    assert_eq!(
        text,
        "web3, Linux 6.18.44, 2 CPUs, at 2026-11-22 01:02:03Z; totals since \
         2026-11-22 00:00:00Z\n\nNo listening socket can be seen on this host.\n"
    );
}

#[test]
fn that_turns_are_not_followed_is_missing() {
    let mut view = example();
    let detail = &mut view.sources[0].detail;
    let off = "off: switched off by --turns off; to turn them on: start without --turns off";
    detail.insert("turns".to_owned(), off.to_owned());
    for listener in &mut view.listeners {
        listener.turns = None;
    }
    for worker in &mut view.workers {
        worker.turns = None;
    }
    let text = text(&view, Style::default());
    assert!(text.contains(&format!("\n- turns: {off}\n")), "{text}");
    assert!(!text.contains("CALLING"), "{text}");
}

#[test]
fn a_single_reading_has_no_window_and_no_totals() {
    let mut view = example();
    view.since = view.taken_at;
    for listener in &mut view.listeners {
        listener.recent.over_ms = 0;
    }
    let text = text(&view, Style::default());
    assert!(!text.contains("totals since"), "{text}");
    let quantiles =
        "WAIT in the queue and ANSWER from the first read to the first write, p50/p99; ~";
    assert!(text.contains(quantiles), "{text}");
}

#[test]
fn a_server_of_no_known_kind_shows_its_command() {
    let mut view = example();
    let id = format!("other:{}", view.workers[0].pid);
    let server = Fact::Is(id.clone());
    (view.workers[0].server, view.listeners[0].server) = (server.clone(), server);
    view.workers[0].comm = "python3".to_owned();
    let text = text(&view, Style::default());
    let shown = id.replace("other", "python3");
    assert_eq!(text.matches(&shown).count(), 2, "{text}");
    assert!(!text.contains(&id), "{text}");
}

#[test]
fn a_port_is_never_cut() {
    let mut view = example();
    for listener in &mut view.listeners[1..3] {
        listener.address = "127.100.200.30:58807".to_owned();
    }
    let width = Some(80);
    let text = text(
        &view,
        Style {
            color: false,
            width,
        },
    );
    for member in [":58807 #1", ":58807 #2"] {
        assert!(text.contains(member), "{text}");
    }
}

#[test]
fn what_is_not_known_is_a_dash() {
    let mut view = example();
    view.listeners.truncate(1);
    let listener = &mut view.listeners[0];
    listener.queue.queued = None;
    listener.queue.limit = None;
    listener.queue.peak = None;
    listener.queue.overflows = None;
    listener.connections = None;
    listener.turns = None;
    listener.workers = None;
    listener.server = Fact::Unknown;
    listener.recent.wait = None;
    listener.recent.accepts_per_s = None;
    listener.recent.overflows = None;
    let text = text(&view, Style::default());
    let row = text.lines().find(|line| line.starts_with("127.")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().skip(1).collect();
    assert_eq!(cells, ["-", "-/-", "-", "-", "-", "-", "-", "-", "-"]);
}

/// Check that turns of which too little is known are neither none nor left out.
#[test]
fn what_is_not_known_of_turns_is_a_dash() {
    let mut view = example();
    view.listeners.truncate(1);
    let turns = view.listeners[0].turns.as_mut().unwrap();
    (turns.waiting, turns.reading, turns.calling) = (None, None, None);
    (turns.writing, turns.blocked, turns.oldest_us) = (None, None, None);
    (turns.answer.count, view.listeners[0].recent.answer) = (0, None);
    for worker in &mut view.workers {
        (worker.class, worker.threads_seen, worker.clients) = (None, None, None);
        worker.turns = None;
    }
    view.workers[0].turns = example().workers[0].turns.take();
    let text = text(&view, Style::default());
    let row = text.lines().find(|line| line.starts_with("127.")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().skip(7).take(5).collect();
    assert_eq!(cells, ["-", "-", "-", "-", "-"], "{text}");
    let row = text.lines().find(|line| line.starts_with("14391")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().skip(4).take(7).collect();
    assert_eq!(cells, ["-", "-", "-", "-", "-", "-", "-"], "{text}");
}

#[test]
fn namespaces_show_where_there_are_several() {
    let mut view = example();
    view.listeners[0].netns.inode = 4_026_532_000;
    view.listeners[0].netns.name = Fact::Is("blue".to_owned());
    let text = text(&view, Style::default());
    assert!(text.contains("NETNS"), "{text}");
    let row = text.lines().find(|line| line.starts_with("127.")).unwrap();
    assert!(row.contains(" blue "), "{row}");
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let mut view = example();
    view.servers[2].title = "unicorn\u{1b}[2J\nx".to_owned();
    view.listeners[0].address = "/x\u{1b}]0;y\u{7}".to_owned();
    view.gaps[0].text = "\u{202e}".to_owned();
    let text = text(&view, Style::default());
    assert!(
        text.chars().all(|it| it == '\n' || !it.is_control()),
        "{text:?}"
    );
    assert!(!text.contains('\u{202e}'));
}
