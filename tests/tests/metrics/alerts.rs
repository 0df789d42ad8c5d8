//! contrib's own rules in a real overflow.

use std::time::Duration;

use anyhow::Result;
use raindrops_tests::{
    daemon::{Place, User},
    listening, netns,
    prometheus::{Found, Prometheus},
    skip::{Need, can_run},
    wait::CEILING,
};

const BACKLOG: u32 = 8;
/// What waits for a minute does not alert within this.
const AT_ONCE: Duration = Duration::from_secs(45);
/// The alert on a full queue waits for a minute, as users have it.
const MINUTES: Duration = Duration::from_secs(240);

/// Check that the target is up, that the queue's fill and the overflow rate are recorded, that
/// dropping and full queues alert, and that what is recorded is what the kernel counted.
#[test]
fn an_overflow_is_recorded_and_alerts() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("prometheus")]) {
        return Ok(());
    }
    netns::in_new(|| {
        let listening = listening::tcp(BACKLOG.cast_signed())?;
        let address = listening.local_addr()?;
        let place = Place::new()?;
        let _daemon = place.start(User::Same, &super::LISTEN)?;
        let prometheus = Prometheus::start(&[super::daemon()])?;
        let is_up = |found: &[Found]| found.first().is_some_and(|it| it.value == 1.0);
        prometheus.until(CEILING, "up", is_up)?;
        // In OpenMetrics: only that has the type info.
        prometheus.until(CEILING, "raindrops_build_info", is_up)?;

        let _connections = listening::begin_connections(address, 60)?;
        let of_it = format!("{{address=\"{address}\"}}");
        let fill = format!("listener:raindrops_queue_fill:ratio{of_it}");
        let full = f64::from(BACKLOG + 1) / f64::from(BACKLOG);
        prometheus.until(CEILING, &fill, |found| {
            found.first().is_some_and(|it| it.value == full)
        })?;
        let rate = format!("listener:raindrops_overflows:rate5m{of_it}");
        prometheus.until(CEILING * 2, &rate, |found| {
            found.first().is_some_and(|it| it.value > 0.0)
        })?;
        for (alert, ceiling) in [
            ("RaindropsQueueDropping", AT_ONCE),
            ("RaindropsQueueFull", MINUTES),
        ] {
            let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
            let found = prometheus.until(ceiling, &firing, |found| {
                // Clients retry ever more rarely: others come.
                let _more = listening::begin_connections(address, 4);
                found.len() == 1
            })?;
            assert_eq!(found[0].labels["address"], address.to_string());
        }
        // What has been counted by now is what the kernel says, read before and after.
        let low = netns::listen_overflows()?;
        let total = format!("raindrops_listener_overflows_total{of_it}");
        let found = prometheus.until(CEILING, &total, |found| {
            found.first().is_some_and(|it| it.value >= low as f64)
        })?;
        assert!(found[0].value <= netns::listen_overflows()? as f64);
        Ok(())
    })
}
