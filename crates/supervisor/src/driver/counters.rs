//! What has happened, as numbers: a crash loop shows in them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use handover_core::{Epoch, EpochState, Event, Exit, Purpose};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::control::wire::Counters;

/// The numbers so far.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    started: AtomicU64,
    failed: AtomicU64,
    retries: AtomicU64,
    hand_overs: AtomicU64,
    /// The epochs that were not live in time. Such an epoch fails with its end, unless it goes live.
    late: Mutex<BTreeSet<Epoch>>,
}

impl Counted {
    /// Counts for as long as the agent runs.
    pub(crate) async fn follow(self: Arc<Self>, mut events: broadcast::Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.count(&event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!("{missed} events were not counted");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn count(&self, event: &Event) {
        let was_late = self.was_late(event);
        let counter = match event {
            Event::Started {
                purpose: Purpose::Desired | Purpose::Fallback,
                ..
            } => &self.started,
            Event::Exited { .. } if was_late => &self.failed,
            Event::Exited {
                exit: Exit::Failed(_),
                was,
                ..
            } if !matches!(was, EpochState::Aborting(_)) => &self.failed,
            Event::RetryScheduled { .. } => &self.retries,
            Event::Superseded { .. } => &self.hand_overs,
            Event::Started { .. }
            | Event::Exited { .. }
            | Event::Live { .. }
            | Event::StartTimedOut { .. }
            | Event::StoppedServing { .. }
            | Event::WokeLate { .. }
            | Event::GivesWay { .. }
            | Event::BudgetRefilled { .. }
            | Event::Held(_)
            | Event::Restarting
            | Event::GaveUp { .. }
            | Event::FallbackLost { .. }
            | Event::NotRestarted { .. }
            | Event::Draining { .. }
            | Event::DrainTimedOut
            | _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes which epochs are late, and returns whether this one was.
    fn was_late(&self, event: &Event) -> bool {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::StartTimedOut { epoch } = event {
            late.insert(*epoch);
        }
        if let Event::Live { epoch, .. } | Event::Exited { epoch, .. } = event {
            return late.remove(epoch);
        }
        false
    }

    pub(crate) fn get(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            started: read(&self.started),
            failed: read(&self.failed),
            retries: read(&self.retries),
            hand_overs: read(&self.hand_overs),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover_core::{Abort, Epoch, Severity};

    use super::*;

    #[test]
    fn an_epoch_that_was_not_live_in_time_counts_once_however_it_ends() {
        let counted = Counted::default();
        let epoch = Epoch::new(1);
        let aborting = EpochState::Aborting(Abort::Immediate);
        for (ended, was) in [EpochState::Starting, EpochState::Draining, aborting]
            .into_iter()
            .enumerate()
        {
            counted.count(&Event::StartTimedOut { epoch });
            assert_eq!(counted.get().failed, ended as u64);
            let exit = Exit::Failed(Severity::Transient);
            counted.count(&Event::Exited { epoch, exit, was });
            assert_eq!(counted.get().failed, ended as u64 + 1);
        }
    }

    #[test]
    fn an_epoch_that_goes_live_late_has_not_failed() {
        let counted = Counted::default();
        let epoch = Epoch::new(1);
        let after = Duration::from_secs(61);
        counted.count(&Event::StartTimedOut { epoch });
        counted.count(&Event::Live { epoch, after });
        counted.count(&Event::Exited {
            epoch,
            exit: Exit::Clean,
            was: EpochState::Draining,
        });
        assert_eq!(counted.get().failed, 0);
    }

    #[test]
    fn a_crash_loop_shows_and_a_drain_does_not_count() {
        let counted = Counted::default();
        let epoch = Epoch::ZERO;
        for _ in 0..3 {
            counted.count(&Event::Started {
                epoch,
                purpose: Purpose::Desired,
            });
            counted.count(&Event::Exited {
                epoch,
                exit: Exit::Failed(Severity::Transient),
                was: EpochState::Starting,
            });
            counted.count(&Event::RetryScheduled {
                purpose: Purpose::Desired,
                delay: Duration::ZERO,
                retries_left: 1,
            });
        }
        counted.count(&Event::Started {
            epoch,
            purpose: Purpose::Drain,
        });
        counted.count(&Event::Exited {
            epoch,
            exit: Exit::Clean,
            was: EpochState::Draining,
        });
        let expected = Counters {
            started: 3,
            failed: 3,
            retries: 3,
            hand_overs: 0,
        };
        assert_eq!(counted.get(), expected);
    }

    #[tokio::test]
    async fn it_counts_until_the_agent_has_ended_and_goes_on_after_events_that_it_missed() {
        let (sender, events) = broadcast::channel(2);
        let hand_over = || Event::Superseded {
            epoch: Epoch::ZERO,
            by: Epoch::new(1),
        };
        for _ in 0..3 {
            sender.send(hand_over()).unwrap();
        }
        drop(sender);
        let counted = Arc::new(Counted::default());
        Arc::clone(&counted).follow(events).await;
        assert_eq!(counted.get().hand_overs, 2);
    }
}
