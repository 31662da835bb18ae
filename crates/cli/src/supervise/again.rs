//! What failed for lack of something is tried again without anybody asking: descriptors, processes,
//! memory and room on a disk come back, and no changed file tells of it.

use std::future::pending;
use std::time::Duration;

use handover_core::Standing;
use handover_runtime::Shortage;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Desk;
use crate::operate::Operate;
use crate::source::Source;

/// The pause before the first further try; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is tried again, and when.
#[derive(Debug)]
pub(super) struct Again {
    due: Option<(What, Instant)>,
    pause: Duration,
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Reading the configuration from them.
    Read,
    /// Starting what was read.
    Start,
}

impl Default for Again {
    fn default() -> Self {
        Self {
            due: None,
            pause: FIRST_PAUSE,
        }
    }
}

impl Again {
    /// Tries this again after the next pause.
    pub(super) fn plan(&mut self, what: What) {
        self.due = Some((what, Instant::now() + self.pause));
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
    }

    /// Forgets what was planned: something newer takes its place.
    pub(super) fn cancel(&mut self) {
        self.due = None;
    }

    /// Begins with short pauses again, if nothing is planned.
    fn succeeded(&mut self) {
        if self.due.is_none() {
            self.pause = FIRST_PAUSE;
        }
    }

    /// Waits until something is to be tried again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn due(&mut self) -> What {
        let Some((what, at)) = self.due else {
            return pending().await;
        };
        sleep_until(at).await;
        self.due = None;
        what
    }
}

impl<P, S> Desk<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// Plans to try again what was given up for lack of something.
    pub(super) fn notice_shortage(&mut self) {
        if matches!(self.again.due, Some((What::Start, _))) {
            return;
        }
        let shortage = {
            let status = self.handle.status();
            let status = status.borrow();
            let failure = status.last_failure.as_ref();
            match status.standing {
                Standing::Live(_) => {
                    self.again.succeeded();
                    return;
                }
                Standing::GivenUp(epoch) => failure
                    .filter(|failure| failure.epoch == epoch)
                    .and_then(|failure| Shortage::of(&*failure.error)),
                Standing::Nothing | Standing::Pending(_) | Standing::Stayed | Standing::Ending => {
                    None
                }
            }
        };
        if let Some(shortage) = shortage {
            warn!(
                "there is too little of: {shortage}; {} is tried again later",
                self.source.name()
            );
            self.again.plan(What::Start);
        }
    }

    /// Tries again what is due.
    pub(super) fn try_again(&mut self, what: What) {
        match what {
            What::Read => self.begin_to_read(),
            What::Start => {
                info!("trying {} again", self.source.name());
                self.renewal_is_due = true;
                self.begin_to_read();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_up_to_a_limit_and_begin_anew_after_a_success() {
        let mut again = Again::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(again.pause.as_secs());
            again.plan(What::Read);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        again.succeeded();
        assert_eq!(again.pause, LONGEST_PAUSE);
        again.cancel();
        again.succeeded();
        assert_eq!(again.pause, FIRST_PAUSE);
    }
}
