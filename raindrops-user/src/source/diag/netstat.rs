//! Counters and limits of the network namespace of the calling thread: ListenOverflows,
//! ListenDrops and somaxconn.
//!
//! Separate from [`super::Diag`] because they come from `/proc`, at the root that is given, so a
//! directory can stand in for it. Remembers nothing: differences are the ledger's business.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::error::DiagError;

/// The files are some 4 KiB; more is not theirs.
const MAX_SIZE: u64 = 256 * 1024;

/// Totals since the namespace was made. A counter that this kernel lacks is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenCounters {
    /// SYNs and final ACKs dropped because a listener's queue was full.
    pub overflows: Option<u64>,
    /// All segments dropped at listeners.
    pub drops: Option<u64>,
}

/// Reads `thread-self/net/netstat` under `proc`.
pub fn listen_counters(proc: &Path) -> Result<ListenCounters, DiagError> {
    let (path, bytes) = read(proc.join("thread-self/net/netstat"))?;
    parse_netstat(&bytes).ok_or(DiagError::Content {
        path,
        what: "TcpExt lines",
    })
}

/// Reads `sys/net/core/somaxconn` under `proc`: what `listen()` cuts larger backlogs to.
pub fn somaxconn(proc: &Path) -> Result<u32, DiagError> {
    let (path, bytes) = read(proc.join("sys/net/core/somaxconn"))?;
    number(&bytes).ok_or(DiagError::Content {
        path,
        what: "number",
    })
}

/// How many MPTCP connections clients have made since the namespace was made; `None` where the kernel
/// has no MPTCP. Reads what [`listen_counters`] reads.
pub fn multipath_connections(proc: &Path) -> Result<Option<u64>, DiagError> {
    let (_, bytes) = read(proc.join("thread-self/net/netstat"))?;
    let mut counters = counters(&bytes, b"MPTcpExt:").into_iter().flatten();
    let made = counters.find(|(name, _)| *name == b"MPCapableACKRX");
    Ok(made.and_then(|(_, value)| number(value)))
}

/// Finds the counters by name: columns differ between kernels.
#[must_use]
pub fn parse_netstat(bytes: &[u8]) -> Option<ListenCounters> {
    let mut listen = ListenCounters::default();
    for (name, value) in counters(bytes, b"TcpExt:")? {
        match name {
            b"ListenOverflows" => listen.overflows = number(value),
            b"ListenDrops" => listen.drops = number(value),
            _ => {}
        }
    }
    Some(listen)
}

/// Names and values of a group of counters, which is two lines.
fn counters<'a>(
    bytes: &'a [u8],
    group: &[u8],
) -> Option<impl Iterator<Item = (&'a [u8], &'a [u8])>> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let names = lines.find_map(|line| line.strip_prefix(group))?;
    let values = lines.next()?.strip_prefix(group)?;
    Some(words(names).zip(words(values)))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    str::from_utf8(bytes.trim_ascii()).ok()?.parse().ok()
}

fn read(path: PathBuf) -> Result<(PathBuf, Vec<u8>), DiagError> {
    let mut bytes = Vec::with_capacity(8 * 1024);
    match File::open(&path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes)) {
        Ok(_) => Ok((path, bytes)),
        Err(source) => Err(DiagError::File {
            operation: "read",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ListenCounters, listen_counters, parse_netstat, somaxconn};

    #[test]
    fn finds_counters_by_name() {
        let text = b"TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\n\
                     TcpExt: 1 18446744073709551615 3 4\n\
                     IpExt: InNoRoutes ListenOverflows\nIpExt: 8 9\n";
        let expected = ListenCounters {
            overflows: Some(u64::MAX),
            drops: Some(3),
        };
        assert_eq!(parse_netstat(text), Some(expected));
    }

    #[test]
    fn a_missing_or_broken_counter_is_unknown() {
        let nothing = Some(ListenCounters::default());
        assert_eq!(parse_netstat(b"TcpExt: A B\nTcpExt: 1 2\n"), nothing);
        assert_eq!(
            parse_netstat(b"TcpExt: ListenOverflows\nTcpExt: -1\n"),
            nothing
        );
        assert_eq!(parse_netstat(b"TcpExt: A ListenDrops\nTcpExt: 1"), nothing);
        assert_eq!(parse_netstat(b"TcpExt: A\n"), None);
        assert_eq!(parse_netstat(b""), None);
    }

    #[test]
    fn reads_below_the_root_that_is_given() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("thread-self/net");
        let core = root.path().join("sys/net/core");
        fs::create_dir_all(&net).unwrap();
        fs::create_dir_all(&core).unwrap();
        let netstat = "TcpExt: ListenOverflows ListenDrops\nTcpExt: 5 6\n";
        fs::write(net.join("netstat"), netstat).unwrap();
        fs::write(core.join("somaxconn"), "4096\n").unwrap();
        let counters = listen_counters(root.path()).unwrap();
        assert_eq!((counters.overflows, counters.drops), (Some(5), Some(6)));
        assert_eq!(somaxconn(root.path()).unwrap(), 4096);
    }

    #[test]
    fn says_which_file_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let error = somaxconn(root.path()).unwrap_err().to_string();
        assert!(error.starts_with("read "), "{error}");
        assert!(error.ends_with("sys/net/core/somaxconn"), "{error}");
    }
}
