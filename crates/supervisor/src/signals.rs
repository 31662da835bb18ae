//! The signals that a supervisor answers to.
//!
//! SIGPIPE is ignored, as in every Rust program: a closed log pipe is an error to the writer and no
//! reason to end. So is every other signal that would end a process although it tells of no fault of
//! it, SIGALRM for example: a stray one must not cut the requests of a whole host. They are ignored
//! in silence, because timers that a parent has left behind may send thousands. Children get the
//! default actions back.

use std::io;
use std::time::Duration;

use handover_process::{block_signals, ignore_stray_signals, unblock_signals};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::operator::Signal;

/// How long a request to end that comes again is the same one: 500 ms. Wrappers pass on what the process group has got
/// already, as `timeout` and `npm` do, and both come within milliseconds. It would cut what the first one lets finish.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// The requests to end, of which each means more than the one before.
#[derive(Debug, Default)]
struct Requests {
    counted: Option<Instant>,
}

impl Requests {
    /// Takes in one that comes `now`. Returns whether it is another one.
    fn count(&mut self, now: Instant) -> bool {
        let is_same = |counted| now.duration_since(counted) < SAME_REQUEST;
        if self.counted.is_some_and(is_same) {
            return false;
        }
        self.counted = Some(now);
        true
    }
}

/// The streams of these signals, from the moment they were made.
///
/// SIGTERM, SIGINT or SIGQUIT within 500 ms of the one before counts as the same request to end.
#[derive(Debug)]
pub struct Signals {
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
    requests: Requests,
}

impl Signals {
    /// Lets the signals that a supervisor answers to wait until they are [taken over](Self::take_over). Call
    /// it first of all: one that comes before would end the process, as a reload right after a start does
    /// otherwise.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn hold() -> io::Result<()> {
        let all = [
            Signal::Terminate,
            Signal::Interrupt,
            Signal::Quit,
            Signal::HangUp,
            Signal::User1,
            Signal::User2,
        ];
        block_signals(&all.map(handover_process::Signal::from))
    }

    /// Takes the signals over from the system's default actions, ignores those that would end this
    /// process for nothing, and lets in what the parent has blocked. Call it before any thread is
    /// started, because threads inherit what is blocked.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn take_over() -> io::Result<Self> {
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            drain_asked: false,
            first_end: None,
            requests: Requests::default(),
        };
        ignore_stray_signals();
        // Last: one that has waited would end the process if nobody had taken it over.
        unblock_signals()?;
        Ok(signals)
    }

    /// Returns a receiver that gets the first request to end in place of the supervisor.
    ///
    /// It is hidden because only `handover demo` needs it. That command must stop its clients before the
    /// proxy drains, or it would count its own end as lost requests. Another program keeps its signals and
    /// calls [`run_without_signals`](crate::Supervisor::run_without_signals).
    #[doc(hidden)]
    pub fn divert_first_end(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.first_end = Some(sender);
        receiver
    }

    /// Waits for the next request.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that has come is told by the next call.
    pub(crate) async fn next(&mut self) -> Signal {
        if std::mem::take(&mut self.drain_asked) {
            return Signal::User2;
        }
        self.undiverted().await
    }

    /// Waits for a request to end. A request to drain is kept for the supervisor that gets
    /// these signals. Others ask for what is about to happen anyway, as nothing runs yet.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal that has come is told by the next call.
    pub async fn end(&mut self) -> Signal {
        loop {
            match self.undiverted().await {
                signal @ (Signal::Terminate | Signal::Interrupt | Signal::Quit) => return signal,
                Signal::User2 => self.drain_asked = true,
                Signal::HangUp | Signal::User1 => {}
            }
        }
    }

    /// Waits for the next request that is for the supervisor.
    async fn undiverted(&mut self) -> Signal {
        loop {
            let signal = self.any().await;
            let first_end = match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Quit => {
                    if !self.requests.count(Instant::now()) {
                        tracing::info!(
                            "received {signal} within {SAME_REQUEST:?} of the signal before: both count as one"
                        );
                        continue;
                    }
                    self.first_end.take()
                }
                Signal::HangUp | Signal::User1 | Signal::User2 => None,
            };
            // One that nobody waits for any more goes to the supervisor.
            if first_end.is_none_or(|other| other.send(()).is_err()) {
                return signal;
            }
        }
    }

    async fn any(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.quit.recv() => Signal::Quit,
            _ = self.hang_up.recv() => Signal::HangUp,
            _ = self.user_1.recv() => Signal::User1,
            _ = self.user_2.recv() => Signal::User2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_again_at_once_is_the_same_one() {
        let mut requests = Requests::default();
        let begun = Instant::now();
        let times = [0, 1, 499, 500, 900, 999, 1_000, 5_000, 5_000];
        let counted = times.map(|time| requests.count(begun + Duration::from_millis(time)));
        let expected = [true, false, false, true, false, false, true, true, false];
        assert_eq!(counted, expected);
    }
}
