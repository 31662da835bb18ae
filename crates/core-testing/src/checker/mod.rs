//! The judge: a record of one machine's run, and what each step must look like beside it.
//!
//! Each file beside this one has one job: `record` what is known of an epoch and a configuration,
//! `rules` what the fields of a policy mean, `inputs` what an input leads to, `outputs` what must be
//! true of each output, `give_way` when a start makes room, `state` what must be true between two
//! steps, `canonical` the record of a canonical machine.

mod canonical;
mod give_way;
mod inputs;
mod interval;
mod late;
mod outputs;
mod record;
mod rules;
mod state;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use handover_core::{
    Epoch, Event, Input, LOOK_AROUND, Machine, Output, Phase, Policy, Purpose, Reception,
    Timestamp, Urgency,
};

use self::record::{Owed, Pursuit, Stage, Started, Watched};
use crate::invariant::ensure;
use crate::{Invariant, Observation, Violation};

/// Watches a machine step by step, and reports which invariant a step has broken.
///
/// It keeps a record of its own from the inputs and outputs, and compares what the machine shows with
/// it. It trusts no rule of the machine, so that the machine it watches is the one that is shipped,
/// and a fault in it is not repeated here.
///
/// ```
/// use handover_core::{Input, Machine, Policy, Timestamp};
/// use handover_core_testing::Checker;
///
/// let mut machine = Machine::new(Policy::default())?;
/// let mut checker = Checker::new(Policy::default());
/// let (_reception, outputs) =
///     checker.give_input(&mut machine, Timestamp::ZERO, Input::Desire("a"))?;
/// assert_eq!(outputs.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checker<C> {
    policy: Policy,
    running: BTreeMap<Epoch, Watched<C>>,
    /// Epochs that have exited and whose cleanup has not come.
    to_clean: Vec<Epoch>,
    /// What was asked for last; nothing once it was handed out by a panic.
    desired: Option<Pursuit<C>>,
    /// What served last and has failed, or has made room for one that is on probation.
    fallback: Option<Pursuit<C>>,
    /// What was found unfit last.
    condemned: Option<C>,
    now: Timestamp,
    /// When the machine noticed last that it had missed deadlines.
    woke: Option<Timestamp>,
    /// A cold restart was asked for, and nothing has been started since.
    restarting: bool,
    /// A renewal was asked for, and nothing has been started as desired since.
    renewing: bool,
    /// How many starts in a row gave way, since one went live, failed or was late.
    gave_way: u32,
    /// When a change was started last beside an epoch that served well, if the time until the next one counts.
    last_change: Option<Timestamp>,
    /// The most urgent end that was asked for.
    urgency: Option<Urgency>,
    /// Since the terminate an epoch with clients, or the drain, has ended as it must not.
    undrained: bool,
    drain_started: bool,
    panicked: bool,
    /// The newest epoch has ended cleanly, and that ends the agent.
    proxy_ended: bool,
    finished: bool,
    /// What the step under way is known by; nothing of it outlasts the step.
    step: StepRecord,
}

/// What is known of the step under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct StepRecord {
    /// The event that must come.
    owed: Option<Owed>,
    /// The failed epoch for which all others are to be aborted.
    aborts_for: Option<Epoch>,
    /// The start that is late, until it is withdrawn.
    asks_late: Option<Epoch>,
    /// The start that gives way, until it is withdrawn.
    gives_way: Option<Epoch>,
    /// The start whose event has not come yet.
    unannounced: Option<Started>,
    /// The start that is beyond the cap, beside so many, and whose event has not come yet.
    beyond_cap: Option<(Epoch, u32)>,
    /// The epoch that was started last.
    fresh: Option<Epoch>,
    /// The desired configuration is given up with nothing to hold, so that the panic must come.
    panic_due: bool,
}

