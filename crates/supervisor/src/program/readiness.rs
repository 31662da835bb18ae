//! How a program is known to serve.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_process::ready::{Heard, NotifySocket, Probe, ProbeError, ReadyPipe, ReadyPipeError};
use handover_process::{Child, Command};
use handover_tokio::error_chain;
use tokio::sync::oneshot;

/// What makes an epoch of a program live.
#[derive(Clone, Debug)]
pub enum Readiness {
    /// It has run for this long.
    After(Duration),
    /// It has run for this long, and then this answers.
    Probe(Duration, Probe),
    /// It sends `READY=1` to `NOTIFY_SOCKET`.
    Notify,
    /// It writes a line to this descriptor.
    Descriptor(i32),
}

/// A command that passes on what the program announces itself with, and the other end of that.
pub(super) struct Ready {
    pub(super) command: Command,
    pub(super) announcement: Announcement,
}

/// Where one process tells that it is ready, and what it says later.
pub(super) enum Announcement {
    After(Duration),
    Probe(Duration, Probe),
    Notify(NotifySocket),
    Pipe(ReadyPipe),
}

/// What was seen last of a process that is not ready, in words.
#[derive(Debug)]
pub(super) struct Seen(Mutex<String>);

/// What a program has not done that is to report by its notifications.
const NOT_NOTIFIED: &str = "no READY=1 of its processes has come to NOTIFY_SOCKET";

/// How much of what a program says of itself is repeated, in characters.
const LONGEST_STATUS: usize = 200;

impl Seen {
    /// What can be said before anything was seen.
    pub(super) fn nothing(readiness: &Readiness) -> Self {
        Self(Mutex::new(match readiness {
            Readiness::After(span) | Readiness::Probe(span, _) => {
                let span = humantime::format_duration(*span);
                format!("it has not run for {span} yet")
            }
            Readiness::Notify => NOT_NOTIFIED.to_owned(),
            Readiness::Descriptor(number) => {
                format!("it has written no line to READY_FD, which is {number}")
            }
        }))
    }

    pub(super) fn in_words(&self) -> String {
        self.lock().clone()
    }

    fn answer(&self, error: &ProbeError) {
        *self.lock() = error_chain(error);
    }

    fn status(&self, status: &str) {
        let status: String = status.chars().take(LONGEST_STATUS).collect();
        *self.lock() = format!("{NOT_NOTIFIED}; it says `{}`", status.escape_debug());
    }

