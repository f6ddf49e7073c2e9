//! What only `unsafe` can do: taking the sockets that whoever started the program passed to it.
#![expect(
    unsafe_code,
    reason = "a descriptor's number is all that is known of a socket that was passed"
)]

use std::env;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// More are not passed by anything sane; and the loop below ends.
const COUNT_MAX: RawFd = 64;

/// Takes the sockets that were passed to this process by socket activation, once.
///
/// Children do not get them, nor are they told of them. Nothing may have started threads before, and
/// nothing may have opened files that it does not own: it is called first.
pub fn take_passed_sockets() -> Vec<OwnedFd> {
    let (pid, count) = (env::var("LISTEN_PID"), env::var("LISTEN_FDS"));
    let for_us = pid.is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        if env::var_os(name).is_some() {
            // SAFETY: no other thread is running that could read the environment.
            unsafe { env::remove_var(name) };
        }
    }
    let count: RawFd = match count.map(|count| count.parse()) {
        Ok(Ok(count)) if for_us => count,
        _ => return Vec::new(),
    };
    let passed = FIRST..FIRST.saturating_add(count.clamp(0, COUNT_MAX));
    let take = |descriptor: RawFd| {
        // SAFETY: whoever set the variables has left these descriptors to this process, and nothing
        // here has taken them: this is called once, first, and the variables are gone now.
        unsafe { OwnedFd::from_raw_fd(descriptor) }
    };
    let taken = passed.filter(|&descriptor| is_open(descriptor)).map(take);
    taken
        .filter(|socket| fcntl_setfd(socket, FdFlags::CLOEXEC).is_ok())
        .collect()
}

/// Whether there is such a descriptor: closing one that is not ours to close would be a bug.
fn is_open(descriptor: RawFd) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_ok()
}