impl<C: Clone + Eq> Checker<C> {
    /// Returns the record of a machine that has this policy and has not run yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            running: BTreeMap::new(),
            to_clean: Vec::new(),
            desired: None,
            fallback: None,
            condemned: None,
            now: Timestamp::ZERO,
            woke: None,
            restarting: false,
            renewing: false,
            gave_way: 0,
            last_change: None,
            urgency: None,
            undrained: false,
            drain_started: false,
            panicked: false,
            proxy_ended: false,
            finished: false,
            step: StepRecord::default(),
        }
    }

    /// Gives the machine one input, takes all outputs and checks every invariant.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold.
    pub fn give_input(
        &mut self,
        machine: &mut Machine<C>,
        now: Timestamp,
        input: Input<C>,
    ) -> Result<(Reception, Vec<Output<C>>), Violation> {
        let step = Observation::make(machine, now, Some(input));
        self.judge(&step)?;
        // A step with an input has a reception.
        let reception = step.input.map_or(Reception::Accepted, |(_, it)| it);
        Ok((reception, step.outputs))
    }

    /// Gives the machine a timeout, takes all outputs and checks every invariant.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold.
    pub fn give_timeout(
        &mut self,
        machine: &mut Machine<C>,
        now: Timestamp,
    ) -> Result<Vec<Output<C>>, Violation> {
        let step = Observation::make(machine, now, None);
        self.judge(&step)?;
        Ok(step.outputs)
    }

    /// Takes a step into the record and checks every invariant. The steps of a machine must be passed
    /// in order, from its first one on, none left out.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold.
    pub fn judge(&mut self, step: &Observation<C>) -> Result<(), Violation> {
        self.now = self.now.max(step.at);
        self.step = StepRecord::default();
        if let Some((input, reception)) = &step.input {
            // A gap comes before everything else, and puts off what was due before it.
            if step.outputs.first().is_some_and(is_gap) {
                self.note_gap();
            }
            self.check_reception(input, *reception, &step.outputs)?;
            if *reception == Reception::Accepted {
                self.take_in(input, step.before.phase == Phase::Running);
            }
        }
        for output in &step.outputs {
            self.take_out(output, &step.after)?;
        }
        self.check_debts(&step.after)?;
        if step.input.is_none() {
            self.check_late(step)?;
            self.let_deadlines_pass(&step.after)?;
        }
        self.check_giving_way(&step.after, step.input.is_none())?;
        self.check_late_starts(&step.after, step.input.is_none())?;
        self.check_state(&step.after)?;
        self.step = StepRecord::default();
        Ok(())
    }

    /// What is refused leads to nothing, and only a gap may be reported with it. A terminate is refused
    /// unless it is more urgent than what was asked for before.
    fn check_reception(
        &mut self,
        input: &Input<C>,
        reception: Reception,
        outputs: &[Output<C>],
    ) -> Result<(), Violation> {
        let refused = reception != Reception::Accepted;
        if let Input::Terminate(urgency) = input {
            let before = self.urgency;
            self.urgency = before.max(Some(*urgency));
            ensure(
                refused || before < self.urgency,
                Invariant::UrgencyNeverFalls,
                || format!("{urgency} after {before:?} was {reception:?}"),
            )?;
        }
        ensure(
            !refused || outputs.iter().all(is_gap),
            Invariant::RefusedInputsDoNothing,
            || format!("{reception:?}, and {} outputs", outputs.len()),
        )
    }

    /// Takes in that the machine has noticed a gap: what was due until now is put off. What had been put
    /// off before and has waited long enough was handled before that.
    fn note_gap(&mut self) {
        if let Some(before) = self.woke {
            self.handle_all_due(|at| at <= before);
        }
        self.woke = Some(self.now);
    }

    /// Takes in that of these deadlines all that are due were handled.
    fn handle_all_due(&mut self, which: impl Fn(Timestamp) -> bool) {
        let (now, woke) = (self.now, self.woke);
        let is_handled = |at: Timestamp| which(at) && due(at, woke) <= now;
        for pursuit in [&mut self.desired, &mut self.fallback]
            .into_iter()
            .flatten()
        {
            if let Stage::Waiting(at) = pursuit.stage
                && is_handled(at)
            {
                pursuit.stage = Stage::Due;
            }
        }
        if self.interval_that_waits().is_some_and(is_handled) {
            self.last_change = None;
        }
        let Some(enough) = self.policy.retry.reset_after else {
            return;
        };
        for watched in self.running.values_mut() {
            let since = watched.live.filter(|_| watched.may_serve());
            watched.trusted |= since.is_some_and(|since| is_handled(since.after(enough)));
        }
    }

    /// Whether a deadline of this moment may have been handled by now.
    fn is_due(&self, at: Timestamp) -> bool {
        due(at, self.woke) <= self.now
    }

    /// Whether the epoch has served for so long that its configuration is trusted.
    fn is_healthy(&self, watched: &Watched<C>) -> bool {
        let enough = self.policy.retry.reset_after;
        let since = watched.live.filter(|_| watched.may_serve());
        since
            .zip(enough)
            .is_some_and(|(since, enough)| watched.trusted || self.is_due(since.after(enough)))
    }

    /// Whether the epoch counts as the desired configuration.
    fn is_desired(&self, watched: &Watched<C>) -> bool {
        let desired = self.desired.as_ref().map(|it| &it.config);
        watched.is_asked_for()
            && !watched.outdated
            && !watched.fallback
            && desired.is_some()
            && watched.config.as_ref() == desired
    }

    /// Whether clients are served. Where nothing waits for live, a start is taken for serving.
    fn is_serving(&self) -> bool {
        self.running.values().any(|it| self.serves(it))
    }

    /// Whether clients are served by an epoch that was not found unfit.
    fn is_served_well(&self) -> bool {
        let mut running = self.running.values();
        running.any(|it| self.serves(it) && !it.is_unfit())
    }

    fn serves(&self, watched: &Watched<C>) -> bool {
        let from_start = !rules::waits(&self.policy);
        watched.is_live() || (from_start && watched.is_starting() && !watched.is_drain())
    }

    fn has_unfit(&self) -> bool {
        self.running.values().any(Watched::is_unfit)
    }

    /// Whether the fallback is better than what this epoch ran.
    fn has_proven_less(&self, watched: &Watched<C>) -> bool {
        self.fallback.is_some() && (watched.is_on_probation() || watched.is_unfit())
    }

    /// When the probation of this epoch is over.
    fn end_of_trial(&self, watched: &Watched<C>) -> Option<Timestamp> {
        let since = watched.live.filter(|_| watched.is_on_probation())?;
        Some(since.after(self.policy.probation?))
    }

    fn forget_fallback(&mut self) {
        self.fallback = None;
        for watched in self.running.values_mut() {
            watched.fallback = false;
        }
    }

    /// Whether something else is left once the desired configuration is given up.
    fn has_something_to_hold(&self) -> bool {
        rules::holds(&self.policy) && (self.is_serving() || self.fallback.is_some())
    }

    /// The newest epoch that was not aborted, if it starts or serves.
    fn current(&self) -> Option<&Watched<C>> {
        let newest = self
            .running
            .values()
            .rev()
            .find(|it| it.aborted.is_none() && !it.is_drain());
        newest.filter(|it| it.may_serve())
    }

    fn pursuit_mut(&mut self, purpose: Purpose) -> Option<&mut Pursuit<C>> {
        match purpose {
            Purpose::Fallback => self.fallback.as_mut(),
            Purpose::Desired | Purpose::Drain => self.desired.as_mut(),
        }
    }
}

/// When a deadline of this moment is handled: what was missed waits until the world was looked at.
fn due(at: Timestamp, woke: Option<Timestamp>) -> Timestamp {
    match woke {
        Some(woke) if at <= woke => woke.after(LOOK_AROUND),
        Some(_) | None => at,
    }
}

/// What is wrong with a start that no event follows.
fn unannounced(started: Option<Started>) -> String {
    let epoch = started.map_or_else(|| "none".into(), |it| it.epoch.to_string());
    format!("epoch {epoch} was started and no event says for what")
}

fn is_gap<C>(output: &Output<C>) -> bool {
    matches!(output, Output::Event(Event::WokeLate { .. }))
}
