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

/// What the parent answers: the kind of the reply, and the descriptor that came along.
type Answer = (Option<ReplyKind>, Option<OwnedFd>);

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

    /// Returns whether there is a parent that was not told to end yet.
    pub(crate) fn has_parent(&self) -> bool {
        self.parent.is_some()
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
        let answer = self.ask(RequestKind::Stats(Nothing {}), log)?;
        answer.map(stats_of).transpose()
    }

    /// Asks the parent for its statistics, if they are wanted, and tells it to drain. Nothing without a parent.
    ///
    /// `take_over` is called as soon as both messages are on their way, before the answer is waited for. It is
    /// called earlier if nobody has bound the address of the parent: then nobody else serves.
    pub(crate) fn hand_over(
        &mut self,
        wants_stats: bool,
        take_over: impl Fn(),
        log: &Log,
    ) -> Result<Option<Stats>, ParentLost> {
        let stats = wants_stats.then_some(RequestKind::Stats(Nothing {}));
        let drain = RequestKind::DrainListeners(Nothing {});
        for kind in stats.into_iter().chain([drain]) {
            let Some(parent) = self.parent else { break };
            let to = (&self.names, Role::Parent, parent);
            if self.socket.send(to, &request(kind.clone()), None).is_err() {
                take_over();
                self.tell(kind, log)?;
            }
        }
        take_over();
        if self.parent.is_none() || !wants_stats {
            return Ok(None);
        }
        stats_of(self.answer()?).map(Some)
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

    fn ask(&mut self, kind: RequestKind, log: &Log) -> Result<Option<Answer>, ParentLost> {
        if self.parent.is_none() {
            return Ok(None);
        }
        self.tell(kind, log)?;
        self.answer().map(Some)
    }

    fn answer(&mut self) -> Result<Answer, ParentLost> {
        loop {
            match self.socket.receive() {
                Ok(None) => {}
                Ok(Some((message, passed))) => {
                    return Ok((message.reply.and_then(|reply| reply.kind), passed));
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

fn stats_of(answer: Answer) -> Result<Stats, ParentLost> {
    match answer {
        (Some(ReplyKind::Stats(stats)), _) => Ok(stats),
        _ => Err(ParentLost(
            "Hot restart parent did not respond as expected to get stats request.".to_owned(),
        )),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply;

    /// Two processes whose base id no other test takes.
    fn names(number: u32) -> Names {
        Names {
            path: "@envoy_domain_socket".to_owned(),
            mode: 0o600,
            base_id: std::process::id() % 100_000 * 10 + number + 301_000_000,
        }
    }

    fn child(names: &Names) -> Child {
        let socket = DomainSocket::bind(names, Role::Child, 1).unwrap();
        Child::new(names.clone(), 1, socket, Duration::ZERO)
    }

    /// A connection that the child accepts before is lost with it: its parent would go on as if nothing was.
    #[test]
    fn a_child_takes_over_once_its_parent_has_been_told_to_drain() {
        let names = names(1);
        let parent = DomainSocket::bind(&names, Role::Parent, 0).unwrap();
        parent.set_nonblocking().unwrap();
        let parent = std::cell::RefCell::new(parent);
        let take_over = || {
            let mut parent = parent.borrow_mut();
            let mut told = || {
                let (message, _) = parent.receive().unwrap().unwrap();
                message.request.unwrap().kind.unwrap()
            };
            assert_eq!(told(), RequestKind::Stats(Nothing {}));
            assert_eq!(told(), RequestKind::DrainListeners(Nothing {}));
            // The parent answers later: the child does not wait with its clients for that.
            let stats = reply(ReplyKind::Stats(Stats::default()));
            parent.send((&names, Role::Child, 1), &stats, None).unwrap();
        };
        let log = Log::new("off");
        let stats = child(&names).hand_over(true, take_over, &log).unwrap();
        assert_eq!(stats, Some(Stats::default()));
    }

    #[test]
    fn a_child_whose_parent_is_gone_takes_over_before_it_gives_up() {
        let taken = std::cell::Cell::new(false);
        let log = Log::new("off");
        let lost = child(&names(2)).hand_over(true, || taken.set(true), &log);
        assert!(taken.get());
        let ParentLost(text) = lost.unwrap_err();
        assert!(text.ends_with("errno 111"), "{text}");
    }
}
