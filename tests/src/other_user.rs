//! Being another user for a while: what the kernel then says of a connection's other end.

use std::thread;

use anyhow::{Context as _, Result};
use rustix::{fs::Uid, thread::set_thread_res_uid};

/// Calls `action` on a thread that has become the user; the group stays. For root.
pub fn as_user<T: Send>(uid: u32, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).context("becoming another user")?;
            action()
        });
        thread
            .join()
            .expect("the other user's thread does not panic")
    })
}
