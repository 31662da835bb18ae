//! A state of the model, and the fair environment that is played from it.

use std::time::Duration;

use handover_core::{
    CANONICAL_NOW as NOW, EpochInfo, EpochState, Exit, Held, Ignored, Input, Machine, Outcome,
    Output, Phase, Policy, PolicyError, Purpose, Reception, Standing, Timestamp, Urgency,
};
use handover_core_testing::{Checker, Invariant, Violation};

/// So many steps a fair environment needs at most; it needs far fewer.
const LIMIT: usize = 100;

/// The canonical machine and its record, at [`NOW`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) machine: Machine<usize>,
    checker: Checker<usize>,
    pub(crate) broken: Option<Invariant>,
}

impl State {
    pub(crate) fn start(policy: Policy) -> Result<Self, PolicyError> {
        let machine = Machine::<usize>::new(policy)?;
        let (canonical, checker) = Checker::new(policy).canonical(&machine, Timestamp::ZERO);
        Ok(Self {
            machine: canonical.machine,
            checker,
            broken: None,
        })
    }

    /// What the input leads to after this much time in which the machine was told nothing.
    pub(crate) fn after(&self, span: Duration, input: Option<Input<usize>>) -> Self {
        let mut next = self.clone();
        next.go_on(span, input);
        next
    }

    /// The same state, so much later.
    pub(crate) fn later(&self, span: Duration) -> Self {
        let (canonical, checker) = self.checker.canonical(&self.machine, NOW.after(span));
        Self {
            machine: canonical.machine,
            checker,
            broken: self.broken,
        }
    }

    fn go_on(&mut self, span: Duration, input: Option<Input<usize>>) {
        let now = NOW.after(span);
        let given = match input {
            Some(input) => self.checker.give_input(&mut self.machine, now, input),
            None => {
                let outputs = self.checker.give_timeout(&mut self.machine, now);
                outputs.map(|outputs| (Reception::Accepted, outputs))
            }
        };
        self.note(given);
        let (canonical, checker) = self.checker.canonical(&self.machine, now);
        self.checker = checker;
        self.machine = canonical.machine;
    }

    fn note(&mut self, given: Result<(Reception, Vec<Output<usize>>), Violation>) {
        if let Err(violation) = given {
            self.broken = Some(violation.invariant);
        }
    }

