//! The signals that the supervisor answers to.
//!
//! SIGPIPE is ignored, as in every Rust program: a closed log pipe is an error to the writer and no
//! reason to end. Children get the default action back.

use std::io;

use handover_tokio::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// To drain and end; once more, to end sooner.
    End(Signal),
    /// To start the next epoch.
    Next,
    /// To pass the signal on to the process of every epoch.
    Forward(Signal),
}

/// The streams of these signals, from the moment they were made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    quit: Stream,
    hang_up: Stream,
    user_1: Stream,
    /// Who hears of the first request to end instead of the supervisor.
    first_end: Option<oneshot::Sender<()>>,
}

impl Signals {
    /// Takes the signals over from the system's default actions.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn take_over() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            first_end: None,
        })
    }

    /// Lets somebody else hear of the first request to end, who has something to finish before the
    /// supervisor may begin with it.
    pub(crate) fn divert_first_end(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.first_end = Some(sender);
        receiver
    }

    /// Waits for the next request.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that has come is told by the next call.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            let request = self.any().await;
            let first_end = match request {
                Request::End(_) => self.first_end.take(),
                Request::Next | Request::Forward(_) => None,
            };
            // One that nobody waits for any more goes to the supervisor.
            if first_end.is_none_or(|other| other.send(()).is_err()) {
                return request;
            }
        }
    }

    /// Waits for a request to end. Others that come before anything runs ask for what is about to
    /// happen anyway.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that has come is told by the next call.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            if let Request::End(signal) = self.next().await {
                return signal;
            }
        }
    }

    async fn any(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::End(Signal::TERM),
            _ = self.interrupt.recv() => Request::End(Signal::INT),
            _ = self.quit.recv() => Request::End(Signal::QUIT),
            _ = self.hang_up.recv() => Request::Next,
            _ = self.user_1.recv() => Request::Forward(Signal::USR1),
        }
    }
}
