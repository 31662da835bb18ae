//! The record of a machine whose names have been changed.

use super::{Attempts, Checker, Exited, Watched};
use crate::{Machine, Names, Phase, Timestamp};

impl Checker {
    /// Returns the checker for the machine of [`Names::rename`]. It continues as if it had watched
    /// that machine from the start. Take all outputs of the machine before you call this.
    #[must_use]
    pub fn rename<C: Clone + Eq>(&self, machine: &Machine<C>, names: &Names<C>) -> Self {
        let is_running = machine.phase() == Phase::Running;
        let matters = matches!(machine.phase(), Phase::Running | Phase::Draining { .. });
        let attempts = |of| if is_running { of } else { Attempts::default() };
        let enough = machine.policy().retry.reset_after;
        let counts = |watched: &Watched| enough.is_some() && is_running && watched.may_serve();
        let watched = |watched: &Watched| Watched {
            live: watched.live.map(|since| {
                // What was missed is put off, however long ago it was due.
                let span = enough.filter(|_| counts(watched) && !watched.trusted);
                span.map_or(Names::<C>::NOW, |span| {
                    let end = since.after(span);
                    let end = self.woke.filter(|woke| end <= *woke).unwrap_or(end);
                    let end = names.time(end).elapsed();
                    Timestamp::new(end.saturating_sub(span))
                })
            }),
            trusted: watched.trusted && counts(watched),
            fallback: watched.fallback && is_running,
            released: watched.released && matters,
            retired: watched.retired && watched.aborted.is_none(),
            contested: watched.contested && is_running && watched.may_serve(),
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
            woke: self
                .woke
                .filter(|woke| names.is_now(*woke) || machine.looks_around_until().is_some())
                .map(|at| names.time(at)),
            restarting: self.restarting && is_running,
            renewing: self.renewing && is_running,
            urgency: self.urgency,
            undrained: self.undrained,
            drain_started: self.drain_started,
            panicked: self.panicked,
            finished: self.finished,
        }
    }
}
