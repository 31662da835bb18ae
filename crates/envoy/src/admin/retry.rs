//! Trying until it works, by the delays of a retry policy.

use handover_retry::Delays;

/// Makes attempts until one succeeds or the delays are used up; the error is that of the last
/// attempt.
///
/// # Cancel safety
///
/// Dropping it drops the attempt that is under way, and nothing else is.
#[cfg(feature = "backoff")]
pub(super) async fn retry_until<T, E, F, A>(delays: Delays, mut attempt: F) -> Result<T, E>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, E>>,
{
    backoff::future::retry(delays, || {
        let attempt = attempt();
        async move { attempt.await.map_err(backoff::Error::transient) }
    })
    .await
}

/// The same without the `backoff` crate.
#[cfg(not(feature = "backoff"))]
pub(super) async fn retry_until<T, E, F, A>(mut delays: Delays, mut attempt: F) -> Result<T, E>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, E>>,
{
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_retry::Retry;
    use std::cell::Cell;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_waits_between_attempts_and_ends_with_the_last_error() {
        let started = tokio::time::Instant::now();
        let attempts = Cell::new(0);
        let delays = Retry::new(2, Duration::from_secs(1)).delays(0);
        let result: Result<(), u32> = retry_until(delays, || async {
            attempts.set(attempts.get() + 1);
            Err(attempts.get())
        })
        .await;
        assert_eq!(result, Err(3));
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_first_success() {
        let attempts = Cell::new(0);
        let result = retry_until(Retry::default().delays(0), || async {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 {
                Ok("done")
            } else {
                Err(())
            }
        })
        .await;
        assert_eq!((result, attempts.get()), (Ok("done"), 3));
    }
}
