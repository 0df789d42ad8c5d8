//! Which systemd unit and which container a process belongs to: a parser for `/proc/PID/cgroup`.
//!
//! Apart because the names are conventions of half a dozen managers, best kept in one table. It
//! takes bytes and opens nothing. systemd's own escapes (`\x2d`) stay as they are.

/// Owner of a process; `None` where the path names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub unit: Option<String>,
    pub container: Option<String>,
}

/// What stands before the id in a scope or slice that a container manager made.
const SCOPES: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];

/// The lines that know units come first: systemd's own hierarchy of v1, then v2, then the rest.
pub(super) fn owner(bytes: &[u8]) -> Owner {
    let mut lines: Vec<(u8, &[u8])> = bytes
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut parts = line.splitn(3, |&byte| byte == b':');
            let rank = match (parts.next()?, parts.next()?) {
                (_, b"name=systemd") => 0,
                (b"0", b"") => 1,
                _ => 2,
            };
            Some((rank, parts.next()?))
        })
        .collect();
    lines.sort_by_key(|&(rank, _)| rank);

    let mut owner = Owner::default();
    for (rank, path) in lines {
        let of_path = owner_of(path);
        // A v1 controller's path may name the unit of a manager that moved only that controller.
        if rank < 2 {
            owner.unit = owner.unit.or(of_path.unit);
        }
        owner.container = owner.container.or(of_path.container);
    }
    owner
}

/// The innermost names of one path win.
fn owner_of(path: &[u8]) -> Owner {
    // Appended by the kernel when the group was removed under the process.
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let mut owner = Owner::default();
    let mut parent = "";
    // A component with other bytes is not the work of a manager: someone was delegated a subtree.
    for component in path
        .split(|&byte| byte == b'/')
        .map(|part| plain(part).unwrap_or(""))
    {
        if let Some(id) = container(parent, component) {
            owner.container = Some(id.to_owned());
            if component.ends_with(".scope") {
                owner.unit = Some(component.to_owned());
            }
        } else if component.len() > ".service".len() && component.ends_with(".service") {
            owner.unit = Some(component.to_owned());
            if let Some(machine) = machine_of_service(component) {
                owner.container = Some(machine.to_owned());
            }
        }
        parent = component;
    }
    owner
}

fn container<'a>(parent: &str, component: &'a str) -> Option<&'a str> {
    if let Some(scope) = component.strip_suffix(".scope") {
        if let Some(id) = SCOPES.iter().find_map(|prefix| scope.strip_prefix(prefix)) {
            return is_id(id).then_some(id);
        }
        // Virtual machines are scopes of the same slice, but their host process is no container.
        return scope.strip_prefix("machine-").filter(|name| {
            parent == "machine.slice" && !name.is_empty() && !name.starts_with("qemu\\x2d")
        });
    }
    if component.len() == 64 && is_id(component) {
        return Some(component);
    }
    // The kubelet with the cgroupfs driver under a runtime with the systemd driver.
    if let Some((_, id)) = component.rsplit_once(":cri-containerd:") {
        return is_id(id).then_some(id);
    }
    let lxc = match parent {
        "lxc" | "lxc.payload" => Some(component),
        _ => component.strip_prefix("lxc.payload."),
    };
    lxc.filter(|name| !name.is_empty())
}

fn machine_of_service(component: &str) -> Option<&str> {
    component
        .strip_prefix("systemd-nspawn@")?
        .strip_suffix(".service")
        .filter(|name| !name.is_empty())
}

