//! The service manager that has started this process, such as systemd: what it is told, by
//! `sd_notify(3)`.
//!
//! Each message is one datagram. None is waited for: what the service manager cannot take waits here and
//! is sent later. A socket that is gone ends nothing, and is logged once.

mod outbox;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::operator::{self, Notification};
use outbox::{Kind, Outbox};

/// How much of a sentence is shown. A service manager shows it in one line.
const LONGEST_STATUS: usize = 300;

/// The service manager that has started this process. Clones speak to the same one.
///
/// It learns all that [`Notification`] has, by [`Builder::service_manager`](crate::Builder::service_manager).
/// [`ended`](Self::ended) reports the end.
#[derive(Clone, Debug)]
pub struct ServiceManager {
    outbox: Arc<Outbox>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Returns the service manager that these variables name: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`. Returns `None` without a usable socket. What cannot be used is logged.
    ///
    /// `variable` returns the value of a variable, as [`std::env::var_os`] does.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let name = variable("NOTIFY_SOCKET")?;
        let outbox = address(&name).and_then(|address| Outbox::open(address, shown(&name)));
        let outbox = match outbox {
            Ok(outbox) => outbox,
            Err(error) => {
                warn!(
                    "NOTIFY_SOCKET={}: {error}; the service manager that has set it hears nothing",
                    shown(&name)
                );
                return None;
            }
        };
        Some(Self {
            outbox: Arc::new(outbox),
            watchdog: watchdog(variable),
        })
    }

    /// Returns what the operator must know of it.
    pub(crate) fn expects(&self) -> operator::ServiceManager {
        operator::ServiceManager {
            // Half of the limit, so that one report may be lost or late.
            alive_every: self.watchdog.map(|limit| limit / 2),
        }
    }

    /// Tells it this. Never blocks.
    pub(crate) fn notify(&self, notification: Notification) {
        let (kind, text) = match notification {
            Notification::Ready => (Kind::State, "READY=1".to_owned()),
            Notification::Reloading => (Kind::State, reloading(now())),
            Notification::Stopping => (Kind::State, "STOPPING=1".to_owned()),
            Notification::Status(summary) => (Kind::Status, status(&summary.to_string())),
            Notification::Alive => (Kind::Alive, "WATCHDOG=1".to_owned()),
            Notification::MoreTime(time) => {
                let micros = time.as_micros();
                (Kind::MoreTime, format!("EXTEND_TIMEOUT_USEC={micros}"))
            }
        };
        Outbox::send(&self.outbox, kind, text);
    }

    /// Reports how this process ends: a sentence, the exit code, and the number of the error of the
    /// operating system that is the reason, if one is. Waits until the reports are sent, or until
    /// `limit` is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not sent yet is lost with the process.
    pub async fn ended(&self, sentence: &str, code: u8, errno: Option<i32>, limit: Duration) {
        let mut text = format!("{}\nEXIT_STATUS={code}", status(sentence));
        if let Some(errno) = errno {
            // Writing into a string cannot fail.
            let _written = write!(text, "\nERRNO={errno}");
        }
        Outbox::send(&self.outbox, Kind::Status, text);
        self.outbox.flush(limit).await;
    }
}

/// The address of the socket.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::other(
            "it is neither an absolute path nor an abstract name that begins with `@`",
        )),
    }
}

/// The limit of the watchdog, where it watches this process.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let limit = variable("WATCHDOG_USEC")?;
    if let Some(pid) = variable("WATCHDOG_PID")
        && pid.to_str().and_then(|pid| pid.parse().ok()) != Some(std::process::id())
    {
        // It is meant for another process, such as a shell that has started this one.
        tracing::debug!("WATCHDOG_PID={}: not this process", shown(&pid));
        return None;
    }
    let micros = limit.to_str().and_then(|limit| limit.parse().ok());
    match micros {
        Some(micros @ 1..) => Some(Duration::from_micros(micros)),
        Some(0) | None => {
            warn!(
                "WATCHDOG_USEC={} is no number of microseconds above 0; no watchdog is served",
                shown(&limit)
            );
            None
        }
    }
}

/// The time of the clock that systemd compares with that of its own signal.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock begins at 0 and never goes back.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn reloading(now: Duration) -> String {
    format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())
}

/// A sentence as one line. Another line would be another assignment.
fn status(sentence: &str) -> String {
    let words = sentence.split(|c: char| c.is_control() || c.is_whitespace());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(LONGEST_STATUS).collect();
    format!("STATUS={line}")
}

fn shown(value: &OsStr) -> String {
    value.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
