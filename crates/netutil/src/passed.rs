//! Descriptors that the parent of this process has passed to it, by the `LISTEN_FDS` convention of
//! systemd (`sd_listen_fds(3)`).

use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use thiserror::Error;

use crate::server_socket::ServerSocket;

/// The number of the first passed descriptor, fixed by the convention.
const FIRST: RawFd = 3;

/// A descriptor that was passed to this process.
#[derive(Debug)]
pub struct PassedFd {
    number: RawFd,
    name: Option<String>,
    descriptor: OwnedFd,
}

/// Why descriptors that were passed cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PassedError {
    /// The number of descriptors is none.
    #[error("LISTEN_FDS={value} is no number of descriptors; unset it, or pass sockets with it")]
    Count {
        /// The value of the variable.
        value: String,
    },

    /// A descriptor that should be there is not open.
    #[error("LISTEN_FDS={count}, but descriptor {number} is not open; pass as many as it says")]
    NotOpen {
        /// The value of the variable.
        count: u32,
        /// The number of the descriptor.
        number: RawFd,
    },

    /// There are more or fewer names than descriptors.
    #[error("LISTEN_FDNAMES has {names} names, but LISTEN_FDS={count}; give each socket one name")]
    Names {
        /// The number of names.
        names: usize,
        /// The value of `LISTEN_FDS`.
        count: u32,
    },
}

/// Why a descriptor is no socket of a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("descriptor {number}{} {reason}", .name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
pub struct NotServing {
    number: RawFd,
    name: Option<String>,
    reason: &'static str,
}

/// Takes the descriptors over that the parent of this process has passed to it: from 3 on, as many as
/// `LISTEN_FDS` says, with the names of `LISTEN_FDNAMES`. Returns none if none were passed, or if
/// `LISTEN_PID` says that they are for another process.
///
/// No program that this process executes inherits them. `variable` returns the value of a variable, as
/// [`std::env::var_os`] does. The variables themselves stay set, because a process with threads cannot
/// change its environment safely.
///
/// # Errors
///
/// When the variables and the descriptors do not fit. Nothing was taken over then.
///
/// # Safety
///
/// Call it once, before anything else in this process opens a descriptor. A later call could take over
/// what belongs to somebody else.
#[expect(
    unsafe_code,
    reason = "a passed descriptor is known by its number alone"
)]
pub unsafe fn take_passed(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<PassedFd>, PassedError> {
    let Some(value) = variable("LISTEN_FDS").filter(|value| !value.is_empty()) else {
        return Ok(Vec::new());
    };
    let pid = variable("LISTEN_PID");
    if number(pid.as_deref()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES").filter(|names| !names.is_empty());
    let planned = plan(&value, names.as_deref())?;
    for (number, _) in &planned.descriptors {
        // SAFETY: one that is not open is an error of the call below, which is its only use. One that is
        // open stays so during it: this runs before anything else may close descriptors, see above.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).map_err(|_| {
            PassedError::NotOpen {
                count: planned.count,
                number: *number,
            }
        })?;
    }
    let passed = planned.descriptors.into_iter().map(|(number, name)| {
        // SAFETY: it is open, and the parent has passed it for this process to own. By the contract of
        // this function nothing else in the process has opened a descriptor, so nothing owns this one.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        PassedFd {
            number,
            name,
            descriptor,
        }
    });
    Ok(passed.collect())
}

/// What the variables say.
#[derive(Debug, PartialEq, Eq)]
struct Planned {
    count: u32,
    descriptors: Vec<(RawFd, Option<String>)>,
}

fn plan(value: &OsStr, names: Option<&OsStr>) -> Result<Planned, PassedError> {
    let numbers = number(Some(value)).and_then(|count| {
        let end = RawFd::try_from(count).ok()?.checked_add(FIRST)?;
        (count <= MOST).then_some((count, FIRST..end))
    });
    let (count, numbers) = numbers.ok_or_else(|| PassedError::Count {
        value: value.to_string_lossy().escape_debug().to_string(),
    })?;
    let names: Option<Vec<String>> = names.map(|names| {
        let names = names.to_string_lossy();
        names.split(':').map(str::to_owned).collect()
    });
    if let Some(names) = &names
        && names.len() != numbers.len()
    {
        return Err(PassedError::Names {
            names: names.len(),
            count,
        });
    }
    let mut names = names.unwrap_or_default().into_iter();
    let descriptors = numbers.map(|number| (number, names.next()));
    Ok(Planned {
        count,
        descriptors: descriptors.collect(),
    })
}

/// More descriptors than anybody passes. It bounds the memory for a number that is nonsense.
const MOST: u32 = 1 << 16;

fn number(value: Option<&OsStr>) -> Option<u32> {
    value?.to_str()?.parse().ok()
}

impl PassedFd {
    /// Returns the name that the parent has given it, if it has given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the descriptor, whatever it is.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    /// Returns the socket of a server that this descriptor is, with its name.
    ///
    /// # Errors
    ///
    /// [`NotServing`] says what it is instead, in the terms of a socket unit of systemd.
    pub fn server_socket(self) -> Result<(Option<String>, ServerSocket), NotServing> {
        let Self {
            number,
            name,
            descriptor,
        } = self;
        match ServerSocket::check(descriptor) {
            Ok(socket) => Ok((name, socket)),
            Err(reason) => Err(NotServing {
                number,
                name,
                reason,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
