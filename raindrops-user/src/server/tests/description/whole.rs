//! A view, and a list of connections, in which each field is somewhere.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    fact::Fact,
    snapshot::connections::Phase,
    view::{
        Exits, Place, Skew, Stalled, View,
        connections::{Connection, ListenerName, Listing, Note, SCHEMA, State, Tcp},
        slabs::Number,
    },
};

/// The view of the other tests, and what it lacks.
pub fn view() -> View {
    let mut view = serde_json::to_value(super::super::view()).unwrap();
    let server = &mut view["servers"][1];
    server["started_at"] = "2026-11-21T23:00:00.000Z".into();
    server["puma"] = json!({
        "source": "control",
        "age_ms": 300,
        "started_at": "2026-11-21T23:00:01.000Z",
        "phase": 1,
        "booted_workers": 1,
        "old_workers": 0,
        "workers": [{
            "pid": 910,
            "index": 0,
            "phase": 1,
            "booted": true,
            "started_at": "2026-11-21T23:00:02.000Z",
            "last_checkin": "2026-11-22T01:02:00Z",
            "backlog": 0,
            "running": 5,
            "busy_threads": 2,
            "pool_capacity": 3,
            "max_threads": 5,
            "requests_count": 310,
        }],
    });
    let mut view: View = serde_json::from_value(view).unwrap();
    let at = view.taken_at;
    let gap = &mut view.gaps[0];
    (gap.first_at, gap.last_at, gap.compared_at) = (Some(at), Some(at), Some(at));

    let listener = &mut view.listeners[0];
    listener.netns.name = Fact::Is("shop".to_owned());
    listener.queue.peak_exact = Some(true);
    listener.queue.full_since = Some(at);
    listener.queue.waiting_since = Some(at);
    listener.queue.age_ms = Some(900);
    listener.turns.as_mut().unwrap().waiting_since = Some(at);
    listener.skew = Some(Skew {
        ratio: 0.25,
        accepts: 125,
        workers: 2,
        over_ms: 10_000,
        pid: 14390,
    });
    listener.recent.closes_per_s = Some(12.4);
    listener.recent.half_closed_least = Some(0);
    listener.recent.wait.as_mut().unwrap().max_us = Some(2_000_000);

    let worker = &mut view.workers[0];
    worker.command_line = Some("unicorn worker[0] -c unicorn.rb".to_owned());
    worker.uid = Some(1000);
    // A verdict on a process.
    worker.fds = worker.fd_limit;
    worker.container = Fact::Is("4f1d2c9be00a".to_owned());
    worker.slab = Some(BTreeMap::from([("calling".to_owned(), Number::Level(-1))]));
    worker.stalled = Some(Stalled {
        thread: 14390,
        thread_name: "ruby".to_owned(),
        state: "D".to_owned(),
        for_ms: 3000,
        syscall: Some("read".to_owned()),
        wchan: Some("nfs_wait_bit_killable".to_owned()),
    });
    worker.oldest_place = Some(Place {
        state: "S".to_owned(),
        syscall: Some("futex".to_owned()),
        wchan: Some("futex_wait_queue".to_owned()),
    });
    let turns = worker.turns.as_mut().unwrap();
    turns.waiting_since = Some(at);
    turns.last_answer_age_us = Some(5300);
    turns.oldest_calling_us = Some(5200);
    turns.oldest_calling_thread = Some(14390);

    let server = &mut view.servers[1];
    server.skew = Some(0.02);
    server.skew_accepts = Some(500);
    server.exits = Some(Exits {
        count: 2,
        over_ms: 60_000,
        median_life_ms: 1500,
    });
    view
}

pub fn listing() -> Listing {
    Listing {
        schema: SCHEMA.to_owned(),
        taken_at: super::super::view().taken_at,
        truncated: true,
        scanned: 2,
        scan_complete: true,
        matched: 2,
        listeners: vec![ListenerName {
            id: "4026531833:17".to_owned(),
            address: "127.0.0.1:18080".to_owned(),
        }],
        connections: vec![Connection {
            listener: Some("4026531833:17".to_owned()),
            address: Some("127.0.0.1:18080".to_owned()),
            peer: Some("127.0.0.1:40000".to_owned()),
            worker: Some(14390),
            cookie: Some("18446744073709551615".to_owned()),
            inode: Some(31337),
            age_us: Some(5300),
            accepted_age_us: Some(5250),
            state: Some(State::Established),
            phase: Some(Phase::Writing),
            blocked: Some(true),
            phase_age_us: Some(5200),
            turns: Some(1),
            bytes_in: Some(370),
            bytes_out: Some(5000),
            reader_thread: Some(14390),
            writer_thread: Some(14390),
            tcp: Some(Tcp {
                rtt_us: Some(40),
                rttvar_us: Some(20),
                retransmits: Some(0),
                total_retransmits: Some(1),
                unacked: Some(2),
                bytes_received: Some(370),
                bytes_acked: Some(4000),
                last_data_received_ms: Some(5),
                last_data_sent_ms: Some(4),
                snd_cwnd: Some(10),
                notsent_bytes: Some(0),
                unread_bytes: 0,
                unacked_bytes: 1000,
            }),
        }],
        notes: vec![Note {
            what: "scan".to_owned(),
            text: "some may be missing".to_owned(),
            hint: Some("ask again".to_owned()),
        }],
    }
}
