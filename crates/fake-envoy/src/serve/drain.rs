//! When a response asks its client to close the connection.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::arguments::DrainStrategy;

/// Whether the process drains.
#[derive(Debug)]
pub(crate) struct Drain {
    strategy: DrainStrategy,
    /// How long a drain takes.
    time: Duration,
    state: Mutex<DrainState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct DrainState {
    since: Option<Instant>,
    health_failed: bool,
}

impl Drain {
    pub(crate) fn new(strategy: DrainStrategy, time: Duration) -> Self {
        Self {
            strategy,
            time,
            state: Mutex::default(),
        }
    }

    /// Begins to drain. A second call changes nothing.
    pub(crate) fn begin(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.since.get_or_insert_with(Instant::now);
    }

    /// Sets whether health checks fail on request.
    pub(crate) fn set_health_failed(&self, failed: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.health_failed = failed;
    }

    /// Returns whether health checks fail on request.
    pub(crate) fn health_failed(&self) -> bool {
        self.state().health_failed
    }

    /// Returns how long a drain takes.
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    /// Returns whether the next response closes its connection. `draw` is a number from 0 to below 1.
    pub(crate) fn closes(&self, draw: f64) -> bool {
        let state = self.state();
        let elapsed = state.since.map(|since| since.elapsed());
        state.health_failed || closes(self.strategy, self.time, elapsed, draw)
    }

    fn state(&self) -> DrainState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides for one response: the share that closes is that of the drain time that is over.
fn closes(strategy: DrainStrategy, time: Duration, elapsed: Option<Duration>, draw: f64) -> bool {
    match (elapsed, strategy) {
        (None, _) => false,
        (Some(_), DrainStrategy::Immediate) => true,
        (Some(elapsed), DrainStrategy::Gradual) => {
            elapsed >= time || draw * time.as_secs_f64() < elapsed.as_secs_f64()
        }
    }
}

/// Draws a number from 0 to below 1.
pub(crate) fn draw() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradual_drain_closes_a_growing_share_and_an_immediate_one_all() {
        let time = Duration::from_secs(10);
        let share = |strategy, elapsed| {
            let draws = (0..10).map(|tenth| f64::from(tenth) / 10.0);
            let elapsed = Some(Duration::from_secs(elapsed));
            draws
                .filter(|draw| closes(strategy, time, elapsed, *draw))
                .count()
        };
        let gradual = [0, 1, 5, 10, 99].map(|elapsed| share(DrainStrategy::Gradual, elapsed));
        assert_eq!(gradual, [0, 1, 5, 10, 10]);
        assert_eq!(share(DrainStrategy::Immediate, 0), 10);
        assert!(!closes(DrainStrategy::Immediate, time, None, 0.0));
    }

    #[test]
    fn failed_health_checks_close_every_connection() {
        let drain = Drain::new(DrainStrategy::Gradual, Duration::from_secs(1000));
        assert!(!drain.closes(0.0));
        drain.set_health_failed(true);
        assert!(drain.closes(0.999));
        drain.set_health_failed(false);
        assert!(!drain.closes(0.0));
        drain.begin();
        assert!(!drain.closes(0.999));
    }
}
