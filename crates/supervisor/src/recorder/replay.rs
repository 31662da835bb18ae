//! Replaying a recording: each machine begins as it was saved, takes what it took, and must give what it
//! gave.

use std::time::SystemTime;

use handover_core::{Machine, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::{Note, Record, Sign, Who};
use super::read::{Part, Recording};
use crate::operator::{self, Operator};

/// One replayed step of a machine.
#[derive(Clone, Debug)]
pub struct Step<I, O, R, D> {
    /// The time of the machine.
    pub at: Timestamp,
    /// The wall clock at that time, if the saved state tells it.
    pub wall: Option<SystemTime>,
    /// What the machine took; `None` if it handled its deadline.
    pub input: Option<I>,
    /// The reason of the deadline that was due, if one was.
    pub due: Option<D>,
    /// What became of the input in the replay.
    pub reception: Option<R>,
    /// The outputs of the replay.
    pub outputs: Vec<O>,
    /// How the recorded outputs differ from those of the replay.
    pub difference: Option<Difference>,
}

/// A step of the machine that decides which epoch runs. A configuration is a number.
pub type AgentStep = Step<
    handover_core::Input<u64>,
    handover_core::Output<u64>,
    handover_core::Reception,
    handover_core::DeadlineReason,
>;
/// A step of the operator. A configuration is a number.
pub type OperatorStep = Step<
    operator::Input<u64>,
    operator::Output<u64>,
    operator::Reception,
    operator::DeadlineReason,
>;

/// Where a replay differs from what was recorded, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What was recorded.
    pub recorded: Vec<String>,
    /// What the replay has given.
    pub replayed: Vec<String>,
}

/// Hears of each step of a replay, in the order of the recording.
pub trait Watch {
    /// The recording says this of itself.
    fn note(&mut self, note: &Note);
    /// A step of the agent's machine was replayed, which is now like this.
    fn agent(&mut self, step: &AgentStep, machine: &Machine<u64>);
    /// A step of the operator was replayed.
    fn operator(&mut self, step: &OperatorStep);
    /// Records of this machine are missing before what follows. It is replayed again from its next state on.
    fn missing(&mut self, who: Who);
    /// The replayed machine is not as it was saved at this time. The replay goes on with the saved one.
    fn other_state(&mut self, who: Who, at: Timestamp);
}

/// The sum of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// The steps that were replayed.
    pub steps: u64,
    /// The steps and states that differ.
    pub differences: u64,
    /// The inputs and deadlines that could not be replayed, because no state is known before them.
    pub left_out: u64,
    /// The states that cannot be restored.
    pub unusable_states: u64,
}

/// Replays a recording. `watch` hears of each step.
pub fn replay(recording: &Recording, watch: &mut impl Watch) -> Replayed {
    let mut replayed = Replayed::default();
    for part in &recording.parts {
        part_of(part, watch, &mut replayed);
    }
    replayed
}

fn part_of(part: &Part, watch: &mut impl Watch, replayed: &mut Replayed) {
    let mut agent = Player::<Machine<u64>>::new(Who::Agent);
    let mut operator = Player::<Operator<u64>>::new(Who::Operator);
    for record in &part.records {
        match record {
            None | Some(Record::Note(Note::Dropped(_))) => {
                agent.lose(watch, replayed);
                operator.lose(watch, replayed);
            }
            // What ran before has ended, in whatever way.
            Some(Record::Note(Note::Begin(_) | Note::End { .. })) => {
                agent.stop(watch, replayed);
                operator.stop(watch, replayed);
            }
            Some(Record::Of {
                at,
                who,
                sign,
                value,
            }) => match who {
                Who::Agent => agent.take(*at, *sign, value, watch, replayed),
                Who::Operator => operator.take(*at, *sign, value, watch, replayed),
            },
        }
        if let Some(Record::Note(note)) = record {
            watch.note(note);
        }
    }
    agent.stop(watch, replayed);
    operator.stop(watch, replayed);
}

/// A machine that can be replayed.
trait Plays: Sized + DeserializeOwned + PartialEq {
    type Input: DeserializeOwned;
    type Output: Serialize;
    type Reception;
    type Due;

