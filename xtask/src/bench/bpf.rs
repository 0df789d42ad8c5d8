//! What the kernel says of BPF programs and maps: their run time, their number of runs, their
//! memory.
//!
//! Programs are found through the descriptors of the process that holds them, so that nobody
//! else's are counted.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process,
};

use anyhow::{Context as _, Result, ensure};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_STATS_RUN_TIME: u32 = 0;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// While it lives, the kernel measures every program's runs, which itself costs time.
#[derive(Debug)]
pub struct Statistics {
    _on: OwnedFd,
}

impl Statistics {
    pub fn on() -> Result<Self> {
        let mut attributes = Attributes::default();
        attributes.set(0, &BPF_STATS_RUN_TIME.to_ne_bytes());
        let on = attributes
            .call(BPF_ENABLE_STATS)
            .context("turning on the statistics of BPF")?;
        Ok(Self { _on: on })
    }
}

/// A program's runs since it was loaded, as far as statistics were on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    pub count: u64,
    pub nanoseconds: u64,
}

impl Runs {
    fn since(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            nanoseconds: self.nanoseconds - before.nanoseconds,
        }
    }
}

/// A program that returns at once, on a raw tracepoint: its measured time is the cost of measuring.
#[derive(Debug)]
struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    fn attach(tracepoint: &CStr) -> Result<Self> {
        // r0 = 0; exit
        let instructions: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        let license = c"GPL";
        let mut attributes = Attributes::default();
        attributes.set(0, &BPF_PROG_TYPE_RAW_TRACEPOINT.to_ne_bytes());
        attributes.set(4, &2u32.to_ne_bytes());
        attributes.set(8, &(instructions.as_ptr() as u64).to_ne_bytes());
        attributes.set(16, &(license.as_ptr() as u64).to_ne_bytes());
        let program = attributes
            .call(BPF_PROG_LOAD)
            .context("loading an empty program")?;
        let mut attributes = Attributes::default();
        attributes.set(0, &(tracepoint.as_ptr() as u64).to_ne_bytes());
        attributes.set(8, &program.as_raw_fd().to_ne_bytes());
        let link = attributes
            .call(BPF_RAW_TRACEPOINT_OPEN)
            .context("attaching an empty program")?;
        Ok(Self {
            program,
            _link: link,
        })
    }

    fn runs(&self) -> Result<Runs> {
        let description = fields(process::id(), self.program.as_raw_fd() as u32)?;
        runs(&description).context("no statistics of a program of our own")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    pub name: String,
    pub id: u32,
}

/// Programs that a process holds.
pub fn programs(pid: u32) -> Result<BTreeMap<Program, Runs>> {
    let mut programs = BTreeMap::new();
    for description in descriptions(pid)? {
        // Links name their program too, but have no statistics of it.
        let Some(runs) = runs(&description) else {
            continue;
        };
        let id = description.get("prog_id").and_then(|id| id.parse().ok());
        let id = id.context("a program without an id")?;
        let name = name(id)?;
        programs.insert(Program { name, id }, runs);
    }
    Ok(programs)
}

/// What programs took while something happened.
#[derive(Debug)]
pub struct Noted {
    /// Nanoseconds that noting one run takes.
    pub empty: f64,
    /// By name: programs of one name are added up.
    pub programs: BTreeMap<String, Runs>,
}

/// Has the kernel note what `programs` take while `body` runs. An empty program is on `tracepoint`
/// meanwhile, which has to come.
pub fn noted<T>(
    tracepoint: &CStr,
    programs: impl Fn() -> Result<BTreeMap<Program, Runs>>,
    body: impl FnOnce() -> Result<T>,
) -> Result<(Noted, T)> {
    let empty = Empty::attach(tracepoint)?;
    let _statistics = Statistics::on()?;
    let empty_before = empty.runs()?;
    let before = programs()?;
    let done = body()?;
    let after = programs()?;
    let of_empty = empty.runs()?.since(empty_before);
    ensure!(of_empty.count != 0, "the empty program did not run");
    let mut by_name: BTreeMap<String, Runs> = BTreeMap::new();
    for (program, runs) in after {
        let before = before.get(&program).copied().unwrap_or_default();
        let runs = runs.since(before);
        let sum = by_name.entry(program.name).or_default();
        sum.count += runs.count;
        sum.nanoseconds += runs.nanoseconds;
    }
    let noted = Noted {
        empty: of_empty.nanoseconds as f64 / of_empty.count as f64,
        programs: by_name,
    };
    Ok((noted, done))
}

