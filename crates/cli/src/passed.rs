//! The sockets that our own parent has passed to us, as systemd does for a socket unit.

#[cfg(feature = "envoy")]
mod refused;

use handover_netutil::{PassedError, PassedFd, ServerSocket, take_passed};

use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

#[cfg(feature = "envoy")]
pub(crate) use refused::refuse;

/// What was passed, or why it cannot be used.
pub(crate) type Passed = Result<Vec<PassedFd>, PassedError>;

/// A socket that our parent has passed, with its name.
pub(crate) type NamedSocket = (Option<String>, ServerSocket);

/// Takes over what was passed. Call it first of all.
#[expect(unsafe_code, reason = "taking over descriptors by their numbers")]
pub(crate) fn take() -> Passed {
    // SAFETY: `main` calls it first, so nothing in this process has opened a descriptor.
    unsafe { take_passed(|name| std::env::var_os(name)) }
}

/// Returns the sockets for a program.
///
/// # Errors
///
/// When something else than a socket of a server was passed, or variables do not fit.
pub(crate) fn listening(passed: Passed) -> Result<Vec<NamedSocket>, Fatal> {
    let passed = passed.or_exit(ExitCode::USAGE)?;
    let sockets = passed.into_iter().map(PassedFd::server_socket);
    let sockets: Result<Vec<_>, _> = sockets.collect();
    sockets.or_exit(ExitCode::USAGE)
}