fn is_id(text: &str) -> bool {
    (12..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text of the characters that systemd allows in the names of units.
fn plain(part: &[u8]) -> Option<&str> {
    let allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@')
    };
    if part.iter().all(allowed) {
        std::str::from_utf8(part).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, owner};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_unit_and_container() {
        let scope = |prefix: &str| Some(format!("{prefix}{ID}.scope"));
        let unit = |name: &str| Some(name.to_owned());
        let id = || Some(ID.to_owned());
        let user = "/user.slice/user-1000.slice/user@1000.service";
        let table: Vec<(String, Option<String>, Option<String>)> = vec![
            ("0::/".into(), None, None),
            ("0::/system.slice/app.service".into(), unit("app.service"), None),
            ("0::/system.slice/app.service/workers".into(), unit("app.service"), None),
            ("0::/system.slice/app.service (deleted)".into(), unit("app.service"), None),
            (
                "0::/system.slice/system-app.slice/app@1.service".into(),
                unit("app@1.service"),
                None,
            ),
            (
                r"0::/system.slice/my\x2dapp.service".into(),
                unit(r"my\x2dapp.service"),
                None,
            ),
            (format!("0::{user}/app.slice/web.service"), unit("web.service"), None),
            (format!("0::{user}/init.scope"), unit("user@1000.service"), None),
            ("0::/user.slice/user-0.slice/session-3.scope".into(), None, None),
            ("0::/init.scope".into(), None, None),
            ("0::/system.slice/.service".into(), None, None),
            (
                "0::/user.slice/x\x1b[31m.service/evil app.service".into(),
                None,
                None,
            ),
            // v1, v1 with v2 beside it, and v1 controllers that disagree.
            (
                "9:name=systemd:/system.slice/app.service\n4:memory:/other.service\n".into(),
                unit("app.service"),
                None,
            ),
            (
                "4:memory:/x\n1:name=systemd:/system.slice/app.service\n0::/system.slice/no.service\n".into(),
                unit("app.service"),
                None,
            ),
            (format!("9:name=systemd:/\n4:cpu,cpuacct:/docker/{ID}\n0::/"), None, id()),
            ("4:memory:/system.slice/app.service\n".into(), None, None),
            // Containers.
            (format!("0::/system.slice/docker-{ID}.scope"), scope("docker-"), id()),
            (
                format!("0::/system.slice/docker-{ID}.scope/system.slice/app.service"),
                unit("app.service"),
                id(),
            ),
            (format!("0::/docker/{ID}"), None, id()),
            (format!("0::/kubepods/burstable/pod7f0e/{ID}"), None, id()),
            (
                format!("0::/kubepods.slice/kubepods-pod7f0e.slice/cri-containerd-{ID}.scope"),
                scope("cri-containerd-"),
                id(),
            ),
            (
                format!("0::/system.slice/containerd.service/kubepods-pod7f0e.slice:cri-containerd:{ID}"),
                unit("containerd.service"),
                id(),
            ),
            (format!("0::/kubepods.slice/crio-{ID}.scope"), scope("crio-"), id()),
            (format!("0::/machine.slice/libpod-{ID}.scope/container"), scope("libpod-"), id()),
            (format!("0::{user}/user.slice/libpod-{ID}.scope"), scope("libpod-"), id()),
            (format!("0::/machine.slice/libpod-conmon-{ID}.scope"), None, None),
            ("0::/lxc/web1/system.slice/app.service".into(), unit("app.service"), unit("web1")),
            ("0::/lxc.payload.web1".into(), None, unit("web1")),
            ("0::/lxc.monitor.web1".into(), None, None),
            (
                "0::/machine.slice/systemd-nspawn@web1.service/payload".into(),
                unit("systemd-nspawn@web1.service"),
                unit("web1"),
            ),
            (
                r"0::/machine.slice/machine-web1.scope".into(),
                unit("machine-web1.scope"),
                unit("web1"),
            ),
            (r"0::/machine.slice/machine-qemu\x2d1\x2dvm.scope".into(), None, None),
            // Too short, not hexadecimal.
            ("0::/docker/0123".into(), None, None),
            ("0::/system.slice/docker-zzzzzzzzzzzzzzzz.scope".into(), None, None),
        ];
        for (text, unit, container) in table {
            assert_eq!(owner(text.as_bytes()), Owner { unit, container }, "{text}");
        }
    }

    #[test]
    fn reads_nothing_from_rubbish() {
        for text in [
            &b""[..],
            b"\n\n",
            b"0",
            b"0:",
            b"0::",
            b"::::/a.service",
            b"\xff:\xff:\xff",
        ] {
            assert_eq!(owner(text), Owner::default());
        }
    }
}
