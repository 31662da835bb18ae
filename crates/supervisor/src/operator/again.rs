//! What failed for lack of something is tried again without anybody asking. Descriptors, processes,
//! memory and room on a disk come back, and no changed file tells of it.

use core::time::Duration;

use handover_core::{Standing, Timestamp};

use super::{Again, Deadline, DeadlineReason, Event, Next, Operator};

/// The pause before the first further try; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Attempt {
    what: Again,
    /// When it failed.
    since: Timestamp,
    pause: Duration,
}

/// The pause before the next further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Plans to try this again after the next pause.
    pub(super) fn plan(&mut self, what: Again) {
        let Pause(pause) = self.pause;
        self.attempt = Some(Attempt {
            what,
            since: self.now,
            pause,
        });
        self.pause = Pause(LONGEST_PAUSE.min(pause.saturating_mul(2)));
    }

    pub(super) fn attempt_deadline(&self) -> Option<Deadline> {
        let attempt = self.attempt?;
        Some(Deadline {
            at: attempt.since.after(attempt.pause),
            reason: DeadlineReason::Again(attempt.what),
        })
    }

    pub(super) fn try_again(&mut self, what: Again) {
        self.attempt = None;
        self.event(Event::TriesAgain(what));
        match what {
            Again::Read => self.read(Next::IfDifferent, false),
            Again::Start => self.read(Next::Renew, false),
        }
    }

    /// Rule: a configuration that was given up for lack of something is tried again, and pauses are
    /// short again once it is live.
    ///
    /// A read or a change that is under way is newer than what the agent has given up.
    pub(super) fn notice_a_shortage(&mut self) {
        match self.agent.standing {
            // The further try itself may be under way.
            Standing::Live(_) if self.attempt.is_none() && self.read.is_none() => {
                self.pause = Pause::default();
            }
            Standing::GivenUp(epoch) => {
                let is_newest = self.read.is_none() && self.change.is_none_or(|open| open.taken_in);
                let tries_start = self
                    .attempt
                    .is_some_and(|attempt| attempt.what == Again::Start);
                let shortage = self.agent.shortage.as_ref();
                if let Some(shortage) = shortage.filter(|shortage| shortage.epoch == epoch)
                    && is_newest
                    && !tries_start
                    && !self.is_ending()
                {
                    let what = shortage.what.clone();
                    self.event(Event::Short(what));
                    self.plan(Again::Start);
                }
            }
            Standing::Live(_)
            | Standing::Nothing
            | Standing::Pending(_)
            | Standing::NotRestarted
            | Standing::Ending => {}
        }
    }
}
