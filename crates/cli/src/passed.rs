//! The sockets that our own parent has passed to us, as systemd does for a socket unit.

use handover_netutil::{PassedError, PassedFd, ServerSocket, take_passed};

use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

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

/// Closes what was passed to a command that cannot use it, and warns of that.
pub(crate) fn refuse(passed: Passed) {
    match passed {
        Ok(passed) if passed.is_empty() => {}
        Ok(passed) => {
            let names = passed.iter().map(|passed| passed.name().unwrap_or("-"));
            let names = names.collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "LISTEN_FDS: the service manager passes sockets ({names}), but Envoy binds the addresses of \
                 its configuration itself; they are not used: remove the socket unit, as its clients wait in \
                 vain"
            );
        }
        Err(error) => tracing::warn!(
            "LISTEN_FDS: {}; `run` takes no sockets, as Envoy binds the addresses of its configuration \
             itself: start handover without this variable",
            misfit(&error)
        ),
    }
}

/// What is wrong with the variables, without a remedy: that of a command that takes sockets is another one.
fn misfit(error: &PassedError) -> String {
    match error {
        PassedError::Count { value } => format!("`{value}` is no number of descriptors"),
        PassedError::NotOpen { count, number } => {
            format!("there should be {count} descriptors, but descriptor {number} is not open")
        }
        PassedError::Names { names, count } => {
            format!("there should be {count} descriptors, but LISTEN_FDNAMES has {names} names")
        }
        _ => "the passed descriptors do not fit its value".to_owned(),
    }
}
