//! Listeners that share an address by SO_REUSEPORT.

use anyhow::{Context as _, Result};
use raindrops_tests::{
    daemon::{self, Daemon, Place, User},
    listening, load,
    lookup::listeners,
    netns,
    servers::nginx,
    skip::{Need, can_run},
    sockets, wait,
};
use raindrops_user::diagnose::{Diagnosis, Verdict};
use rustix::process::{Pid, Signal, kill_process};

/// So many that some are given to either worker, but for a chance of one in 2^31.
const CONNECTIONS: usize = 32;

/// Check that a worker that is stuck shows: the queue of its own member grows, the other's does
/// not, and doctor names the process. The truth are the queues that `ss` shows.
#[test]
fn member_of_a_stuck_worker() -> Result<()> {
    if !can_run(&[
        Need::Root,
        Need::Bpf,
        Need::Program("nginx"),
        Need::Program("ss"),
    ]) {
        return Ok(());
    }
    netns::in_new(|| {
        let nginx = nginx::start()?;
        let place = Place::new()?;
        let daemon = place.start(User::Same, &[])?;
        load::tcp(nginx.tcp[0], 200)?;
        daemon.until("both workers on a member of their own", |view| {
            let members = listeners(view, nginx::ADDRESS);
            let alone = |workers: Option<&Vec<u32>>| workers.is_some_and(|pids| pids.len() == 1);
            members.len() == 2 && members.iter().all(|member| alone(member.workers.as_ref()))
        })?;

        let stuck = nginx.workers()[0];
        let pid = Pid::from_raw(stuck.cast_signed()).context("pid 0")?;
        kill_process(pid, Signal::STOP)?;
        let _connections = listening::begin_connections(nginx.tcp[0], CONNECTIONS)?;
        let verdict = wait::until("a starved member", || starved(&daemon))?;
        assert_eq!(verdict.subject.pid, Some(stuck));

        let view = daemon.view()?;
        let members = listeners(&view, nginx::ADDRESS);
        for socket in sockets::listening()? {
            if let Some(member) = members.iter().find(|member| member.inode == socket.inode) {
                assert_eq!(member.queue.queued, Some(socket.queued), "{socket:?}");
            }
        }
        let mut shown: Vec<_> = members.iter().map(|member| member.queue.queued).collect();
        shown.sort_unstable();
        assert!(shown[0] == Some(0) && shown[1] > Some(0), "{shown:?}");
        assert_eq!(
            verdict.evidence.get("queued").copied(),
            shown[1].map(u64::from)
        );
        let group = &view.groups[0];
        assert_eq!((view.groups.len(), group.queue.queued), (1, shown[1]));

        kill_process(pid, Signal::CONT)?;
        wait::until("nobody starved", || {
            Ok(starved(&daemon)?.is_none().then_some(()))
        })?;
        daemon::expect_bpf(&view)
    })
}

fn starved(daemon: &Daemon) -> Result<Option<Verdict>> {
    let answer = daemon.get("/v1/diagnosis")?;
    let diagnosis: Diagnosis = serde_json::from_slice(&answer.body)?;
    let mut verdicts = diagnosis.verdicts.into_iter();
    Ok(verdicts.find(|verdict| verdict.verdict == "member-starved"))
}