/// Bytes of the maps that a process holds, as the kernel accounts for them.
pub fn map_bytes(pid: u32) -> Result<u64> {
    let mut maps = BTreeMap::new();
    for description in descriptions(pid)? {
        if let (Some(id), Some(bytes)) = (description.get("map_id"), description.get("memlock")) {
            let bytes: u64 = bytes.parse().context("memlock of a map")?;
            maps.insert(id.clone(), bytes);
        }
    }
    Ok(maps.values().sum())
}

type Description = BTreeMap<String, String>;

fn descriptions(pid: u32) -> Result<Vec<Description>> {
    let directory = format!("/proc/{pid}/fd");
    let mut descriptions = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("listing {directory}"))? {
        let entry = entry?;
        // Descriptors come and go while they are listed.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let is_bpf = target.to_string_lossy().starts_with("anon_inode:bpf-");
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let (true, Some(number)) = (is_bpf, number) {
            descriptions.push(fields(pid, number)?);
        }
    }
    Ok(descriptions)
}

fn fields(pid: u32, descriptor: u32) -> Result<Description> {
    let path = format!("/proc/{pid}/fdinfo/{descriptor}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(parsed(&text))
}

fn parsed(text: &str) -> Description {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn runs(description: &Description) -> Option<Runs> {
    Some(Runs {
        count: description.get("run_cnt")?.parse().ok()?,
        nanoseconds: description.get("run_time_ns")?.parse().ok()?,
    })
}

/// Of a program; the kernel keeps 15 bytes of it.
fn name(id: u32) -> Result<String> {
    /// Of `struct bpf_prog_info`.
    const NAME: usize = 64;
    const NAME_LENGTH: usize = 16;

    let mut attributes = Attributes::default();
    attributes.set(0, &id.to_ne_bytes());
    let program = attributes
        .call(BPF_PROG_GET_FD_BY_ID)
        .with_context(|| format!("opening program {id}"))?;
    let mut info = [0u8; NAME + NAME_LENGTH];
    let mut attributes = Attributes::default();
    attributes.set(0, &program.as_raw_fd().to_ne_bytes());
    attributes.set(4, &(info.len() as u32).to_ne_bytes());
    attributes.set(8, &(info.as_mut_ptr() as u64).to_ne_bytes());
    attributes
        .status(BPF_OBJ_GET_INFO_BY_FD)
        .with_context(|| format!("asking about program {id}"))?;
    let name = info[NAME..].split(|byte| *byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

/// `union bpf_attr`, as far as it is used here.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attributes {
    fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn status(&mut self, command: libc::c_long) -> io::Result<i32> {
        let (attributes, size) = (self.0.as_mut_ptr(), self.0.len());
        // SAFETY: the kernel reads and writes within the size that is given; what the attributes
        // point to outlives the call, as the callers hold it.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result as i32)
    }

    fn call(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        let descriptor = self.status(command)?;
        // SAFETY: the command returns a new descriptor, which nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

#[cfg(test)]
mod tests {
    use super::{parsed, runs};

    /// Check that statistics are read from a program's description and not from a link's.
    #[test]
    fn statistics_of_a_description() {
        let program = "pos:\t0\nprog_type:\t17\nmemlock:\t4096\nprog_id:\t405\n\
                       run_time_ns:\t1200\nrun_cnt:\t30\n";
        let runs_of = |text| runs(&parsed(text)).map(|runs| (runs.count, runs.nanoseconds));
        assert_eq!(runs_of(program), Some((30, 1200)));
        assert_eq!(runs_of("link_type:\tperf\nprog_id:\t405\n"), None);
    }
}
