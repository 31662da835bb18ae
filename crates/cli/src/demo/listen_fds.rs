//! The receiving end of the `LISTEN_FDS` convention.

use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};

/// The first socket that was passed to this process, made nonblocking. Call it once.
///
/// # Errors
///
/// When none was passed, or it was passed to another process.
pub(super) fn take_first() -> Result<TcpListener> {
    let variable = |name: &str| -> Result<u32> {
        let value = std::env::var(name).with_context(|| format!("reading {name}"))?;
        value.parse().with_context(|| format!("{name} is {value}"))
    };
    ensure!(
        variable("LISTEN_PID")? == std::process::id(),
        "LISTEN_PID is another process"
    );
    ensure!(
        variable("LISTEN_FDS")? >= 1,
        "LISTEN_FDS is 0: no socket was passed"
    );
    #[expect(
        unsafe_code,
        reason = "a passed descriptor is known by its number alone"
    )]
    // SAFETY: the convention, checked above, says that descriptor 3 is open and was passed for this
    // process to own; nothing else in it takes it, and this function is called once.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    let listener = TcpListener::from(socket);
    // Passed sockets block, and tokio needs one that does not.
    listener
        .set_nonblocking(true)
        .context("making the passed socket nonblocking")?;
    Ok(listener)
}
