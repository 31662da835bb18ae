//! How a process is asked to end: by one signal, or by several after one another.

use std::future::Future;
use std::time::Duration;

use handover_process::{ExitCause, Reach, Signal, Stop, Stopped, WaitError};
use handover_runtime::time_limit::{TimedOut, timeout_at, was_missed};
use thiserror::Error;
use tokio::time::Instant;

use super::process::Process;

/// The signals that ask a process to end, each with the time after which it is sent.
///
/// Many servers finish their requests at one signal, and end at once at another one. So a process can be asked
/// gently first, and then less so, before it is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSteps(Vec<(Signal, Duration)>);

/// Why steps are none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StopStepsError {
    /// There is no step.
    #[error("there is no signal: give at least one")]
    Empty,

    /// A step is not after the one before it.
    #[error("{signal} is to be sent after {}, which is not after the step before it: put the steps in order", humantime::format_duration(*.after))]
    Order {
        /// The signal of the step.
        signal: Signal,
        /// Its time.
        after: Duration,
    },
}

impl From<Signal> for StopSteps {
    /// One signal, sent at once.
    fn from(signal: Signal) -> Self {
        Self(vec![(signal, Duration::ZERO)])
    }
}

impl StopSteps {
    /// Returns these steps: each signal is sent so long after the process is told to end.
    ///
    /// # Errors
    ///
    /// If there is none, or one does not come after the one before it.
    pub fn new(
        steps: impl IntoIterator<Item = (Signal, Duration)>,
    ) -> Result<Self, StopStepsError> {
        let steps: Vec<_> = steps.into_iter().collect();
        if steps.is_empty() {
            return Err(StopStepsError::Empty);
        }
        let pairs = steps.iter().zip(steps.iter().skip(1));
        for ((_, before), (signal, after)) in pairs {
            if after <= before {
                let (signal, after) = (*signal, *after);
                return Err(StopStepsError::Order { signal, after });
            }
        }
        Ok(Self(steps))
    }

    /// Returns the steps in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Signal, Duration)> {
        self.0.iter().copied()
    }

    /// The signal that asks most firmly: the last one.
    pub(super) fn firmest(&self) -> Signal {
        self.0.last().map_or(Signal::TERM, |(signal, _)| *signal)
    }

    /// Sends the signals until the child has ended, and kills it once `grace` has passed.
    ///
    /// # Errors
    ///
    /// When its end cannot be seen.
    ///
    /// # Cancel safety
    ///
    /// Dropping it sends no further signal.
    pub(super) async fn stop(
        &self,
        process: Process<'_>,
        grace: Duration,
    ) -> Result<Stopped, WaitError> {
        let mut steps = Steps::begin();
        let child = process.child;
        let (last, earlier) = match self.0.split_last() {
            Some((last, earlier)) => (*last, earlier),
            None => ((Signal::TERM, Duration::ZERO), &[][..]),
        };
        for (signal, after) in earlier.iter().filter(|(_, after)| *after <= grace) {
            if let Ok(cause) = steps.before(*after, child.wait()).await {
                return ended(cause);
            }
            // A child that has ended needs no signal, and one that was stopped must go on to notice it.
            if child.signal(*signal).is_ok() {
                drop(child.signal(Signal::CONT));
            }
        }
        let (signal, after) = last;
        if let Ok(cause) = steps.before(after.min(grace), child.wait()).await {
            return ended(cause);
        }
        if after > grace {
            return process.kill().await;
        }
        let stop = Stop {
            signal,
            reach: Reach::Child,
            grace: Duration::MAX,
        };
        match steps.before(grace, child.stop(stop)).await {
            Ok(stopped) => stopped,
            Err(_) => process.kill().await,
        }
    }
}

/// The times of the steps, from the first one on.
struct Steps {
    begun: Instant,
}

impl Steps {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
        }
    }

    /// Waits for the future until a step is due. If that was missed because this process did not run, the later steps keep
    /// their distance from it: the child was asked less firmly for no shorter time than was meant.
    async fn before<F: Future>(
        &mut self,
        after: Duration,
        future: F,
    ) -> Result<F::Output, TimedOut> {
        let Some(at) = self.begun.checked_add(after) else {
            return Ok(future.await);
        };
        let waited = timeout_at(at, future).await;
        if was_missed(at) {
            self.begun += at.elapsed();
        }
        waited
    }
}

/// A child that was not killed.
fn ended(cause: Result<ExitCause, WaitError>) -> Result<Stopped, WaitError> {
    Ok(Stopped {
        cause: cause?,
        forced: false,
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use handover_runtime::time_limit::LATE;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn later_steps_keep_their_distance_from_one_that_was_missed() {
        let seconds = Duration::from_secs;
        let mut steps = Steps::begin();
        let waited = steps.before(seconds(5), pending::<()>()).await;
        assert_eq!(waited, Err(TimedOut));
        // This process is stopped for a minute, and goes on while the next step is due.
        let begun = Instant::now();
        let (told, waited) = tokio::join!(
            async { advance(seconds(60)).await },
            steps.before(seconds(8), pending::<()>())
        );
        assert_eq!((told, waited), ((), Err(TimedOut)));
        assert!(begun.elapsed() >= seconds(60));
        let begun = Instant::now();
        let waited = steps.before(seconds(10), pending::<()>()).await;
        assert_eq!(waited, Err(TimedOut));
        let distance = begun.elapsed();
        assert!(
            distance >= seconds(2) && distance < seconds(2) + LATE,
            "{distance:?}"
        );
        // What takes as long as it takes has no limit.
        assert_eq!(steps.before(Duration::MAX, async { 7 }).await, Ok(7));
    }
}
