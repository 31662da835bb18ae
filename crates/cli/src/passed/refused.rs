//! Sockets that were passed to a command that takes none.

use handover_netutil::PassedError;

use super::Passed;

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
