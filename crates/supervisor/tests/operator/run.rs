//! Runs a script on a new operator, checks every step, and keeps what was seen.

use handover_core::Timestamp;
use handover_supervisor::operator::{Input, LookId, Operator, Output, Reception};

use crate::check::{Checker, Violation};
use crate::script::Script;
use crate::table;

/// A step, and the operator after it.
pub(crate) struct Step {
    pub(crate) at: Timestamp,
    pub(crate) words: String,
    pub(crate) reception: Reception,
    pub(crate) outputs: Vec<Output<String>>,
    pub(crate) operator: Operator<String>,
}

struct World {
    operator: Operator<String>,
    checker: Checker<String>,
    steps: Vec<Step>,
    looks_are_scripted: bool,
}

/// Runs the script, and returns its transcript.
pub(crate) fn transcript(script: &Script) -> Result<String, String> {
    Ok(table::draw(&script.title, &steps(script)?))
}

/// Runs the script, and returns what was seen.
pub(crate) fn steps(script: &Script) -> Result<Vec<Step>, String> {
    let (settings, stand_in) = (script.settings, script.stand_in.clone());
    let mut operator = match stand_in.clone() {
        Some(stand_in) => Operator::with_stand_in(settings, stand_in),
        None => Operator::new(settings),
    };
    let first = Checker::watch(&mut operator, settings, stand_in);
    let (checker, outputs) = first.map_err(|violation| broken("at the start", &violation))?;
    let begun = Step {
        at: Timestamp::ZERO,
        words: "(new)".to_owned(),
        reception: Reception::Accepted,
        outputs,
        operator: operator.clone(),
    };
    let mut world = World {
        operator,
        checker,
        steps: vec![begun],
        looks_are_scripted: script.looks_are_scripted,
    };
    for line in &script.lines {
        world.let_time_pass(line.at)?;
        world.step(line.at, &line.words, line.input.clone())?;
    }
    Ok(world.steps)
}

fn broken(words: &str, violation: &Violation) -> String {
    format!(
        "{words}: {} does not hold: {}",
        violation.invariant, violation.what
    )
}

impl World {
    /// Handles every deadline before `until`, each at its time.
    fn let_time_pass(&mut self, until: Timestamp) -> Result<(), String> {
        while let Some(deadline) = self.operator.poll_timeout().filter(|next| next.at < until) {
            let words = format!("({})", deadline.reason);
            self.step(deadline.at, &words, None)?;
        }
        Ok(())
    }

    /// What a look at a proxy finds to which clients can connect.
    fn all_listen(&self, look: LookId) -> Input<String> {
        let epochs = self.checker.view.epochs.iter();
        Input::Looked {
            look,
            listens: epochs.map(|view| (view.epoch, Some(true))).collect(),
        }
    }

    fn step(
        &mut self,
        at: Timestamp,
        words: &str,
        input: Option<Input<String>>,
    ) -> Result<(), String> {
        let operator = &mut self.operator;
        let given = match input {
            Some(input) => self.checker.give(operator, at, input),
            None => {
                let outputs = self.checker.give_timeout(operator, at);
                outputs.map(|outputs| (Reception::Accepted, outputs))
            }
        };
        let (reception, mut outputs) = given.map_err(|violation| broken(words, &violation))?;
        while !self.looks_are_scripted
            && let Some(look) = self.operator.looking()
        {
            outputs.retain(|output| *output != Output::Look(look));
            let seen = self.all_listen(look);
            let given = self.checker.give(&mut self.operator, at, seen);
            let (_, more) = given.map_err(|violation| broken(words, &violation))?;
            outputs.extend(more);
        }
        self.steps.push(Step {
            at,
            words: words.to_owned(),
            reception,
            outputs,
            operator: self.operator.clone(),
        });
        Ok(())
    }
}
