//! Waits that end: each has a limit, and its failure says what was waited for.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at something the kernel cannot announce, such as an admin endpoint's state.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Returns what `future` gives, within `limit`.
///
/// `what` completes the sentence "waited in vain for ...".
///
/// # Panics
///
/// When `limit` passes first.
///
/// # Cancel safety
///
/// As cancel safe as `future`, which is dropped with it.
pub async fn within<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// Looks every 10 ms until `look` finds something, and returns that.
///
/// It blocks the calling thread: the load, the backend and the log readers have threads of their
/// own, so they are not disturbed.
///
/// # Panics
///
/// When `limit` passes first.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    match poll(limit, look) {
        Some(found) => found,
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// Looks every 10 ms until `look` finds something; `None` when `limit` passes first. It looks at
/// least once, also with a limit of zero.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_looks_once_even_without_time() {
        assert_eq!(poll(Duration::ZERO, || Some(1)), Some(1));
        assert_eq!(poll(Duration::ZERO, || None::<()>), None);
    }

    #[test]
    fn a_wait_goes_on_until_something_is_found() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(10), "the third look", || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "in vain for a future that never ends")]
    async fn a_future_that_takes_too_long_is_named() {
        let forever = std::future::pending::<()>();
        within(
            Duration::from_millis(1),
            "a future that never ends",
            forever,
        )
        .await;
    }
}