    /// A `READY=1` has come that does not count.
    fn outsider(&self, pid: u32) {
        let who = match pid {
            0 => "a process that cannot be seen".to_owned(),
            pid => format!("process {pid}"),
        };
        *self.lock() = format!(
            "the READY=1 that has come to NOTIFY_SOCKET is of {who}, which is neither of its process group nor below \
             it, so it does not count"
        );
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a process will not become ready.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadinessError {
    /// Its line did not come.
    Pipe(ReadyPipeError),
    /// Its notifications cannot be received.
    Notify(io::Error),
}

impl Readiness {
    /// Adds to the command what the program announces itself with.
    pub(super) fn ask(&self, command: Command) -> io::Result<Ready> {
        let (command, announcement) = match self {
            Self::After(span) => (command, Announcement::After(*span)),
            Self::Probe(span, probe) => (command, Announcement::Probe(*span, probe.clone())),
            Self::Notify => {
                let socket = NotifySocket::bind()?;
                let command = command.env("NOTIFY_SOCKET", socket.address());
                (command, Announcement::Notify(socket))
            }
            Self::Descriptor(number) => {
                let (pipe, end) = ReadyPipe::new()?;
                let command = command
                    .env("READY_FD", number.to_string())
                    .descriptor(*number, end);
                (command, Announcement::Pipe(pipe))
            }
        };
        Ok(Ready {
            command,
            announcement,
        })
    }
}

/// Returns the first descriptor after the standard streams and this many sockets.
#[must_use]
pub fn first_after(sockets: usize) -> i32 {
    i32::try_from(sockets).unwrap_or(i32::MAX).saturating_add(3)
}

impl Announcement {
    /// Tells once that the process is ready, or why it will not be. It notes what it sees until then, and goes on reading
    /// what the process has to say. A program that speaks to a closed socket fails, and one that speaks to a full one
    /// waits. Whether it still runs is for the caller to watch, and so is the time.
    pub(super) async fn listen(
        &mut self,
        child: &Child,
        seen: &Seen,
        ready: oneshot::Sender<Result<(), ReadinessError>>,
    ) -> Infallible {
        let is_ready = self.wait(child, seen).await;
        let failed = is_ready.is_err();
        // Whoever was to hear it has seen the end of the process.
        let _ended = ready.send(is_ready);
        if !failed {
            self.listen_on(child).await;
        }
        std::future::pending().await
    }

    /// Waits until the process is ready.
    async fn wait(&mut self, child: &Child, seen: &Seen) -> Result<(), ReadinessError> {
        match self {
            Self::After(span) => tokio::time::sleep(*span).await,
            Self::Probe(span, probe) => {
                tokio::time::sleep(*span).await;
                probe.ask_until_ready(|error| seen.answer(&error)).await;
            }
            Self::Notify(socket) => loop {
                match heard(socket, child).await? {
                    Heard::Notice(notice) if notice.ready => break,
                    Heard::Notice(notice) => {
                        if let Some(status) = &notice.status {
                            seen.status(status);
                        }
                    }
                    Heard::Outsider { pid, notice } if notice.ready => seen.outsider(pid),
                    Heard::Outsider { .. } => {}
                }
            },
            Self::Pipe(pipe) => pipe.wait().await.map_err(ReadinessError::Pipe)?,
        }
        Ok(())
    }

    /// Reads on until nothing more can come.
    async fn listen_on(&mut self, child: &Child) {
        match self {
            Self::After(_) | Self::Probe(..) => {}
            Self::Notify(socket) => loop {
                if let Err(error) = heard(socket, child).await {
                    tracing::warn!(pid = child.pid(), "{}", error_chain(&error));
                    tokio::time::sleep(ROUND).await;
                }
            },
            Self::Pipe(pipe) => {
                let Err(end) = pipe.drain().await;
                tracing::debug!(pid = child.pid(), "{end}");
            }
        }
    }
}

/// The next message of the process.
async fn heard(socket: &NotifySocket, child: &Child) -> Result<Heard, ReadinessError> {
    let heard = socket.next(child.pid()).await;
    let heard = heard.map_err(ReadinessError::Notify)?;
    match &heard {
        Heard::Notice(notice) => {
            if let Some(status) = &notice.status {
                tracing::debug!(pid = child.pid(), "the program says: {status}");
            }
            if notice.stopping {
                tracing::debug!(
                    pid = child.pid(),
                    "the program says that it is about to end"
                );
            }
        }
        Heard::Outsider { pid, .. } => tracing::debug!(
            sender = *pid,
            pid = child.pid(),
            "a notification of a process that is none of the program's"
        ),
    }
    Ok(heard)
}

/// How long a failing socket is left in peace.
const ROUND: Duration = Duration::from_secs(5);

impl fmt::Display for ReadinessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipe(_) => "waiting for its line",
            Self::Notify(_) => "could not receive its notifications",
        })
    }
}

impl Error for ReadinessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pipe(source) => Some(source),
            Self::Notify(source) => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_told_in_words() {
        let seen = Seen::nothing(&Readiness::Notify);
        let mut told = vec![seen.in_words()];
        seen.status("reading\u{1b} the index");
        told.push(seen.in_words());
        for pid in [4711, 0] {
            seen.outsider(pid);
            told.push(seen.in_words());
        }
        seen.status(&"x".repeat(10_000));
        assert!(seen.in_words().len() < 300);
        let address = ([127, 0, 0, 1], 9).into();
        let probe = Probe::tcp(address);
        let seen = Seen::nothing(&Readiness::Probe(Duration::from_secs(90), probe));
        told.push(seen.in_words());
        seen.answer(&ProbeError::Status {
            address,
            status: 503,
        });
        told.push(seen.in_words());
        insta::assert_snapshot!(told.join("\n"), @r"
        no READY=1 of its processes has come to NOTIFY_SOCKET
        no READY=1 of its processes has come to NOTIFY_SOCKET; it says `reading\u{1b} the index`
        the READY=1 that has come to NOTIFY_SOCKET is of process 4711, which is neither of its process group nor below it, so it does not count
        the READY=1 that has come to NOTIFY_SOCKET is of a process that cannot be seen, which is neither of its process group nor below it, so it does not count
        it has not run for 1m 30s yet
        127.0.0.1:9 answered with status 503; 200 to 399 is ready
        ");
    }
}
