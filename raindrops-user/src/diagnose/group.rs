//! Verdicts on listeners that share an address by SO_REUSEPORT.

use std::time::Duration;

use super::{
    Severity,
    finding::{Code, Finding, evidence},
    scene::{PATIENCE, Scene},
    words::{self, place, subject},
};
use crate::view::{Group, Listener, View};

/// The kernel gives each connection to one member for good: when nobody accepts from that one, the
/// others cannot help.
pub(super) fn starved_members(scene: &Scene<'_>) -> impl Iterator<Item = Finding> {
    let view = scene.view;
    view.groups.iter().flat_map(move |group| {
        let members = members(view, group);
        let idle = members
            .iter()
            .filter(|member| member.queue.queued == Some(0))
            .count();
        members
            .into_iter()
            .filter(move |_| idle > 0)
            .filter_map(move |member| starved(scene, group, member, idle))
    })
}

fn members<'a>(view: &'a View, group: &Group) -> Vec<&'a Listener> {
    view.listeners
        .iter()
        .filter(|listener| listener.group.as_ref() == Some(&group.id))
        .collect()
}

/// Whether one of the processes that serve a listener has accepted anything meanwhile.
fn has_accepted_within(view: &View, member: &Listener, time: Duration) -> bool {
    let serving = member.workers.as_deref().unwrap_or_default();
    view.workers
        .iter()
        .filter(|worker| serving.contains(&worker.pid))
        .filter_map(|worker| worker.last_accept_age_us)
        .any(|age| Duration::from_micros(age) < time)
}

fn starved(scene: &Scene<'_>, group: &Group, member: &Listener, idle: usize) -> Option<Finding> {
    let view = scene.view;
    let queue = scene.queue(member)?;
    if queue.lasted < PATIENCE || has_accepted_within(view, member, queue.lasted) {
        return None;
    }
    // Where only one process accepts from it, that is the one to look at.
    let pid = match member.workers.as_deref() {
        Some([pid]) => Some(*pid),
        _ => None,
    };
    let owner = pid.map_or(String::new(), |pid| format!(" of process {pid}"));
    let mut subject = subject(member);
    subject.pid = pid;
    Some(Finding {
        code: Code::MemberStarved,
        amount: queue.count,
        severity: Severity::Warning,
        subject,
        since: Some(queue.since),
        text: format!(
            "{}: {} on the socket{owner} ({}), for {} s in every sample, while {} of its {} \
             sockets have none waiting",
            place(view, member),
            words::wait(queue.count, "connection"),
            member.id,
            queue.lasted.as_secs(),
            idle,
            group.members.len(),
        ),
        evidence: evidence([
            ("queued", Some(queue.count)),
            ("waiting_s", Some(queue.lasted.as_secs())),
            ("idle_members", Some(idle as u64)),
        ]),
        next: match pid {
            Some(pid) => format!("see what process {pid} does: no other process can accept these"),
            None => {
                "see who accepts from this socket: the other sockets' processes cannot".to_owned()
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Scene, starved_members};
    use crate::view::{Group, View};

    /// Both listeners of :80 made members of one group.
    fn view() -> View {
        let mut view: View =
            serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap();
        view.listeners.truncate(2);
        let queue = view.listeners[1].queue.clone();
        for (member, pid) in view.listeners.iter_mut().zip([10, 11]) {
            member.group = Some("1:0.0.0.0:80".to_owned());
            member.workers = Some(vec![pid]);
            member.queue = queue.clone();
            member.queue.queued = Some(0);
        }
        view.groups = vec![Group {
            id: "1:0.0.0.0:80".to_owned(),
            address: "0.0.0.0:80".to_owned(),
            members: view.listeners.iter().map(|it| it.id.clone()).collect(),
            queue,
            connections: None,
            turns: None,
        }];
        view
    }

    fn verdicts(view: &View) -> Vec<(Option<u32>, String)> {
        starved_members(&Scene::new(view))
            .map(|finding| (finding.subject.pid, finding.text))
            .collect()
    }

    #[test]
    fn a_member_that_nobody_serves_is_named_while_another_is_idle() {
        let mut view = view();
        assert_eq!(verdicts(&view), []);

        let taken_at = view.taken_at;
        let starved = &mut view.listeners[1];
        starved.queue.queued = Some(5);
        starved.queue.waiting_since = Some(taken_at - Duration::from_secs(7));
        let text = "0.0.0.0:80: 5 connections wait on the socket of process 11 (4026531833:21), \
                    for 7 s in every sample, while 1 of its 2 sockets have none waiting";
        assert_eq!(verdicts(&view), [(Some(11), text.to_owned())]);

        // Its process accepts: the queue is not empty because it is busy.
        let mut worker = view.workers[0].clone();
        worker.pid = 11;
        worker.last_accept_age_us = Some(60_000);
        view.workers.push(worker);
        assert_eq!(verdicts(&view), []);
        view.workers.pop();

        // All are busy: that is no matter of the group.
        view.listeners[0].queue.queued = Some(1);
        assert_eq!(verdicts(&view), []);
    }

    #[test]
    fn connections_that_have_just_come_are_not_starved() {
        let mut view = view();
        let taken_at = view.taken_at;
        view.listeners[1].queue.queued = Some(5);
        view.listeners[1].queue.waiting_since = Some(taken_at - Duration::from_millis(900));
        assert_eq!(verdicts(&view), []);
    }
}
