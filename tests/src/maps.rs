//! The daemon's maps in the kernel, by bpf(2), independently of raindrops.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    fs, io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const GET_NEXT_KEY: libc::c_int = 4;
const GET_FD_BY_ID: libc::c_int = 14;
const OBJECT_INFO: libc::c_int = 15;
/// `BPF_MAP_TYPE_HASH`.
const HASH: u32 = 1;

/// The start of `struct bpf_map_info`.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// Begins the value of an entry that says that its socket is not to be followed: a listener of
/// another network namespace. There are as many of these as the host has such listeners.
const NOT_FOLLOWED: [u8; 4] = [0xff; 4];

/// A BPF map in the kernel.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    info: Info,
}

/// Number of entries of each hash map that a process has, by name, of which the kernel keeps 15
/// bytes. Maps of the least recently used kind are not among them: they are full by design.
pub fn entries(pid: u32) -> Result<BTreeMap<String, usize>> {
    let mut entries = BTreeMap::new();
    for map in Map::all_of(pid)? {
        if map.info.kind == HASH {
            entries.insert(map.name(), map.followed()?);
        }
    }
    Ok(entries)
}

impl Map {
    /// A map of a process, by the start of its name.
    pub fn of(pid: u32, name: &str) -> Result<Self> {
        let mut maps = Self::all_of(pid)?.into_iter();
        maps.find(|map| map.name() == name)
            .with_context(|| format!("process {pid} has no map {name}"))
    }

    fn all_of(pid: u32) -> Result<Vec<Self>> {
        let directory = format!("/proc/{pid}/fdinfo");
        let mut ids: Vec<u32> = fs::read_dir(&directory)
            .with_context(|| format!("reading {directory}"))?
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .filter_map(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
                line.trim().parse().ok()
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
            .map(|id| Self::open(id).with_context(|| format!("opening map {id}")))
            .collect()
    }

    fn open(id: u32) -> io::Result<Self> {
        let descriptor = bpf(GET_FD_BY_ID, [u64::from(id), 0, 0, 0])?;
        // SAFETY: the kernel has just made it for us.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let mut info = Info::default();
        let number = u64::from(descriptor.as_raw_fd().cast_unsigned());
        let length = (size_of::<Info>() as u64) << 32;
        let place = (&raw mut info).expose_provenance() as u64;
        bpf(OBJECT_INFO, [number | length, place, 0, 0])?;
        Ok(Self { descriptor, info })
    }

    fn name(&self) -> String {
        let name = CStr::from_bytes_until_nul(&self.info.name).unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub fn keys(&self) -> Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0u8; self.info.key_size as usize];
            let from = keys.last_mut().map_or(0, |key| address(key));
            match bpf(GET_NEXT_KEY, [self.number(), from, address(&mut next), 0]) {
                Ok(_) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error).context("walking a map"),
            }
        }
    }

    pub fn remove(&self, mut key: Vec<u8>) -> Result<()> {
        bpf(DELETE, [self.number(), address(&mut key), 0, 0]).context("removing a key")?;
        Ok(())
    }

    /// Puts an entry there, whether or not there is one.
    pub fn insert(&self, mut key: Vec<u8>, mut value: Vec<u8>) -> Result<()> {
        let (key, value) = (address(&mut key), address(&mut value));
        bpf(UPDATE, [self.number(), key, value, 0]).context("inserting a key")?;
        Ok(())
    }

    /// All keys and values; those that go meanwhile are left out.
    pub fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let with_value = |mut key: Vec<u8>| {
            let mut value = vec![0u8; self.info.value_size as usize];
            let (at, place) = (address(&mut key), address(&mut value));
            let found = bpf(LOOKUP, [self.number(), at, place, 0]).is_ok();
            found.then_some((key, value))
        };
        Ok(self.keys()?.into_iter().filter_map(with_value).collect())
    }

    fn followed(&self) -> Result<usize> {
        let entries = self.entries()?.into_iter();
        Ok(entries
            .filter(|(_, value)| !value.starts_with(&NOT_FOLLOWED))
            .count())
    }

    fn number(&self) -> u64 {
        u64::from(self.descriptor.as_raw_fd().cast_unsigned())
    }
}

fn address(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr().expose_provenance() as u64
}

fn bpf(command: libc::c_int, attributes: [u64; 4]) -> io::Result<i32> {
    let (attributes, size) = (&raw const attributes, size_of::<[u64; 4]>());
    // SAFETY: the commands above read and write what `attributes` point to, which lives across the
    // call and is as long as they were told, or as the map's keys and values are.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// Entries of the table of connections that are not of unix connections, as the daemon's own with its
/// clients are.
pub fn of_tcp(connections: &Map) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    /// Of the word of events in an entry.
    const EVENTS: usize = 16;
    const UNIX: u8 = 16;
    let mut entries = connections.entries()?;
    entries.retain(|(_, entry)| entry.get(EVENTS).is_some_and(|events| events & UNIX == 0));
    Ok(entries)
}
