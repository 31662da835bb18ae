//! What both machines record through: one order of lines, one list of names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handover_core::{Input, Machine, Output, Timestamp};
use handover_tokio::Observer;
use serde::Serialize;

use super::files::Limits;
use super::format::{LONGEST_LINE, Sign, Who, line};
use super::redact::Names;
use super::writer::{self, Writer};
use crate::operator::{self, Inputs, Operator, Rename};

/// How many configurations are known before those that no machine has any more are forgotten. Each one that
/// is known stays in memory.
const KNOWN: usize = 4;

/// The fewest records of a file on a small disk. Each file begins with the states, which may be most of its part.
const FEWEST: u64 = 64;

/// What both machines share.
pub(super) struct Tape<C> {
    writer: Writer,
    limits: Limits,
    names: Names,
    configs: Vec<Config<C>>,
    named: u64,
    /// How many files were begun.
    file: u64,
    /// The records and the bytes of the present file.
    records: u64,
    bytes: u64,
}

/// A configuration and its number.
struct Config<C> {
    config: C,
    number: u64,
    /// Whether each machine may hold it.
    held: [bool; 2],
}

/// Records the steps of one machine.
pub(crate) struct Recorded<C> {
    tape: Arc<Mutex<Tape<C>>>,
    who: Who,
    now: Timestamp,
    /// For which file, and after which gap, the state was written.
    saved: Option<(u64, u64)>,
    /// How many records could not be passed on since then.
    missing: u64,
}

/// A saved state. The wall clock is put beside it.
#[derive(Serialize)]
struct State<M> {
    machine: M,
}

/// The names that one machine gives.
struct Namer<'a, C> {
    names: &'a Names,
    configs: &'a mut Vec<Config<C>>,
    named: &'a mut u64,
    who: Who,
}

/// Marks the configurations that one machine holds.
struct Marker<'a, C> {
    configs: &'a mut Vec<Config<C>>,
    who: Who,
}

impl<C: Clone + Eq> Tape<C> {
    pub(super) fn new(writer: Writer, limits: Limits, records: u64, bytes: u64) -> Self {
        Self {
            writer,
            limits,
            names: Names::default(),
            configs: Vec::new(),
            named: 0,
            file: 0,
            records,
            bytes,
        }
    }

    fn namer(&mut self, who: Who) -> Namer<'_, C> {
        Namer {
            names: &self.names,
            configs: &mut self.configs,
            named: &mut self.named,
            who,
        }
    }

    /// Begins a new file when the present one is full, or has its part of a small disk. While the queue is full as
    /// well, that waits.
    fn make_room(&mut self) {
        let is_full = self.records >= self.limits.records || self.bytes >= self.limits.bytes;
        let has_its_part = self.records >= FEWEST && self.bytes >= self.writer.file_limit();
        if (is_full || has_its_part) && self.writer.rotate().is_ok() {
            self.file = self.file.saturating_add(1);
            (self.records, self.bytes) = (0, 0);
        }
    }

    /// Passes a line on, if it can be written.
    fn push(&mut self, line: Option<String>) -> bool {
        let Some(line) = line.filter(|line| line.len() <= LONGEST_LINE) else {
            return false;
        };
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(length);
        if bytes > self.limits.hard || self.writer.line(line).is_err() {
            return false;
        }
        self.bytes = bytes;
        self.records = self.records.saturating_add(1);
        true
    }

    /// Forgets the configurations that no machine holds. `mark` is told to mark those of one machine.
    fn forget(&mut self, who: Who, mark: impl FnOnce(&mut Marker<'_, C>)) {
        if self.configs.len() <= KNOWN {
            return;
        }
        for config in &mut self.configs {
            *held(&mut config.held, who) = false;
        }
        mark(&mut Marker {
            configs: &mut self.configs,
            who,
        });
        self.configs.retain(|config| config.held != [false; 2]);
    }
}

impl<C: Clone + Eq> Recorded<C> {
    pub(super) fn new(tape: &Arc<Mutex<Tape<C>>>, who: Who) -> Self {
        Self {
            tape: Arc::clone(tape),
            who,
            now: Timestamp::ZERO,
            saved: None,
            missing: 0,
        }
    }

    /// How many configurations are known.
    #[cfg(test)]
    pub(super) fn known_configs(&self) -> usize {
        lock(&self.tape).configs.len()
    }

