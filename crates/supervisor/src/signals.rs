//! The signals that the supervisor answers to.
//!
//! SIGPIPE is ignored, as in every Rust program: a closed log pipe is an error to the writer and no
//! reason to end. So is every other signal that would end a process although it tells of no fault of
//! it, SIGALRM for example: a stray one must not cut the requests of a whole host. They are ignored
//! in silence, because timers that a parent has left behind may send thousands. Children get the
//! default actions back.

use std::io;

use handover_process::{Signal, ignore_stray_signals, unblock_signals};
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
    /// To let health checks fail, as `handover drain` does.
    Drain,
}

/// The streams of these signals, from the moment they were made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    quit: Stream,
    hang_up: Stream,
    user_1: Stream,
    user_2: Stream,
    /// Whether a drain was asked for that nobody has heard of.
    drain_asked: bool,
    /// Who hears of the first request to end instead of the supervisor.
    first_end: Option<oneshot::Sender<()>>,
}

impl Signals {
    /// Takes the signals over from the system's default actions, ignores those that would end this
    /// process for nothing, and lets in what the parent has blocked. Call it before any thread is
    /// started, because threads inherit what is blocked.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn take_over() -> io::Result<Self> {
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            drain_asked: false,
            first_end: None,
        };
        ignore_stray_signals();
        // Last: one that has waited would end the process if nobody had taken it over.
        unblock_signals()?;
        Ok(signals)
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
        if std::mem::take(&mut self.drain_asked) {
            return Request::Drain;
        }
        self.undiverted().await
    }

    /// Waits for a request to end. A request to drain is kept for [`Signals::next`]. Others that come
    /// before anything runs ask for what is about to happen anyway.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that has come is told by the next call.
    pub(crate) async fn end(&mut self) -> Signal {
        loop {
            match self.undiverted().await {
                Request::End(signal) => return signal,
                Request::Drain => self.drain_asked = true,
                Request::Next | Request::Forward(_) => {}
            }
        }
    }

    /// Waits for the next request that is for the supervisor.
    async fn undiverted(&mut self) -> Request {
        loop {
            let request = self.any().await;
            let first_end = match request {
                Request::End(_) => self.first_end.take(),
                Request::Next | Request::Forward(_) | Request::Drain => None,
            };
            // One that nobody waits for any more goes to the supervisor.
            if first_end.is_none_or(|other| other.send(()).is_err()) {
                return request;
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
            _ = self.user_2.recv() => Request::Drain,
        }
    }
}
