//! Running a script: a driver with a simulated clock and no processes.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Scenario;
use crate::{Checker, Violation};
use handover_core::{
    Deadline, DeadlineReason, EpochInfo, Held, Input, Machine, Output, Phase, PolicyError,
    Reception, Timestamp,
};

/// The steps of a script. Its [`Display`](fmt::Display) is a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The title of the scenario.
    pub title: String,
    /// The steps, oldest first.
    pub steps: Vec<Step>,
}

/// One step of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The time of the step.
    pub at: Timestamp,
    /// The input or the timeout.
    pub what: What,
    /// The outputs, in order.
    pub outputs: Vec<Output<String>>,
    /// The running epochs afterwards, oldest first.
    pub epochs: Vec<EpochInfo>,
    /// The desired configuration afterwards.
    pub desired: Option<String>,
    /// The configuration that is current afterwards.
    pub current: Option<String>,
    /// The retries left afterwards.
    pub retries_left: Option<u32>,
    /// Why the desired configuration is held afterwards, if it is.
    pub held: Option<Held>,
    /// The stage of the machine's life afterwards.
    pub phase: Phase,
    /// The next deadline afterwards.
    pub deadline: Option<Deadline>,
}

/// The cause of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The machine got this input, and answered with this reception.
    Input(Input<String>, Reception),
    /// A deadline with this reason was reached; `None` if nothing was due.
    Timeout(Option<DeadlineReason>),
}

/// The reason why a scenario did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The policy cannot be honoured.
    Policy(PolicyError),
    /// An invariant is broken: the steps before, and the violation.
    Violation(Transcript, Violation),
    /// The transcript would be too large. Each step lists every running epoch, so it grows with the
    /// square of the script's length.
    TooLarge {
        /// The steps that were taken.
        steps: usize,
    },
}

/// The most running epochs that all steps of a transcript list together, a name of 32 bytes counted
/// as an epoch.
const MOST_LISTED: usize = 1_000_000;

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(_) => f.write_str("the policy of the scenario cannot be honoured"),
            Self::Violation(before, violation) => {
                writeln!(f, "{violation}; until then:")?;
                write!(f, "{before}")
            }
            Self::TooLarge { steps } => write!(
                f,
                "the transcript grows too large after {steps} steps, which list {MOST_LISTED} \
                 running epochs: write a shorter script, with fewer epochs at once or shorter names"
            ),
        }
    }
}

impl core::error::Error for RunError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Policy(error) => Some(error),
            Self::Violation(_, violation) => Some(violation),
            Self::TooLarge { .. } => None,
        }
    }
}

pub(super) fn scenario(scenario: &Scenario) -> Result<Transcript, RunError> {
    let machine = Machine::new(scenario.policy).map_err(RunError::Policy)?;
    let steps = Vec::new();
    let mut world = World {
        machine,
        checker: Checker::new(scenario.policy),
        steps,
        listed: 0,
    };
    let result = scenario.lines.iter().try_for_each(|line| {
        if !line.missing_deadlines {
            world.let_time_pass(line.at)?;
        }
        world.step(line.at, line.input.clone())
    });
    let transcript = Transcript {
        title: scenario.title.clone(),
        steps: world.steps,
    };
    match result {
        Ok(()) => Ok(transcript),
        Err(Stop::Violation(violation)) => Err(RunError::Violation(transcript, violation)),
        Err(Stop::TooLarge) => Err(RunError::TooLarge {
            steps: transcript.steps.len(),
        }),
    }
}

/// Why no further step is taken.
enum Stop {
    Violation(Violation),
    TooLarge,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

struct World {
    machine: Machine<String>,
    checker: Checker<String>,
    steps: Vec<Step>,
    /// How many epochs the steps list, names counted in.
    listed: usize,
}

impl World {
    /// Fires every deadline before `until`, each at its time.
    fn let_time_pass(&mut self, until: Timestamp) -> Result<(), Stop> {
        while let Some(deadline) = self.machine.poll_timeout().filter(|next| next.at < until) {
            self.step(deadline.at, None)?;
        }
        Ok(())
    }

    fn step(&mut self, at: Timestamp, input: Option<Input<String>>) -> Result<(), Stop> {
        let (what, outputs) = if let Some(input) = input {
            let (reception, outputs) =
                self.checker
                    .give_input(&mut self.machine, at, input.clone())?;
            (What::Input(input, reception), outputs)
        } else {
            let due = self
                .machine
                .poll_timeout()
                .filter(|deadline| deadline.at <= at);
            let outputs = self.checker.give_timeout(&mut self.machine, at)?;
            (What::Timeout(due.map(|deadline| deadline.reason)), outputs)
        };
        let machine = &self.machine;
        let names = [machine.desired(), machine.current()];
        let bytes: usize = names.iter().flatten().map(|name| name.len()).sum();
        let listed = machine.epochs().count().saturating_add(bytes / 32);
        self.listed = self.listed.saturating_add(listed);
        if self.listed > MOST_LISTED {
            return Err(Stop::TooLarge);
        }
        self.steps.push(Step {
            at,
            what,
            outputs,
            epochs: machine.epochs().collect(),
            desired: machine.desired().cloned(),
            current: machine.current().cloned(),
            retries_left: machine.retries_left(),
            held: machine.held(),
            phase: machine.phase(),
            deadline: machine.poll_timeout(),
        });
        Ok(())
    }
}