    /// Records the beginning of a step, and before it the state where the file has none.
    fn begins(
        &mut self,
        now: Timestamp,
        state: impl FnOnce(&mut Namer<'_, C>) -> Option<String>,
        mark: impl FnOnce(&mut Marker<'_, C>),
        what: impl FnOnce(&mut Namer<'_, C>) -> (Sign, Option<String>),
    ) {
        self.now = now;
        let tape = Arc::clone(&self.tape);
        let mut tape = lock(&tape);
        if !tape.writer.has_room() {
            self.missing = self.missing.saturating_add(1);
            return;
        }
        tape.make_room();
        tape.forget(self.who, mark);
        let place = (tape.file, tape.writer.gaps());
        let mut namer = tape.namer(self.who);
        let (sign, json) = what(&mut namer);
        if self.missing > 0 || self.saved != Some(place) {
            self.saved = None;
            let json = state(&mut namer);
            if !self.push_missing(&mut tape) || !self.push(&mut tape, Sign::State, json) {
                self.missing = self.missing.saturating_add(1);
                return;
            }
            self.saved = Some(place);
        }
        if !self.push(&mut tape, sign, json) {
            self.missing = self.missing.saturating_add(1);
        }
    }

    /// Records an output of the step.
    fn gives(&mut self, what: impl FnOnce(&mut Namer<'_, C>) -> Option<String>) {
        // Once one is missing, the rest of the step cannot be compared.
        if self.missing > 0 {
            self.missing = self.missing.saturating_add(1);
            return;
        }
        let tape = Arc::clone(&self.tape);
        let mut tape = lock(&tape);
        let mut namer = tape.namer(self.who);
        let json = what(&mut namer);
        if !self.push(&mut tape, Sign::Output, json) {
            self.missing = self.missing.saturating_add(1);
        }
    }

    fn push(&self, tape: &mut Tape<C>, sign: Sign, json: Option<String>) -> bool {
        tape.push(json.map(|json| line(self.now, self.who, sign, &json)))
    }

    fn push_missing(&mut self, tape: &mut Tape<C>) -> bool {
        let missing = self.missing.to_string();
        if self.missing == 0 || self.push(tape, Sign::Missing, Some(missing)) {
            self.missing = 0;
            return true;
        }
        false
    }
}

impl<C: Clone + Eq> Namer<'_, C> {
    fn number(&mut self, config: &C) -> u64 {
        if let Some(known) = self
            .configs
            .iter_mut()
            .find(|known| known.config == *config)
        {
            *held(&mut known.held, self.who) = true;
            return known.number;
        }
        *self.named = self.named.saturating_add(1);
        let mut new = Config {
            config: config.clone(),
            number: *self.named,
            held: [false; 2],
        };
        *held(&mut new.held, self.who) = true;
        self.configs.push(new);
        *self.named
    }

    fn json<T: Serialize>(&self, value: &T) -> Option<String> {
        self.names.json(value).ok()
    }

    /// A state, with the wall clock beside it: that is no text of a machine.
    fn state<M: Serialize>(&self, machine: M) -> Option<String> {
        let state = self.json(&State { machine })?;
        let rest = state.strip_prefix('{')?;
        Some(format!(r#"{{"at":"{}",{rest}"#, writer::now()))
    }
}

impl<C: Clone + Eq> Rename<C> for Namer<'_, C> {
    type Config = u64;

    fn config(&mut self, config: &C) -> u64 {
        self.number(config)
    }

    fn inputs(&mut self, inputs: Inputs) -> Inputs {
        Inputs(self.names.of_digest(inputs.0))
    }
}

impl<C: Clone + Eq> Marker<'_, C> {
    fn mark(&mut self, config: &C) {
        if let Some(known) = self
            .configs
            .iter_mut()
            .find(|known| known.config == *config)
        {
            *held(&mut known.held, self.who) = true;
        }
    }
}

impl<C: Clone + Eq> Rename<C> for Marker<'_, C> {
    type Config = ();

    fn config(&mut self, config: &C) {
        self.mark(config);
    }

    fn inputs(&mut self, inputs: Inputs) -> Inputs {
        inputs
    }
}

impl<C: Clone + Eq + Send> Observer<C> for Recorded<C> {
    fn step_begins(&mut self, machine: &Machine<C>, now: Timestamp, input: Option<&Input<C>>) {
        let due = machine.poll_timeout();
        self.begins(
            now,
            |namer| {
                let machine = machine.map_config(&mut |config| namer.number(config));
                namer.state(machine)
            },
            |marker| drop(machine.map_config(&mut |config| marker.mark(config))),
            |namer| match input {
                Some(input) => {
                    let input = input.map_config(&mut |config| namer.number(config));
                    (Sign::Input, namer.json(&input))
                }
                None => {
                    let due = due.filter(|due| due.at <= now);
                    (Sign::Deadline, reason(due.map(|due| due.reason)))
                }
            },
        );
    }

    fn output(&mut self, output: &Output<C>) {
        self.gives(|namer| {
            let output = output.map_config(&mut |config| namer.number(config));
            namer.json(&output)
        });
    }
}

impl<C: Clone + Eq> Recorded<C> {
    /// Records the beginning of a step of the operator.
    pub(crate) fn operator_step(
        &mut self,
        operator: &Operator<C>,
        now: Timestamp,
        input: Option<&operator::Input<C>>,
    ) {
        let due = operator.poll_timeout();
        self.begins(
            now,
            |namer| {
                let machine = operator.rename(namer);
                namer.state(machine)
            },
            |marker| drop(operator.rename(marker)),
            |namer| match input {
                Some(input) => {
                    let input = input.rename(namer);
                    (Sign::Input, namer.json(&input))
                }
                None => {
                    let due = due.filter(|due| due.at <= now);
                    (Sign::Deadline, reason(due.map(|due| due.reason)))
                }
            },
        );
    }

    /// Records an output of the operator.
    pub(crate) fn operator_output(&mut self, output: &operator::Output<C>) {
        self.gives(|namer| {
            let output = output.rename(namer);
            namer.json(&output)
        });
    }
}

/// The reason of a deadline, which has nothing but words of the program and numbers.
fn reason(reason: Option<impl ToString>) -> Option<String> {
    serde_json::to_string(&reason.map(|reason| reason.to_string())).ok()
}

fn held(held: &mut [bool; 2], who: Who) -> &mut bool {
    let [agent, operator] = held;
    match who {
        Who::Agent => agent,
        Who::Operator => operator,
    }
}

/// A panic while it was held has left it as it was: each line is whole.
fn lock<C>(tape: &Mutex<Tape<C>>) -> MutexGuard<'_, Tape<C>> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}
