//! Who may ask over TCP, and for what.

use anyhow::Result;
use raindrops_tests::{
    daemon::{Place, User, raindrops},
    netns,
    prometheus::get,
    skip::{Need, can_run},
};

/// Check what is answered, to whom, and that a port that is taken is told.
#[test]
fn only_metrics_and_only_for_this_host() -> Result<()> {
    if !can_run(&[Need::Root]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let daemon = place.start(User::Same, &super::LISTEN)?;
        daemon.until_logged("/metrics and /healthz on http://127.0.0.1:9911")?;
        for (path, headers, status) in [
            ("/metrics", "", 200),
            ("/healthz", "", 200),
            ("/metrics", "Host: localhost:9911\r\n", 200),
            ("/metrics", "Host: evil.example\r\n", 403),
            ("/metrics?x=1", "", 400),
            ("/", "", 404),
            ("/v1/view", "", 404),
            ("/v1/connections", "", 404),
        ] {
            let answer = get(super::daemon(), path, headers)?;
            assert_eq!(answer.status, status, "{path} {headers}");
            if status != 200 {
                assert!(answer.body.contains("\"hint\":"), "{}", answer.body);
            }
        }
        let other = place.path().join("other.sock");
        let other = other.to_str().expect("a temporary path is UTF-8");
        for (address, told) in [
            ("127.0.0.1:9911", "`ss -tlnp` shows who does"),
            ("0.0.0.0:9912", "can be reached from other hosts"),
        ] {
            let arguments = [
                "serve",
                "--socket",
                other,
                "--netns",
                "own",
                "--listen-tcp",
                address,
            ];
            let output = raindrops(arguments)?;
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.contains(told), "{error}");
        }
        Ok(())
    })
}