    /// Whether it is a state that a machine can be in, as far as can be told.
    fn is_sound(&self) -> bool;
    /// What is due at this time.
    fn due(&self, at: Timestamp) -> Option<Self::Due>;
    fn give(&mut self, at: Timestamp, input: Option<&Self::Input>) -> Option<Self::Reception>;
    fn output(&mut self) -> Option<Self::Output>;
    fn show(&self, step: &StepOf<Self>, watch: &mut impl Watch);
}

type StepOf<M> =
    Step<<M as Plays>::Input, <M as Plays>::Output, <M as Plays>::Reception, <M as Plays>::Due>;

impl Plays for Machine<u64> {
    type Input = handover_core::Input<u64>;
    type Output = handover_core::Output<u64>;
    type Reception = handover_core::Reception;
    type Due = handover_core::DeadlineReason;

    fn is_sound(&self) -> bool {
        self.policy().check().is_ok()
    }

    fn due(&self, at: Timestamp) -> Option<Self::Due> {
        let due = self.poll_timeout().filter(|due| due.at <= at)?;
        Some(due.reason)
    }

    fn give(&mut self, at: Timestamp, input: Option<&Self::Input>) -> Option<Self::Reception> {
        match input {
            Some(input) => Some(self.handle_input(at, input.clone())),
            None => {
                self.handle_timeout(at);
                None
            }
        }
    }

    fn output(&mut self) -> Option<Self::Output> {
        self.poll_output()
    }

    fn show(&self, step: &StepOf<Self>, watch: &mut impl Watch) {
        watch.agent(step, self);
    }
}

impl Plays for Operator<u64> {
    type Input = operator::Input<u64>;
    type Output = operator::Output<u64>;
    type Reception = operator::Reception;
    type Due = operator::DeadlineReason;

    fn is_sound(&self) -> bool {
        true
    }

    fn due(&self, at: Timestamp) -> Option<Self::Due> {
        let due = self.poll_timeout().filter(|due| due.at <= at)?;
        Some(due.reason)
    }

    fn give(&mut self, at: Timestamp, input: Option<&Self::Input>) -> Option<Self::Reception> {
        match input {
            Some(input) => Some(self.handle_input(at, input.clone())),
            None => {
                self.handle_timeout(at);
                None
            }
        }
    }

    fn output(&mut self) -> Option<Self::Output> {
        self.poll_output()
    }

    fn show(&self, step: &StepOf<Self>, watch: &mut impl Watch) {
        watch.operator(step);
    }
}

/// Whether both say the same, apart from evidence. The operator puts evidence together from texts of what
/// was seen, and of these the recording has only names.
fn are_alike(given: &[Value], recorded: &[Value]) -> bool {
    given.len() == recorded.len()
        && given
            .iter()
            .zip(recorded)
            .all(|(one, other)| is_alike(one, other))
}

fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut fields = one.iter().zip(other);
            one.len() == other.len()
                && fields.all(|((name, one), (other_name, other))| {
                    let both_texts = one.is_string() && other.is_string();
                    let is_evidence = matches!(&**name, "evidence" | "message") && both_texts;
                    name == other_name && (is_evidence || is_alike(one, other))
                })
        }
        (Value::Array(one), Value::Array(other)) => are_alike(one, other),
        (one, other) => one == other,
    }
}

/// A saved state, as a file has it.
#[derive(Deserialize)]
struct State<M> {
    at: String,
    machine: M,
}

/// Replays one machine.
struct Player<M: Plays> {
    who: Who,
    machine: Option<M>,
    /// When the machine's time began by the wall clock.
    began: Option<SystemTime>,
    /// The step whose outputs are being read.
    open: Option<(StepOf<M>, Vec<Value>)>,
}

impl<M: Plays> Player<M> {
    fn new(who: Who) -> Self {
        Self {
            who,
            machine: None,
            began: None,
            open: None,
        }
    }

    fn take(
        &mut self,
        at: Timestamp,
        sign: Sign,
        value: &Value,
        watch: &mut impl Watch,
        replayed: &mut Replayed,
    ) {
        match sign {
            Sign::State => self.restore(at, value, watch, replayed),
            Sign::Missing => self.lose(watch, replayed),
            // The outputs of a step whose beginning is in an earlier file, or that a new machine has at once,
            // belong to no step.
            Sign::Output => {
                if let Some((_, recorded)) = &mut self.open {
                    recorded.push(value.clone());
                }
            }
            Sign::Input => {
                let input = M::Input::deserialize(value).ok();
                self.step(at, input.map(Some), watch, replayed);
            }
            Sign::Deadline => self.step(at, Some(None), watch, replayed),
        }
    }

