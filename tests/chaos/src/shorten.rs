//! Repeats parts of a list that has failed, until the time for it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::run;
use crate::setup::Setup;
use crate::shrink::{self, Tries};
use crate::step::Step;
use crate::summary::{Done, Outcome};
use crate::violation::Kind;

/// How often a part is repeated in one try. Moments are not repeated exactly. Most of the time of a run is waited, so
/// these runs beside each other take little more time than one.
const REPEATS: u64 = 3;

/// What a run takes beside its steps, until the first one was measured.
const BEGIN: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortened {
    /// The shortest list that was seen to fail; `None` if no part failed again.
    pub shortest: Option<Vec<Step>>,
    /// Of how many runs it failed how often, when it was repeated at the end. Both are zero if no time was left.
    pub again: (u64, u64),
    /// How many runs were made.
    pub runs: u64,
    /// How long all of it took.
    pub took: Duration,
}

/// Looks for a short list of steps that breaks the same invariant as a failed run, for as long as `limit`.
///
/// Returns `None` if the run has not failed.
#[must_use]
pub fn shorten(setup: &Setup, failed: &Outcome, limit: Duration) -> Option<Shortened> {
    let failure = failed.failure.as_ref()?;
    let begun = Instant::now();
    let mut runs = Runs {
        setup: Setup {
            patience: Setup::LESS_PATIENCE,
            checks_end: failure.is_at_the_end,
            ..setup.clone()
        },
        kind: failure.kind()?,
        end: begun + limit,
        beside_steps: BEGIN,
        count: 0,
    };
    let shortest = shrink::shrink(&failed.steps, &mut runs);
    let again = match &shortest {
        Some(part) if runs.cost(part) <= runs.left() => runs.repeat(part, false),
        Some(_) | None => (0, 0),
    };
    Some(Shortened {
        shortest: shortest.map(|part| part.into_iter().map(|done| done.step).collect()),
        again,
        runs: runs.count,
        took: begun.elapsed(),
    })
}

/// The runs of parts.
struct Runs {
    setup: Setup,
    kind: Kind,
    end: Instant,
    /// What a run takes beside its steps, as it was measured last.
    beside_steps: Duration,
    count: u64,
}

impl Tries<Done> for Runs {
    fn fails(&mut self, part: &[Done]) -> bool {
        let begun = Instant::now();
        let (failed, _) = self.repeat(part, true);
        if failed == 0 {
            self.beside_steps = begun.elapsed().saturating_sub(self.time_of(part));
        }
        failed > 0
    }

    fn cost(&self, part: &[Done]) -> Duration {
        self.beside_steps + self.time_of(part)
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

impl Runs {
    /// Returns what the steps of a part took once. Nothing is waited for longer than the patience of a try.
    fn time_of(&self, part: &[Done]) -> Duration {
        part.iter()
            .map(|done| done.took.min(self.setup.patience))
            .sum()
    }

    /// Runs a part several times at once. Returns how many runs failed, of how many that came to their end. If one is
    /// enough, the others are broken off when it has failed.
    fn repeat(&mut self, part: &[Done], is_one_enough: bool) -> (u64, u64) {
        let steps: Vec<_> = part.iter().map(|done| done.step.clone()).collect();
        let has_failed = Arc::new(AtomicBool::new(false));
        let setup = Setup {
            end: Some(self.end),
            is_over: Arc::clone(&has_failed),
            ..self.setup.clone()
        };
        let kind = self.kind;
        self.count += REPEATS;
        let fails = || {
            let outcome = run(&setup, with_an_end(steps.clone()), u64::MAX, |_| {});
            let failure = outcome.ok()?.failure;
            let is_same = failure.is_some_and(|failure| failure.kind() == Some(kind));
            if is_same && is_one_enough {
                has_failed.store(true, Ordering::Relaxed);
            }
            Some(is_same)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = (0..REPEATS).map(|_| scope.spawn(fails)).collect();
            // A run that has panicked has not failed as the whole did.
            runs.into_iter()
                .filter_map(|run| run.join().ok().flatten())
                .collect()
        });
        let count = |failed: &[bool]| u64::try_from(failed.len()).unwrap_or(u64::MAX);
        let failed: Vec<_> = results.iter().copied().filter(|failed| *failed).collect();
        (count(&failed), count(&results))
    }
}

/// Returns the bursts of a list. One that ends before it has settled was never checked.
#[must_use]
pub fn with_an_end(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    if steps.last() != Some(&Step::Settle) {
        steps.push(Step::Settle);
    }
    let bursts = steps.split_inclusive(|step| *step == Step::Settle);
    bursts.map(<[Step]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step;

    #[test]
    fn a_list_is_done_in_bursts_and_is_checked_at_its_end() {
        let bursts = with_an_end(step::read("kill newest; settle; change good; who").unwrap());
        let texts: Vec<_> = bursts.iter().map(|burst| step::write(burst)).collect();
        assert_eq!(texts, ["kill newest; settle", "change good; who; settle"]);
        assert_eq!(with_an_end(Vec::new()), [[Step::Settle]]);
    }
}
