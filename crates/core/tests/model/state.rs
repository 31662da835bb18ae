//! A state of the model, and the fair environment that is played from it.

use handover_core::check::{Checker, Invariant, Violation};
use handover_core::{
    EpochInfo, EpochState, Exit, Input, Machine, Output, Phase, Policy, PolicyError, Purpose,
    Standing, Target, Timestamp,
};

/// So many steps a fair environment needs at most; it needs far fewer.
const LIMIT: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) machine: Machine<u8>,
    checker: Checker,
    pub(crate) now: Timestamp,
    /// How often the desire has changed.
    pub(crate) changes: u8,
    pub(crate) terminates: u8,
    /// How often an epoch was started to serve.
    pub(crate) starts: u8,
    pub(crate) broken: Option<Invariant>,
}

impl State {
    pub(crate) fn start(policy: Policy) -> Result<Self, PolicyError> {
        Ok(Self {
            machine: Machine::new(policy)?,
            checker: Checker::new(),
            now: Timestamp::ZERO,
            changes: 0,
            terminates: 0,
            starts: 0,
            broken: None,
        })
    }

    pub(crate) fn give(&mut self, input: Input<u8>) {
        self.changes += u8::from(matches!(input, Input::Desire(_)));
        self.terminates += u8::from(input == Input::Terminate);
        let given = self.checker.give_input(&mut self.machine, self.now, input);
        self.note(given.map(|(_reception, outputs)| outputs));
    }

    pub(crate) fn handle_timeout(&mut self) {
        let given = self.checker.give_timeout(&mut self.machine, self.now);
        self.note(given);
    }

    /// Lets the time pass until the next deadline, which is not handled yet.
    pub(crate) fn pass_to_deadline(&mut self) {
        if let Some(deadline) = self.machine.poll_timeout() {
            self.now = self.now.max(deadline.at);
        }
    }

    fn note(&mut self, given: Result<Vec<Output<u8>>, Violation>) {
        match given {
            Ok(outputs) => {
                let starts = outputs.iter().filter(|output| {
                    matches!(
                        output,
                        Output::Start {
                            target: Target::Serve(_),
                            ..
                        }
                    )
                });
                self.starts += u8::try_from(starts.count()).unwrap_or(u8::MAX);
            }
            Err(violation) => self.broken = Some(violation.invariant),
        }
    }

    pub(crate) fn keeps(&self, invariant: Invariant) -> bool {
        self.broken != Some(invariant)
    }

    pub(crate) fn any(&self, state: EpochState) -> bool {
        self.machine.epochs().any(|info| info.state == state)
    }

    pub(crate) fn ends_with(&self, outcome: handover_core::Outcome) -> bool {
        self.machine.outcome() == Some(outcome)
    }

    /// Whether a fair environment leads from here to the desired configuration being live. It need
    /// not where that has been given up or has ended, or where an aborted epoch may cost it the
    /// last retry.
    pub(crate) fn gets_the_desired_to_run(&self) -> bool {
        let excused = self.machine.epochs().any(is_aborting);
        match self.machine.standing() {
            Standing::Nothing | Standing::GivenUp(_) | Standing::Stayed | Standing::Ending => true,
            Standing::Live(_) | Standing::Pending(_) => {
                self.after_fair_play()
                    .is_some_and(|end| match end.machine.standing() {
                        Standing::Live(_) => true,
                        Standing::GivenUp(_) | Standing::Ending => excused,
                        Standing::Nothing | Standing::Stayed | Standing::Pending(_) => false,
                    })
            }
        }
    }

    /// Whether a terminate and then a fair environment lead from here to the end.
    pub(crate) fn finishes_when_told(&self) -> bool {
        let mut told = self.clone();
        told.give(Input::Terminate);
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
            match state.next_fair_input() {
                Some(input) => state.give(input),
                None if state.machine.poll_timeout().is_some() => {
                    state.pass_to_deadline();
                    state.handle_timeout();
                }
                None => return Some(state),
            }
        }
        None
    }

    fn next_fair_input(&self) -> Option<Input<u8>> {
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
