use super::text;
use crate::{render::text::Style, view::connections::Listing};

/// Three connections of one listener: an upload, a download that is not taken, one whose client has
/// left.
fn listing() -> Listing {
    serde_json::from_value(serde_json::json!({
        "schema": "raindrops.connections/1",
        "taken_at": "2026-11-22T01:02:03.456Z",
        "truncated": false, "scanned": 3, "scan_complete": true, "matched": 3,
        "listeners": [{"id": "4026531833:17", "address": "127.0.0.1:18080"}],
        "connections": [
            {"listener": "4026531833:17", "address": "127.0.0.1:18080",
             "peer": "192.168.100.200:40001", "worker": 14390, "cookie": "5", "inode": 9001,
             "age_us": 125_000_000, "accepted_age_us": 124_000_000, "state": "established",
             "phase": "reading", "blocked": false, "phase_age_us": 61_500_000, "turns": 2,
             "bytes_in": 1_200_345, "bytes_out": 800,
             "tcp": {"rtt_us": 51_000, "rttvar_us": 900, "retransmits": 0, "total_retransmits": 2,
                     "unacked": 0, "bytes_received": 1_234_567, "bytes_acked": 800,
                     "last_data_received_ms": 12, "last_data_sent_ms": 61_000, "snd_cwnd": 10,
                     "notsent_bytes": 0, "unread_bytes": 34_222, "unacked_bytes": 0}},
            {"listener": "4026531833:17", "address": "127.0.0.1:18080",
             "peer": "[2001:db8:1234:5678:9abc:def0:1234:5678]:40002", "worker": 14391,
             "age_us": 5_000_000, "state": "established", "phase": "writing", "blocked": true,
             "phase_age_us": 4_000_000, "turns": 1, "bytes_in": 90, "bytes_out": 3_910_656,
             "tcp": {"rtt_us": 900, "retransmits": 3, "total_retransmits": 14,
                     "bytes_received": 90, "bytes_acked": 128_512, "last_data_received_ms": 4_000,
                     "unread_bytes": 0, "unacked_bytes": 3_782_144}},
            {"peer": "127.0.0.1:40003", "state": "close_wait"},
        ],
        "notes": [{"what": "turns", "text": "an \u{1b}[31mexample", "hint": "none"}],
    }))
    .unwrap()
}

fn rendered(listing: &Listing, width: Option<usize>) -> String {
    let style = Style {
        color: false,
        width,
    };
    let mut out = Vec::new();
    text(listing, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_pipe_gets_all_of_it() {
    let expected = "\
3 accepted connections of 127.0.0.1:18080, at 2026-11-22 01:02:03Z
turns: an \\x1b[31mexample (none)

PEER                                            WORKER  PHASE          FOR    AGE    IN   OUT  LAST IN    RTT  RETR  TURNS  READ  WRITTEN  UNREAD  UNACKED
192.168.100.200:40001                            14390  reading      1m02s  2m05s  1.2M   800     12ms   51ms   0/2      2  1.2M      800     34k        0
[2001:db8:1234:5678:9abc:def0:1234:5678]:40002   14391  blocked       4.0s   5.0s    90  128k     4.0s  900us  3/14      1    90     3.9M       0     3.7M
127.0.0.1:40003                                      -  client left      -      -     -     -        -      -     -      -     -        -       -        -
FOR in that phase; AGE since established; IN, OUT bytes that arrived, that were acknowledged \
(where that is not known: read, written by the server); LAST IN since data arrived; RETR timeouts \
in a row/segments sent again; READ, WRITTEN bytes, by the server; UNREAD, UNACKED bytes in its \
socket; - not known
";
    assert_eq!(rendered(&listing(), None), expected);
}

#[test]
fn it_fits_the_terminal() {
    for width in [80, 100, 109, 110, 140, 200] {
        let text = rendered(&listing(), Some(width));
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
    let expected = "\
3 accepted connections of 127.0.0.1:18080, at 2026-11-22 01:02:03Z
turns: an \\x1b[31mexample (none)

PEER                        WORKER PHASE     FOR   AGE   IN  OUT LAST   RTT RETR
192.168.100.200:40001        14390 reading 1m02s 2m05s 1.2M  800 12ms  51ms  0/2
[2001:db..:1234:5678]:40002  14391 blocked  4.0s  5.0s   90 128k 4.0s 900us 3/14
127.0.0.1:40003                  - left        -     -    -    -    -     -    -
";
    let text = rendered(&listing(), Some(80));
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn what_is_not_shown_is_said() {
    let mut listing = listing();
    listing.connections.truncate(1);
    let heading = |listing: &Listing| rendered(listing, None).lines().next().unwrap().to_owned();
    assert!(heading(&listing).starts_with("1 of 3 accepted connections of "));
    listing.scan_complete = false;
    listing.matched = 1;
    assert!(heading(&listing).starts_with("1 of at least 1 accepted connection of "));
    listing.connections.clear();
    listing.matched = 0;
    listing.scan_complete = true;
    listing.notes.clear();
    listing.listeners.push(listing.listeners[0].clone());
    assert_eq!(
        rendered(&listing, None),
        "0 accepted connections of 2 listeners, at 2026-11-22 01:02:03Z\n"
    );
}
