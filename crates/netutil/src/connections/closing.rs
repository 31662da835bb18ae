//! Closing connections of other processes, and no others.

use std::collections::BTreeMap;
use std::fs::read_link;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::{Connection, directory, ended};
use crate::sock_diag::{Kernel, SocketId};

/// What became of connections that were to be closed.
#[derive(Debug, Default)]
pub struct Closing {
    /// How many the kernel has ended at once, by `SOCK_DESTROY`. Each peer is sent a reset.
    pub destroyed: u64,
    /// Those that were shut down in both directions. The process reads their end, and has to let go of
    /// them: see [`still_held`].
    pub shut_down: Vec<Connection>,
    /// How many had ended before.
    pub gone: u64,
    /// How many could not be closed.
    pub refused: u64,
    /// How many were not reached before the time was over.
    pub late: u64,
    /// Why the first one could not be closed.
    pub error: Option<CloseError>,
}

/// Why a connection could not be closed: neither way is open.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}, and process {pid} does not let its sockets be copied (pidfd_getfd: {copy}); give handover the \
     capability CAP_NET_ADMIN, or CAP_SYS_PTRACE, or run it as the user of that process with \
     kernel.yama.ptrace_scope at most 1",
    without_destroy(.destroy.as_ref())
)]
#[non_exhaustive]
pub struct CloseError {
    /// The process that has the connection.
    pub pid: u32,
    /// Why the kernel does not destroy it; nothing where it cannot be asked.
    pub destroy: Option<io::Error>,
    /// Why no copy of the socket can be made, through which it would be shut down.
    pub copy: io::Error,
}

fn without_destroy(error: Option<&io::Error>) -> String {
    match error {
        Some(error) => format!("the kernel does not close the connection (SOCK_DESTROY: {error})"),
        None => "the kernel can close TCP connections of handover's own network namespace only"
            .to_owned(),
    }
}

/// Closes these connections, until the time is over.
///
/// At the moment of closing, each socket must still be open in the process in which it was seen.
/// Otherwise it counts as gone, and nothing is done: a descriptor or a port may be another connection's
/// by then. TCP connections are destroyed by the kernel where that is allowed. Otherwise the socket is
/// copied and shut down, which Unix sockets always are. It blocks meanwhile.
#[must_use]
pub fn close(connections: Vec<Connection>, until: Instant) -> Closing {
    let kernel = Kernel::open();
    Closer {
        destroy: match kernel {
            Ok(kernel) => Destroy::ByKernel(kernel),
            Err(error) => Destroy::Refused(error),
        },
        processes: BTreeMap::new(),
        closing: Closing::default(),
    }
    .close(connections, until)
}

/// Returns how many of these connections their process still holds.
#[must_use]
pub fn still_held(connections: &[Connection]) -> u64 {
    let held = connections.iter().filter(|connection| is_open(connection));
    held.fold(0, |count, _| count + 1)
}

/// Whether the descriptor still is that of this socket.
fn is_open(connection: &Connection) -> bool {
    let link = format!("fd/{}", connection.descriptor);
    let target = read_link(directory(connection.pid).join(link));
    target.is_ok_and(|target| {
        target.to_str() == Some(format!("socket:[{}]", connection.inode).as_str())
    })
}

/// Whether the kernel destroys sockets for us.
enum Destroy {
    ByKernel(Kernel),
    Refused(io::Error),
}

struct Closer {
    destroy: Destroy,
    processes: BTreeMap<u32, Result<OwnedFd, Errno>>,
    closing: Closing,
}

/// What became of one.
enum Closed {
    Destroyed,
    ShutDown,
    Gone,
    Refused(CloseError),
}

impl Closer {
    fn close(mut self, connections: Vec<Connection>, until: Instant) -> Closing {
        for connection in connections {
            if Instant::now() >= until {
                self.closing.late += 1;
                continue;
            }
            match self.close_one(&connection) {
                Closed::Destroyed => self.closing.destroyed += 1,
                Closed::ShutDown => self.closing.shut_down.push(connection),
                Closed::Gone => self.closing.gone += 1,
                Closed::Refused(error) => {
                    self.closing.refused += 1;
                    self.closing.error.get_or_insert(error);
                }
            }
        }
        self.closing
    }

    fn close_one(&mut self, connection: &Connection) -> Closed {
        let pid = connection.pid;
        let process = self.processes.entry(pid).or_insert_with(|| {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())
        });
        // The process was opened first. So what is seen of it is its own if it runs after that.
        let is_open = is_open(connection);
        let runs = match process {
            Ok(process) if ended(process) == Some(false) => true,
            Ok(_) | Err(Errno::SRCH) => return Closed::Gone,
            // It cannot be told, so nothing is done that would need it.
            Err(_) => false,
        };
        if !is_open {
            return Closed::Gone;
        }
        let destroyed = match &connection.id {
            Some(id) if runs => self.destroy(id),
            _ => None,
        };
        match destroyed {
            Some(Ok(())) => return Closed::Destroyed,
            Some(Err(Errno::NOENT)) => return Closed::Gone,
            Some(Err(_)) | None => {}
        }
        let process = self.processes.get(&pid);
        let copied = process.map_or(Err(Errno::SRCH), |process| {
            let process = process.as_ref().map_err(|error| *error)?;
            pidfd_getfd(process, connection.descriptor, PidfdGetfdFlags::empty())
        });
        let copy = match copied {
            Ok(copy) => copy,
            // The process has ended, or has just closed it.
            Err(Errno::SRCH | Errno::BADF) => return Closed::Gone,
            Err(copy) => {
                let destroy = match &self.destroy {
                    Destroy::Refused(error) if connection.id.is_some() => {
                        Some(io::Error::new(error.kind(), error.to_string()))
                    }
                    Destroy::Refused(_) | Destroy::ByKernel(_) => None,
                };
                let copy = copy.into();
                return Closed::Refused(CloseError { pid, destroy, copy });
            }
        };
        // The descriptor may have become another socket's since it was looked at.
        let is_the_same = fstat(&copy).is_ok_and(|stat| stat.st_ino == connection.inode);
        if is_the_same && shutdown(&copy, Shutdown::Both).is_ok() {
            Closed::ShutDown
        } else {
            Closed::Gone
        }
    }

    /// Lets the kernel destroy a socket; nothing where it has refused one before.
    fn destroy(&mut self, id: &SocketId) -> Option<Result<(), Errno>> {
        let Destroy::ByKernel(kernel) = &self.destroy else {
            return None;
        };
        let error = match kernel.destroy(id) {
            Ok(()) => return Some(Ok(())),
            Err(error) => error,
        };
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
        if errno != Errno::NOENT {
            self.destroy = Destroy::Refused(error);
        }
        Some(Err(errno))
    }
}
