//! Any bytes, read as a policy and what happens under it: the machine keeps every invariant, and does
//! what the naive model of the property tests does.
//!
//! Nothing is refused, so every byte counts: this goes deeper into the machine than a text does.

#![no_main]

#[path = "../../crates/core-testing/tests/properties/model/mod.rs"]
mod model;

use std::time::Duration;

use handover_core::retry::{Jitter, Retry};
use handover_core::{
    Advance, Epoch, Exit, Input, OnCleanExit, OnExhausted, OnFailure, Output, Policy, Severity,
    Timestamp, Urgency,
};
use handover_core_testing::scenario::{Line, Scenario, What};
use libfuzzer_sys::fuzz_target;

use self::model::Model;

fuzz_target!(|bytes: &[u8]| {
    let scenario = Bytes(bytes).scenario();
    if let Err(difference) = compare(&scenario) {
        panic!("{difference}\n\nthe script, for crates/core-testing/scenarios/:\n\n{scenario}");
    }
});

/// Runs the script on the machine, with every invariant checked, and on the model.
fn compare(scenario: &Scenario) -> Result<(), String> {
    let transcript = scenario.run().map_err(|error| error.to_string())?;
    let mut model = Model::new(scenario.policy);
    for (index, step) in transcript.steps.iter().enumerate() {
        match &step.what {
            What::Input(input, _) => model.input(step.at, input),
            What::Timeout(_) => model.timeout(step.at),
        }
        let commands = step
            .outputs
            .iter()
            .filter(|it| !matches!(it, Output::Event(_)));
        let expected = model.take_acts();
        let waits = model.deadline();
        if !commands.eq(&expected) || step.deadline.map(|it| it.at) != waits {
            return Err(format!(
                "{transcript}\nin row {index} the model does {expected:?} and waits until {waits:?}"
            ));
        }
    }
    Ok(())
}

/// What is left of the bytes; when they are used up, only zeros come.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// First the policy, then two bytes for each line.
    fn scenario(mut self) -> Scenario {
        let policy = self.policy();
        let mut at = Timestamp::ZERO;
        let mut lines = Vec::new();
        while !self.0.is_empty() {
            let input = self.input();
            let when = self.next();
            at = at.after(seconds([0, 0, 0, 1, 2, 3, 5, 40][usize::from(when % 8)]));
            lines.push(Line {
                at,
                missing_deadlines: when >= 208,
                input,
            });
        }
        Scenario {
            title: String::new(),
            policy,
            lines,
        }
    }

    /// Short times and small numbers, so that moments coincide and limits are reached.
    fn policy(&mut self) -> Policy {
        Policy {
            retry: Retry {
                max_retries: u32::from(self.below(4)),
                initial_interval: seconds(self.below(4)),
                max_interval: self.optional(0, 4),
                reset_after: self.optional(1, 6),
                jitter: Jitter::NONE,
            },
            advance: self.one_of([Advance::WhenLive, Advance::AtOnce]),
            on_failure: self.one_of([OnFailure::KeepServing, OnFailure::AbortAll]),
            on_exhausted: self.one_of([OnExhausted::HoldLastGood, OnExhausted::Stop]),
            on_clean_exit: self.one_of([
                OnCleanExit::Stay,
                OnCleanExit::Restart,
                OnCleanExit::Stop,
            ]),
            start_deadline: self.optional(1, 5),
            give_way_after: self.optional(1, 4),
            min_interval: self.optional(1, 5),
            max_epochs: [None, Some(2), Some(3)][usize::from(self.below(3))],
            probation: self.optional(1, 6),
            abort_grace: seconds(self.below(4)),
            drain_deadline: self.optional(0, 4),
        }
    }

    fn input(&mut self) -> Option<Input<String>> {
        let byte = self.next();
        let epoch = Epoch::new(u32::from(byte % 4));
        let config = || ["A", "B", "C", "D"][usize::from(byte % 4)].to_owned();
        let exited = |exit| Input::Exited(epoch, exit);
        Some(match byte / 4 {
            0 => return None,
            1..=12 => Input::Desire(config()),
            13 => Input::Renew(config()),
            14 => Input::Restart(config()),
            15..=26 => Input::Live(epoch),
            27..=29 => Input::StoppedServing(epoch),
            30..=31 => Input::Released(epoch),
            32..=33 => Input::Withdrawn(epoch),
            34..=36 => Input::Unfit(epoch),
            37..=43 => exited(Exit::Failed(Severity::Transient)),
            44..=47 => exited(Exit::Failed(Severity::Permanent)),
            48..=54 => exited(Exit::Clean),
            55..=58 => exited(Exit::Aborted),
            59..=61 => Input::Terminate(Urgency::Drain),
            62 => Input::Terminate(Urgency::Stop),
            _ => Input::Terminate(Urgency::Kill),
        })
    }

    fn next(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }

    fn one_of<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[usize::from(self.next()) % N]
    }

    fn optional(&mut self, least: u8, number: u8) -> Option<Duration> {
        let choice = self.below(number + 1);
        (choice < number).then(|| seconds(least + choice))
    }
}

fn seconds(number: u8) -> Duration {
    Duration::from_secs(u64::from(number))
}
