//! What must be true between two steps.

use alloc::format;
use alloc::vec::Vec;

use super::{Checker, Invariant, Violation, ensure};
use crate::policy::{may_hold, waits_for_live};
use crate::{
    Abort, Deadline, Epoch, EpochInfo, EpochState, Event, Held, LATE, LOOK_AROUND, Machine, Output,
    Phase, Timestamp, Urgency,
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
        self.check_urgency(machine)?;
        self.check_retired()?;
        match machine.phase() {
            Phase::Running => {
                let shown_as_current =
                    machine.desired().is_some() && machine.epochs().any(|it| it.desired);
                ensure(
                    !(self.renewing && shown_as_current),
                    Invariant::RenewalStartsAnEpoch,
                    || "an older epoch counts as renewed".into(),
                )?;
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

    fn check_urgency<C: Clone + Eq>(&self, machine: &Machine<C>) -> Result<(), Violation> {
        let phase = machine.phase();
        let is_running = phase == Phase::Running;
        let is_over = matches!(phase, Phase::Stopping(_) | Phase::Finished(_));
        let all_killed = self
            .running
            .values()
            .all(|it| it.aborted == Some(Abort::Immediate));
        let far_enough = match self.urgency {
            None => true,
            Some(Urgency::Drain) => !is_running,
            Some(Urgency::Stop) => is_over,
            Some(Urgency::Kill) => is_over && all_killed,
        };
        ensure(far_enough, Invariant::UrgencyNeverFalls, || {
            format!("{phase:?} although {:?} was asked for", self.urgency)
        })
    }

    fn check_retired(&self) -> Result<(), Violation> {
        let newest_live = self
            .running
            .iter()
            .rev()
            .find(|(_, it)| it.live.is_some() && it.may_serve());
        let Some((live, _)) = newest_live else {
            return Ok(());
        };
        let forgotten = self
            .running
            .range(..live)
            .find(|(_, it)| !it.retired && it.aborted.is_none());
        ensure(forgotten.is_none(), Invariant::RetiredAtMostOnce, || {
            format!("{forgotten:?} was not retired although {live} is live")
        })
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
        } else if self.now.since(due.at) > LATE {
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
        let newest = machine
            .epochs()
            .rev()
            .find(|it| !matches!(it.state, EpochState::Aborting(_)));
        let may_serve =
            |it: &EpochInfo| matches!(it.state, EpochState::Starting | EpochState::Live);
        let current = newest.is_some_and(|it| may_serve(&it) && it.desired);
        ensure(
            !current || machine.current() == Some(desired),
            Invariant::NoLostDesire,
            || "what counts as desired has another configuration".into(),
        )?;
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
