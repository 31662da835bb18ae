//! What a process asks its parent.
//!
//! Each question blocks the main thread until it is answered, as in Envoy. A parent that is gone is
//! tried ten times, once a second, and then the process aborts.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::log::{Level, Log};
use crate::sockets::{DomainSocket, Names, Role, SendError};
use crate::wire::{
    AdminShutDown, HotRestartMessage, Nothing, PassListenSocket, ReplyKind, RequestKind, Stats,
    request,
};

/// The child's end of the conversation.
#[derive(Debug)]
pub(crate) struct Child {
    names: Names,
    /// The restart epoch of the parent; none for the first process.
    parent: Option<u32>,
    socket: DomainSocket,
    /// How long it waits between tries.
    second: Duration,
}

/// Why the process cannot go on: the text of the failed assertion.
#[derive(Debug)]
pub(crate) struct ParentLost(pub(crate) String);

impl Child {
    pub(crate) fn new(names: Names, epoch: u32, socket: DomainSocket, second: Duration) -> Self {
        Self {
            names,
            parent: epoch.checked_sub(1),
            socket,
            second,
        }
    }

    /// Does without a parent if nobody has bound its address.
    pub(crate) fn skip_missing_parent(&mut self, log: &Log) {
        let Some(parent) = self.parent else { return };
        // A message without meaning: an empty frame is no request.
        let probe = HotRestartMessage::default();
        let to = (&self.names, Role::Parent, parent);
        if let Err(SendError::Refused(_)) = self.socket.send(to, &probe, None) {
            let text = "hot restart sendmsg() connection refused, falling back to regular restart";
            log.line(Level::Warning, "main", "hot_restarting_child.cc:96", text);
            self.parent = None;
        }
    }

    /// Asks the parent to close its admin endpoint. Nothing without a parent.
    pub(crate) fn shut_down_admin(
        &mut self,
        log: &Log,
    ) -> Result<Option<AdminShutDown>, ParentLost> {
        let answer = self.ask(RequestKind::ShutdownAdmin(Nothing {}), log)?;
        match answer {
            None => Ok(None),
            Some((Some(ReplyKind::ShutdownAdmin(shut_down)), _)) => Ok(Some(shut_down)),
            Some(_) => Err(ParentLost(
                "Hot restart parent did not respond as expected to ShutdownParentAdmin.".to_owned(),
            )),
        }
    }

    /// Asks the parent for the listening socket of a worker.
    pub(crate) fn listen_socket(
        &mut self,
        url: &str,
        worker: u32,
        log: &Log,
    ) -> Result<Option<OwnedFd>, ParentLost> {
        let asked = RequestKind::PassListenSocket(PassListenSocket {
            address: url.to_owned(),
            worker_index: worker,
        });
        Ok(self.ask(asked, log)?.and_then(|(_, passed)| passed))
    }

    /// Asks the parent for its statistics. Nothing without a parent.
    pub(crate) fn stats(&mut self, log: &Log) -> Result<Option<Stats>, ParentLost> {
        match self.ask(RequestKind::Stats(Nothing {}), log)? {
            None => Ok(None),
            Some((Some(ReplyKind::Stats(stats)), _)) => Ok(Some(stats)),
            Some(_) => Err(ParentLost(
                "Hot restart parent did not respond as expected to get stats request.".to_owned(),
            )),
        }
    }

    /// Tells the parent to drain. No answer is expected.
    pub(crate) fn drain_listeners(&mut self, log: &Log) -> Result<(), ParentLost> {
        self.tell(RequestKind::DrainListeners(Nothing {}), log)
    }

    /// Tells the parent to end, if that was not done. No answer is expected.
    pub(crate) fn terminate(&mut self, log: &Log) -> Result<(), ParentLost> {
        self.tell(RequestKind::Terminate(Nothing {}), log)?;
        self.parent = None;
        Ok(())
    }

    fn tell(&mut self, kind: RequestKind, log: &Log) -> Result<(), ParentLost> {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        let to = (&self.names, Role::Parent, parent);
        let sent = self
            .socket
            .send_patiently(to, &request(kind), self.second, log);
        sent.map_err(|error| {
            let errno = error.raw_os_error().unwrap_or_default();
            ParentLost(format!(
                "false. Details: hot restart sendmsg() failed: returned -1, errno {errno}"
            ))
        })
    }

    #[expect(
        clippy::type_complexity,
        reason = "the kind of a reply and a descriptor, here alone"
    )]
    fn ask(
        &mut self,
        kind: RequestKind,
        log: &Log,
    ) -> Result<Option<(Option<ReplyKind>, Option<OwnedFd>)>, ParentLost> {
        if self.parent.is_none() {
            return Ok(None);
        }
        self.tell(kind, log)?;
        loop {
            match self.socket.receive() {
                Ok(None) => {}
                Ok(Some((message, passed))) => {
                    return Ok(Some((message.reply.and_then(|reply| reply.kind), passed)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or_default();
                    return Err(ParentLost(format!(
                        "false. Details: hot restart recvmsg() failed: returned -1, errno {errno}"
                    )));
                }
            }
        }
    }
}

/// Ends the process by SIGABRT, with the words of a failed assertion.
pub(crate) fn abort(log: &Log, source: &str, assertion: &str) -> ! {
    let text = format!("assert failure: {assertion}");
    log.line(Level::Critical, "assert", source, &text);
    abort_quietly(log)
}

/// Ends the process by SIGABRT.
pub(crate) fn abort_quietly(log: &Log) -> ! {
    let text = "Caught Aborted, suspect faulting address 0x0";
    log.line(Level::Critical, "backtrace", "backtrace.h:173", text);
    leave_no_core();
    std::process::abort()
}

/// Keeps a crash that was asked for from leaving a file.
pub(crate) fn leave_no_core() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    let _only_a_file_more = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}
