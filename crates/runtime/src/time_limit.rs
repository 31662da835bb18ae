//! Time limits that do not conclude anything from a time in which this process did not run.
//!
//! A process that is stopped by a signal, paused with its container or moved to another machine finds
//! every time limit passed when it goes on. What was waited for may have happened long ago and only
//! not been heard of. So a limit that is noticed more than [`LATE`] after its moment is followed by a
//! look around: for [`LOOK_AROUND`] the wait goes on.
//!
//! Time is that of the monotonic clock. On Linux it stands still while a machine is suspended, so a
//! laptop that slept has missed nothing. It goes on while a process is stopped or a virtual machine is
//! paused by its host.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How late a limit is noticed at most by a process that has been running.
pub const LATE: Duration = Duration::from_millis(100);

/// How long the wait goes on after a limit that was missed, so that the world can be looked at.
///
/// It is shorter than the second by which the agent of `handover-tokio` puts its own deadlines off:
/// what is found meanwhile can still be reported to it.
pub const LOOK_AROUND: Duration = Duration::from_millis(900);

/// The future was not ready in time, and not when the world was looked at either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done within the time limit")]
pub struct TimedOut;

/// A time limit that is kept outside of the wait for it.
///
/// A wait that is given up and begun again, as in a loop around [`tokio::select!`], must not begin its limit
/// again, nor the look around after it. Otherwise whatever disturbs the wait puts the limit off for ever.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// use handover_runtime::time_limit::Limit;
/// use tokio::time::{Instant, interval};
///
/// let mut disturbances = interval(Duration::from_millis(2));
/// let mut limit = Limit::at(Instant::now() + Duration::from_millis(20));
/// loop {
///     tokio::select! {
///         () = limit.passed() => break,
///         _ = disturbances.tick() => {}
///     }
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    at: Instant,
    /// Whether the world is looked at because the limit was missed.
    looks_around: bool,
}

impl Limit {
    /// Returns the limit at this moment.
    #[must_use]
    pub fn at(at: Instant) -> Self {
        Self {
            at,
            looks_around: false,
        }
    }

    /// Waits until the limit has passed, and looks around once if it was missed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call goes on with the same wait.
    pub async fn passed(&mut self) {
        sleep_until(self.at).await;
        if !self.looks_around && was_missed(self.at) {
            self.looks_around = true;
            self.at = Instant::now() + LOOK_AROUND;
            sleep_until(self.at).await;
        }
    }
}

/// Waits until `at`, and looks around where that was missed.
///
/// # Cancel safety
///
/// Nothing is lost when the future is dropped. The look around begins again with the next call: use a [`Limit`]
/// for a wait that is disturbed often.
pub async fn until(at: Instant) {
    Limit::at(at).passed().await;
}

/// Returns whether a moment lies so far in the past that this process did not run when it came.
#[must_use]
pub fn was_missed(at: Instant) -> bool {
    at.elapsed() > LATE
}

/// Waits for the future until `at`. What is ready by then counts, however late that is noticed.
///
/// # Errors
///
/// [`TimedOut`] if the future is not ready by then.
///
/// # Cancel safety
///
/// As cancel safe as the future.
pub async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, TimedOut> {
    let mut future = pin!(future);
    tokio::select! {
        biased;
        output = &mut future => Ok(output),
        () = until(at) => Err(TimedOut),
    }
}

/// Waits for the future for at most `limit`; one too far away for the clock is none.
///
/// # Errors
///
/// [`TimedOut`] if the future is not ready by then.
///
/// # Cancel safety
///
/// As cancel safe as the future.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, TimedOut> {
    match Instant::now().checked_add(limit) {
        Some(at) => timeout_at(at, future).await,
        None => Ok(future.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::sync::oneshot;
    use tokio::time::{advance, sleep};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_noticed_in_time_is_just_that() {
        let started = Instant::now();
        assert_eq!(timeout(SECOND, pending::<()>()).await, Err(TimedOut));
        assert!(started.elapsed() < SECOND + LATE);
        assert_eq!(timeout(SECOND, async { 7 }).await, Ok(7));
        assert_eq!(timeout(Duration::MAX, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_shortly_after_a_gap_counts() {
        let (tell, told) = oneshot::channel();
        let waiting = tokio::spawn(timeout(SECOND, told));
        tokio::task::yield_now().await;
        // The process is stopped for a minute.
        advance(60 * SECOND).await;
        sleep(SECOND / 2).await;
        tell.send(7).expect("it still waits");
        assert_eq!(waiting.await.expect("no panic"), Ok(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_was_missed_once_it_is_later_than_a_running_process_is() {
        let at = Instant::now();
        assert!(!was_missed(at));
        advance(LATE).await;
        assert!(!was_missed(at));
        advance(Duration::from_millis(1)).await;
        assert!(was_missed(at));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_puts_a_limit_off_once() {
        let waiting = tokio::spawn(timeout(SECOND, pending::<()>()));
        tokio::task::yield_now().await;
        advance(60 * SECOND).await;
        let woke = Instant::now();
        assert_eq!(waiting.await.expect("no panic"), Err(TimedOut));
        assert!(woke.elapsed() <= LOOK_AROUND, "{:?}", woke.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_again_and_again_puts_its_limit_off_by_nothing() {
        let disturbed = async |mut limit: Limit| {
            let started = Instant::now();
            while timeout(LATE / 3, limit.passed()).await.is_err() {
                assert!(started.elapsed() < 3 * SECOND, "the wait has no end");
            }
            started.elapsed()
        };
        let took = disturbed(Limit::at(Instant::now() + SECOND)).await;
        assert!(took < SECOND + LATE, "{took:?}");
        let missed = Limit::at(Instant::now());
        advance(60 * SECOND).await;
        let took = disturbed(missed).await;
        assert!(took >= LOOK_AROUND && took < LOOK_AROUND + LATE, "{took:?}");
    }
}
