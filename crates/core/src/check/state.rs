//! What must be true between two steps.

use alloc::format;
use alloc::vec::Vec;

use super::{Checker, Invariant, Violation, ensure};
use crate::policy::{may_hold, waits_for_live};
use crate::{
    Deadline, Epoch, EpochState, Event, Held, LOOK_AROUND, Machine, Output, Phase, Timestamp,
};

impl Checker {
    /// What must be true whenever all outputs have been taken.
    pub(super) fn check_state<C: Clone + Eq>(&self, machine: &Machine<C>) -> Result<(), Violation> {
        ensure(
            self.to_clean.is_empty(),
            Invariant::CleanupExactlyOnce,
            || format!("{:?} have exited and were not cleaned up", self.to_clean),
        )?;
        let shown: Vec<Epoch> = machine.epochs().map(|it| it.epoch).collect();
        ensure(
            shown.iter().eq(self.running.keys()),
            Invariant::EpochIsSuccessor,
            || format!("{shown:?} are shown, {:?} run", self.running),
        )?;
        let live = machine
            .epochs()
            .filter(|it| it.state == EpochState::Live)
            .count();
        ensure(live <= 1, Invariant::OneStartAtATime, || {
            format!("{live} epochs are live")
        })?;
        match machine.phase() {
            Phase::Running => {
                let all_end = self.running.values().all(|it| it.aborted.is_some());
                ensure(
                    !self.restarting || (all_end && !self.running.is_empty()),
                    Invariant::RestartBeginsAnew,
                    || format!("{:?} run on", self.running),
                )?;
                Self::check_desire(machine)
            }
            Phase::Draining { .. } | Phase::Stopping(_) => {
                self.check_starts(machine)?;
                ensure(!self.running.is_empty(), Invariant::AlwaysFinishes, || {
                    "nothing runs and the machine has not finished".into()
                })
            }
            Phase::Finished(_) => ensure(self.finished, Invariant::AlwaysFinishes, || {
                "the machine has finished and did not say so".into()
            }),
        }
    }

    fn check_starts<C: Clone + Eq>(&self, machine: &Machine<C>) -> Result<(), Violation> {
        let mut starts = self.running.values().filter(|it| it.is_starting());
        let drains = matches!(machine.phase(), Phase::Draining { .. });
        let forgotten = starts.any(|it| !it.drain && (!it.withdrawn || !drains));
        // What is aborted has its own deadline, and what serves or drains is what is waited for.
        let waits_for_nothing = machine.epochs().all(|it| it.withdrawn);
        ensure(
            !forgotten && (!waits_for_nothing || machine.poll_timeout().is_some()),
            Invariant::NoStartOutlivesTerminate,
            || format!("{:?} run", self.running),
        )
    }

    /// What must be true of a timeout that comes so late that the driver was stopped before it.
    pub(super) fn check_late<C: Clone + Eq>(
        &self,
        (due, looked_until): (Option<Deadline>, Option<Timestamp>),
        machine: &Machine<C>,
        outputs: &[Output<C>],
    ) -> Result<(), Violation> {
        let Some(due) = due.filter(|due| due.at <= self.now) else {
            return Ok(());
        };
        let next = machine.poll_timeout();
        let looked_enough = looked_until.is_some_and(|until| until <= self.now);
        let noticed = |it: &Output<C>| matches!(it, Output::Event(Event::WokeLate { .. }));
        let holds = if looked_enough {
            // What was put off is handled, however late that is; only what was not is put off.
            outputs.iter().any(noticed) || next.is_none_or(|next| next.reason != due.reason)
        } else if self.now.since(due.at) > LOOK_AROUND {
            outputs.iter().all(noticed)
                && outputs.len() == 1
                && next.is_some_and(|next| next.at == self.now.after(LOOK_AROUND))
        } else {
            true
        };
        ensure(holds, Invariant::LooksBeforeLateDeadlines, || {
            format!("{due:?} at {} led to {next:?}", self.now)
        })
    }

    fn check_desire<C: Clone + Eq>(machine: &Machine<C>) -> Result<(), Violation> {
        let Some(desired) = machine.desired() else {
            return Ok(());
        };
        let held = machine.held();
        let current = machine.current() == Some(desired);
        ensure(current != held.is_some(), Invariant::NoLostDesire, || {
            format!("the desired configuration is current: {current}; held: {held:?}")
        })?;
        let Some(held) = held else { return Ok(()) };
        let ends = match held {
            Held::Starting(epoch) => machine
                .epochs()
                .any(|it| it.epoch == epoch && it.state == EpochState::Starting),
            Held::Aborting(epoch) => machine
                .epochs()
                .any(|it| it.epoch == epoch && matches!(it.state, EpochState::Aborting(_))),
            Held::Cap { running } => {
                machine
                    .policy()
                    .max_epochs
                    .is_some_and(|max| running >= max)
                    && (machine.epochs().any(|it| it.state == EpochState::Draining)
                        || !waits_for_live(machine.policy()))
            }
            Held::Retry(at) => machine
                .poll_timeout()
                .is_some_and(|deadline| deadline.at <= at),
            Held::GivenUp => may_hold(machine.policy()),
            Held::Stayed | Held::NumbersUsedUp => true,
        };
        ensure(ends, Invariant::NoLostDesire, || {
            format!("held for ever: {held}")
        })
    }
}
