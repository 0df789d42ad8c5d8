//! Facts about this host, as plain data: what the kernel offers and what we may do. Decides
//! nothing; [`crate::plan`] does.

pub mod btf;

use std::{collections::BTreeMap, fs, path::Path};

use raindrops_ebpf::{globals::OFFSETS, names::program};

use crate::ids::NetnsId;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`), the same on every Linux.
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// What the kernel and our rights are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kernel: KernelVersion,
    /// `uname -r`.
    pub release: String,
    pub host_name: String,
    pub boot_id: Option<String>,
    pub cpus: usize,
    /// What the kernel says about its types, or why it does not.
    pub types: Result<KernelTypes, String>,
    pub capabilities: Capabilities,
    pub netns: Option<NetnsId>,
    /// Whether our pids are those that BPF programs see; `None` when it cannot be told.
    pub in_initial_pid_namespace: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    pub major: u32,
    pub minor: u32,
}

impl KernelVersion {
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// From `uname -r`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
        })
    }
}

/// What BTF tells of the types that the BPF programs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelTypes {
    /// Offset by the name of its global; absent where the kernel has no such member.
    pub offsets: BTreeMap<&'static str, u32>,
    pub has_sk_data_ready: bool,
    /// Number of parameters; `None` when the kernel does not describe the function.
    pub inet_csk_accept_parameters: Option<u32>,
    pub has_unix_accept: bool,
    /// Reads and writes of sockets are told (Linux 6.3).
    pub has_turn_tracepoints: bool,
    /// Number of parameters of the functions that read and write IP sockets, by name; absent where the
    /// kernel does not describe one.
    pub transfer_parameters: BTreeMap<&'static str, u32>,
}

/// The functions that read and write IP sockets, as programs on them are named.
const TRANSFERS: [&str; 5] = [
    program::INET_RECVMSG,
    program::INET6_RECVMSG,
    program::INET_SENDMSG,
    program::INET6_SENDMSG,
    program::INET_SENDPAGE,
];

impl KernelTypes {
    #[must_use]
    pub fn from_btf(btf: &btf::Btf<'_>) -> Self {
        Self {
            offsets: OFFSETS
                .iter()
                .filter_map(|(global, path)| Some((*global, btf.offset(path)?)))
                .collect(),
            has_sk_data_ready: btf.has_tracepoint("sk_data_ready"),
            inet_csk_accept_parameters: btf.parameters("inet_csk_accept"),
            has_unix_accept: btf.parameters("unix_accept").is_some(),
            has_turn_tracepoints: btf.has_tracepoint("sock_recv_length")
                && btf.has_tracepoint("sock_send_length"),
            transfer_parameters: TRANSFERS
                .iter()
                .filter_map(|function| Some((*function, btf.parameters(function)?)))
                .collect(),
        }
    }
}

/// Effective capabilities that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub bpf: bool,
    pub perfmon: bool,
    pub sys_admin: bool,
    pub sys_ptrace: bool,
    pub dac_read_search: bool,
}

impl Capabilities {
    /// From the mask `CapEff` of `/proc/self/status`.
    #[must_use]
    pub const fn from_mask(mask: u64) -> Self {
        Self {
            dac_read_search: mask & (1 << 2) != 0,
            sys_ptrace: mask & (1 << 19) != 0,
            sys_admin: mask & (1 << 21) != 0,
            perfmon: mask & (1 << 38) != 0,
            bpf: mask & (1 << 39) != 0,
        }
    }
}

impl Facts {
    /// Looks at this host. `want_types` costs 40 ms and 6 MB for a moment.
    #[must_use]
    pub fn gather(want_types: bool) -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        Self {
            kernel: KernelVersion::parse(&release).unwrap_or(KernelVersion::new(0, 0)),
            release,
            host_name: uname.nodename().to_string_lossy().into_owned(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()
                .map(|id| id.trim().to_owned()),
            cpus: possible_cpus().unwrap_or(1),
            types: if want_types {
                kernel_types()
            } else {
                Err("not looked at".to_owned())
            },
            capabilities: capabilities().unwrap_or_default(),
            netns: namespace_inode("net")
                .and_then(|inode| u32::try_from(inode).ok())
                .map(NetnsId),
            in_initial_pid_namespace: namespace_inode("pid")
                .map(|inode| inode == INITIAL_PID_NAMESPACE),
        }
    }
}

fn kernel_types() -> Result<KernelTypes, String> {
    let path = "/sys/kernel/btf/vmlinux";
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let btf = btf::Btf::parse(&bytes).map_err(|error| format!("{path}: {error}"))?;
    Ok(KernelTypes::from_btf(&btf))
}

fn capabilities() -> Option<Capabilities> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16)
        .ok()
        .map(Capabilities::from_mask)
}

fn namespace_inode(kind: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let path = Path::new("/proc/thread-self/ns").join(kind);
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// The number of CPUs that programs may run on: one more than the highest in
/// `/sys/devices/system/cpu/possible`.
fn possible_cpus() -> Option<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible").ok()?;
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok().map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_kernels_do() {
        let parsed = |release| KernelVersion::parse(release);
        assert_eq!(
            parsed("6.18.44-cloud-amd64"),
            Some(KernelVersion::new(6, 18))
        );
        assert_eq!(parsed("5.10.0-33"), Some(KernelVersion::new(5, 10)));
        assert_eq!(parsed("7.2-rc1"), Some(KernelVersion::new(7, 2)));
        assert_eq!(parsed("linux"), None);
        assert!(KernelVersion::new(5, 9) < KernelVersion::new(5, 12));
    }

    #[test]
    fn capabilities_are_read_from_their_bits() {
        let all = Capabilities::from_mask(0x1ff_ffff_ffff);
        assert!(all.bpf && all.perfmon && all.sys_admin && all.sys_ptrace && all.dac_read_search);
        assert_eq!(Capabilities::from_mask(0), Capabilities::default());
        assert!(Capabilities::from_mask(1 << 39).bpf);
    }
}