    /// Begins a step, with an input or a deadline; none is an input that cannot be read.
    fn step(
        &mut self,
        at: Timestamp,
        input: Option<Option<M::Input>>,
        watch: &mut impl Watch,
        replayed: &mut Replayed,
    ) {
        self.close(true, watch, replayed);
        let (Some(machine), Some(input)) = (&mut self.machine, input) else {
            replayed.left_out = replayed.left_out.saturating_add(1);
            // From here on the machine is not known.
            self.machine = None;
            return;
        };
        let due = machine.due(at).filter(|_| input.is_none());
        let reception = machine.give(at, input.as_ref());
        let outputs = std::iter::from_fn(|| machine.output()).collect();
        let step = Step {
            at,
            wall: self.began.and_then(|began| began.checked_add(at.elapsed())),
            input,
            due,
            reception,
            outputs,
            difference: None,
        };
        self.open = Some((step, Vec::new()));
    }

    fn restore(
        &mut self,
        at: Timestamp,
        value: &Value,
        watch: &mut impl Watch,
        replayed: &mut Replayed,
    ) {
        self.close(true, watch, replayed);
        let before = self.machine.take();
        let state = State::<M>::deserialize(value).ok();
        let Some(State { at: wall, machine }) = state.filter(|state| state.machine.is_sound())
        else {
            replayed.unusable_states = replayed.unusable_states.saturating_add(1);
            return;
        };
        if before.is_some_and(|before| before != machine) {
            replayed.differences = replayed.differences.saturating_add(1);
            watch.other_state(self.who, at);
        }
        let wall = humantime::parse_rfc3339(&wall).ok();
        self.began = wall.and_then(|wall| wall.checked_sub(at.elapsed()));
        self.machine = Some(machine);
    }

    /// Ends the present step, and compares what was recorded of it. If it may be cut, only its beginning is
    /// compared.
    fn close(&mut self, is_whole: bool, watch: &mut impl Watch, replayed: &mut Replayed) {
        let Some((mut step, recorded)) = self.open.take() else {
            return;
        };
        let outputs = step.outputs.iter();
        // A value that cannot be written equals nothing that was read.
        let mut given: Vec<Value> = outputs
            .map(|output| serde_json::to_value(output).unwrap_or_default())
            .collect();
        if !is_whole {
            given.truncate(recorded.len());
        }
        if !are_alike(&given, &recorded) {
            replayed.differences = replayed.differences.saturating_add(1);
            let text = |values: Vec<Value>| values.iter().map(Value::to_string).collect();
            step.difference = Some(Difference {
                recorded: text(recorded),
                replayed: text(given),
            });
        }
        replayed.steps = replayed.steps.saturating_add(1);
        if let Some(machine) = &self.machine {
            machine.show(&step, watch);
        }
    }

    /// Records are missing from here on.
    fn lose(&mut self, watch: &mut impl Watch, replayed: &mut Replayed) {
        let was_known = self.machine.is_some();
        self.stop(watch, replayed);
        if was_known {
            watch.missing(self.who);
        }
    }

    fn stop(&mut self, watch: &mut impl Watch, replayed: &mut Replayed) {
        self.close(false, watch, replayed);
        self.machine = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evidence_is_not_compared_and_everything_else_is() {
        let unfit = |epoch, evidence| [json!({"Unfit": {"epoch": epoch, "evidence": evidence}})];
        assert!(are_alike(&unfit(1, "~a/20"), &unfit(1, "~b/31")));
        assert!(!are_alike(&unfit(1, "~a/20"), &unfit(2, "~a/20")));
        assert!(!are_alike(&unfit(1, "~a/20"), &[]));
        let probe = |name| [json!({"Event": {"ProbeUnknown": {"probe": name, "why": "~c/3"}}})];
        assert!(!are_alike(&probe("~a/20"), &probe("~b/31")));
        let none = [json!({"Unfit": {"epoch": 1, "evidence": null}})];
        assert!(!are_alike(&unfit(1, "~a/20"), &none));
    }
}
