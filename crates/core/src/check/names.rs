//! The record of a machine whose names have been changed.

use super::{Attempts, Checker, Exited, Watched};
use crate::{Machine, Names, Phase};

impl Checker {
    /// The record of [`Names::rename`]'s machine: with it, a checker goes on watching as if it had
    /// watched that one all the time. All outputs of the machine must have been taken.
    #[must_use]
    pub fn rename<C: Clone + Eq>(&self, machine: &Machine<C>, names: &Names<C>) -> Self {
        let is_running = machine.phase() == Phase::Running;
        let matters = matches!(machine.phase(), Phase::Running | Phase::Draining { .. });
        let attempts = |of| if is_running { of } else { Attempts::default() };
        let enough = machine.policy().retry.reset_after;
        let watched = |watched: &Watched| Watched {
            live: watched.live.map(|since| match enough {
                Some(enough) if is_running && !watched.superseded => {
                    // Health is a yes or no: what is longer than enough is enough.
                    let since = names.time(since);
                    let age = Names::<C>::NOW.since(since).min(enough);
                    crate::Timestamp::new(Names::<C>::NOW.elapsed().saturating_sub(age))
                }
                _ => Names::<C>::NOW,
            }),
            fallback: watched.fallback && is_running,
            released: watched.released && matters,
            ..*watched
        };
        let running = self.running.iter();
        Self {
            running: running
                .map(|(epoch, it)| (names.epoch(*epoch), watched(it)))
                .collect(),
            to_clean: self.to_clean.clone(),
            desired: attempts(self.desired),
            fallback: attempts(self.fallback),
            // It is written before it is read.
            last: Exited::default(),
            now: Names::<C>::NOW,
            restarting: self.restarting && is_running,
            terminated: self.terminated,
            undrained: self.undrained,
            drain_started: self.drain_started,
            panicked: self.panicked,
            finished: self.finished,
        }
    }
}