    /// How long until the next deadline; zero when it is overdue.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        Some(self.machine.poll_timeout()?.at.since(NOW))
    }

    /// How long the next deadline has been overdue.
    pub(crate) fn lateness(&self) -> Duration {
        let next = self.machine.poll_timeout();
        next.map_or(Duration::ZERO, |deadline| NOW.since(deadline.at))
    }

    /// How many configurations the machine can tell apart.
    pub(crate) fn configs(&self) -> usize {
        self.machine.canonical(NOW).configs.len()
    }

    pub(crate) fn keeps(&self, invariant: Invariant) -> bool {
        self.broken != Some(invariant)
    }

    pub(crate) fn any(&self, state: EpochState) -> bool {
        self.machine.epochs().any(|info| info.state == state)
    }

    pub(crate) fn ends_with(&self, outcome: Outcome) -> bool {
        self.machine.outcome() == Some(outcome)
    }

    /// Whether a timeout that comes too early, and one that comes again, does nothing.
    pub(crate) fn bears_needless_timeouts(&self) -> bool {
        let mut machine = self.machine.clone();
        let is_due = self.until_deadline().is_some_and(|span| span.is_zero());
        if is_due {
            machine.handle_timeout(NOW);
            while machine.poll_output().is_some() {}
        }
        let before = machine.clone();
        machine.handle_timeout(NOW);
        machine == before
    }

    /// Whether what was said already, and what is said of epochs that do not run, is ignored.
    pub(crate) fn bears_repeated_inputs(&self) -> bool {
        let unknown = handover_core::Epoch::new(9);
        let exited = Input::Exited(unknown, Exit::Clean);
        let mut inputs = vec![
            Input::Live(unknown),
            Input::StoppedServing(unknown),
            Input::Released(unknown),
            Input::Withdrawn(unknown),
            Input::Unfit(unknown),
            exited,
        ];
        for info in self.machine.epochs() {
            if info.state != EpochState::Starting || info.purpose == Purpose::Drain {
                inputs.push(Input::Live(info.epoch));
            }
            if info.state != EpochState::Live {
                inputs.push(Input::StoppedServing(info.epoch));
            }
            if !info.on_probation && !info.unfit {
                inputs.push(Input::Unfit(info.epoch));
            }
            if !info.withdrawn {
                inputs.push(Input::Withdrawn(info.epoch));
            }
            if info.state != EpochState::Draining || info.released {
                inputs.push(Input::Released(info.epoch));
            }
        }
        if let (Phase::Running, Some(desired)) = (self.machine.phase(), self.machine.desired()) {
            inputs.push(Input::Desire(*desired));
        }
        let before = self.awake();
        let mut machine = before.clone();
        let ignored = inputs
            .into_iter()
            .all(|input| match machine.handle_input(NOW, input) {
                Reception::Ignored(why) => why != Ignored::UnderWay,
                Reception::Accepted | Reception::Denied(_) => false,
            });
        ignored && machine == before
    }

    /// The machine once it has looked at the clock, which every input makes it do.
    fn awake(&self) -> Machine<usize> {
        let mut machine = self.machine.clone();
        let unknown = Input::Live(handover_core::Epoch::new(9));
        let Reception::Ignored(_) = machine.handle_input(NOW, unknown) else {
            return self.machine.clone();
        };
        while machine.poll_output().is_some() {}
        machine
    }

    /// Whether the only thing that the desired configuration waits for is that all others end.
    pub(crate) fn is_restarting(&self) -> bool {
        let waits = matches!(self.machine.held(), Some(Held::Aborting(_)));
        waits && self.machine.epochs().all(is_aborting)
    }

    /// Whether a cold restart is under way once it was asked for, or has begun again where nothing ran,
    /// and whether asking again then does nothing.
    pub(crate) fn restarts_once(&self) -> bool {
        let (Phase::Running, Some(desired)) = (self.machine.phase(), self.machine.desired()) else {
            return true;
        };
        let restart = Input::Restart(*desired);
        let awake = self.awake();
        let mut machine = awake.clone();
        let under_way = Reception::Ignored(Ignored::UnderWay);
        if machine.handle_input(NOW, restart.clone()) == under_way {
            return machine == awake && machine.epochs().all(is_aborting);
        }
        while machine.poll_output().is_some() {}
        if self.machine.epochs().count() == 0 {
            let only = machine.epochs().map(|info| (info.epoch, info.desired));
            return only.eq([(handover_core::Epoch::ZERO, true)]);
        }
        let before = machine.clone();
        let again = machine.handle_input(NOW, restart);
        again == under_way && machine == before && machine.epochs().all(is_aborting)
    }

    /// Whether a renewal of what is desired leaves none of the running epochs what is desired.
    pub(crate) fn renews(&self) -> bool {
        let (Phase::Running, Some(desired)) = (self.machine.phase(), self.machine.desired()) else {
            return true;
        };
        let before: Vec<_> = self.machine.epochs().map(|info| info.epoch).collect();
        let renewed = self.after(Duration::ZERO, Some(Input::Renew(*desired)));
        let mut counting = renewed.machine.epochs().filter(|info| info.desired);
        renewed.broken.is_none() && counting.all(|info| !before.contains(&info.epoch))
    }

    /// Whether a fair environment leads from here to the desired configuration being live. It need
    /// not where that has been given up or has ended, or where an aborted epoch may cost it the
    /// last retry.
    pub(crate) fn gets_the_desired_to_run(&self) -> bool {
        let excused = self.machine.epochs().any(is_aborting);
        match self.machine.standing() {
            Standing::Nothing
            | Standing::GivenUp(_)
            | Standing::NotRestarted
            | Standing::Ending => true,
            Standing::Live(_) | Standing::Pending(_) => {
                self.after_fair_play()
                    .is_some_and(|end| match end.machine.standing() {
                        Standing::Live(_) => true,
                        Standing::GivenUp(_) | Standing::Ending => excused,
                        Standing::Nothing | Standing::NotRestarted | Standing::Pending(_) => false,
                    })
            }
        }
    }

    /// Whether a terminate and then a fair environment lead from here to the end.
    pub(crate) fn finishes_when_told(&self) -> bool {
        let told = self.after(Duration::ZERO, Some(Input::Terminate(Urgency::Drain)));
        let end = told.after_fair_play();
        end.is_some_and(|end| matches!(end.machine.phase(), Phase::Finished(_)))
    }

    /// What an environment leads to in which aborted epochs exit, starting ones go live, draining
    /// ones end and deadlines are handled; nothing where it comes to no end or breaks an invariant.
    fn after_fair_play(&self) -> Option<Self> {
        let mut state = self.clone();
        for _ in 0..LIMIT {
            if state.broken.is_some() {
                return None;
            }
            match (state.next_fair_input(), state.until_deadline()) {
                (Some(input), _) => state.go_on(Duration::ZERO, Some(input)),
                (None, Some(span)) => state.go_on(span, None),
                (None, None) => return Some(state),
            }
        }
        None
    }

    fn next_fair_input(&self) -> Option<Input<usize>> {
        let newest = |which: fn(EpochInfo) -> bool| {
            let info = self.machine.epochs().rev().find(|info| which(*info));
            info.map(|info| info.epoch)
        };
        newest(is_aborting)
            .map(|epoch| Input::Exited(epoch, Exit::Aborted))
            .or_else(|| newest(is_starting).map(Input::Live))
            .or_else(|| newest(is_ending).map(|epoch| Input::Exited(epoch, Exit::Clean)))
    }
}

fn is_aborting(info: EpochInfo) -> bool {
    matches!(info.state, EpochState::Aborting(_))
}

fn is_starting(info: EpochInfo) -> bool {
    info.state == EpochState::Starting && info.purpose != Purpose::Drain
}

fn is_ending(info: EpochInfo) -> bool {
    info.state == EpochState::Draining || info.purpose == Purpose::Drain
}
