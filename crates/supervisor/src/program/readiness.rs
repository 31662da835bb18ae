//! How a program is known to serve.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use handover_process::ready::{Notice, NotifySocket, Probe, ReadyPipe, ReadyPipeError};
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
    /// Tells once that the process is ready, or why it will not be, and then goes on reading what it
    /// has to say. A program that speaks to a closed socket fails, and one that speaks to a full one
    /// waits. Whether it still runs is for the caller to watch, and so is the time.
    pub(super) async fn listen(
        &mut self,
        child: &Child,
        ready: oneshot::Sender<Result<(), ReadinessError>>,
    ) -> Infallible {
        let is_ready = self.wait(child).await;
        let failed = is_ready.is_err();
        // Whoever was to hear it has seen the end of the process.
        let _ended = ready.send(is_ready);
        if !failed {
            self.listen_on(child).await;
        }
        std::future::pending().await
    }

    /// Waits until the process is ready.
    async fn wait(&mut self, child: &Child) -> Result<(), ReadinessError> {
        match self {
            Self::After(span) => tokio::time::sleep(*span).await,
            Self::Probe(span, probe) => {
                tokio::time::sleep(*span).await;
                while let Err(error) = probe.until_ready(ROUND).await {
                    tracing::debug!(pid = child.pid(), "still not ready: {error}");
                }
            }
            Self::Notify(socket) => while !heard(socket, child).await?.ready {},
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
async fn heard(socket: &NotifySocket, child: &Child) -> Result<Notice, ReadinessError> {
    let notice = socket.next(child.pid()).await;
    let notice = notice.map_err(ReadinessError::Notify)?;
    if let Some(status) = &notice.status {
        tracing::debug!(pid = child.pid(), "the program says: {status}");
    }
    if notice.stopping {
        tracing::debug!(
            pid = child.pid(),
            "the program says that it is about to end"
        );
    }
    Ok(notice)
}

/// How long a probe is asked before the last reason is logged, and a failing socket left in peace.
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
