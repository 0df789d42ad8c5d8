//! The file system that tells the numbers of tracepoints may not be mounted (containers, minimal
//! hosts, `ip netns exec`). It is then mounted where only one thread can see it, so that the host
//! does not change.

use std::{io, path::Path, thread};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

const MOUNT_POINT: &str = "/sys/kernel/tracing";

/// Runs `action` on a thread of its own that sees tracefs, with what kept it from being mounted
/// there, if anything did.
pub fn visible<T: Send>(action: impl FnOnce(Result<(), io::Error>) -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                let mounted = if is_visible() {
                    Ok(())
                } else {
                    mount_privately()
                };
                action(mounted)
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn is_visible() -> bool {
    [MOUNT_POINT, "/sys/kernel/debug/tracing"]
        .iter()
        .any(|path| Path::new(path).join("events/syscalls").exists())
}

fn mount_privately() -> io::Result<()> {
    // SAFETY: only the mount namespace of this thread is unshared, not its table of files; the
    // thread ends when it has done its one task.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tracefs", MOUNT_POINT, "tracefs", flags, None)?;
    Ok(())
}
