//! What a step of the state machine costs. `cargo xtask bench core` looks more closely.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use handover_core::{Epoch, Exit, Input, Machine, Policy, Timestamp};

use super::Bench;
use crate::figures::Unit;
use crate::record::Record;

/// The name of the measure, and its subject.
pub(crate) const NAME: &str = "core";
pub(crate) const MACHINE: &str = "state machine";

/// What is measured.
pub(crate) const HAND_OVER: &str = "a hand-over of three inputs";
pub(crate) const NOTHING: &str = "an input that changes nothing";
pub(crate) const DEADLINE: &str = "the next deadline";
pub(crate) const FIRST: &str = "the first 10,000 hand-overs, each";
pub(crate) const LAST: &str = "the last 10,000 of a million hand-overs, each";

/// So often one thing is done between two looks at the clock, which costs as much as a step.
const BATCH: u32 = 1_000;

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let mut world = World::new()?;
    for _ in 0..bench.choose(1_000, 20) {
        let mut time = |what: &str, step: &mut dyn FnMut(&mut World)| {
            let nanoseconds = nanoseconds_each(BATCH, || step(&mut world));
            record.add(what, MACHINE, Unit::Nanoseconds, nanoseconds);
        };
        time(HAND_OVER, &mut World::hand_over);
        time(NOTHING, &mut |world| {
            world.give(Input::Released(Epoch::new(7)));
        });
        time(DEADLINE, &mut |world| {
            black_box(world.machine.poll_timeout());
        });
    }
    let mut world = World::new()?;
    let part = bench.choose(10_000, 1_000);
    let first = nanoseconds_each(part, || world.hand_over());
    record.add(FIRST, MACHINE, Unit::Nanoseconds, first);
    for _ in 0..bench.choose(980_000, 8_000) {
        world.hand_over();
    }
    let last = nanoseconds_each(part, || world.hand_over());
    record.add(LAST, MACHINE, Unit::Nanoseconds, last);
    record.save()
}

fn nanoseconds_each(count: u32, mut step: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        step();
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

struct World {
    machine: Machine<Arc<str>>,
    configs: [Arc<str>; 2],
    /// The epoch that serves.
    serving: u32,
}

impl World {
    fn new() -> Result<Self> {
        let machine = Machine::new(Policy::resilient()).context("a policy of ours was refused")?;
        let mut world = Self {
            machine,
            configs: [Arc::from("A"), Arc::from("B")],
            serving: 0,
        };
        let [_, serving] = &world.configs;
        world.give(Input::Desire(Arc::clone(serving)));
        world.give(Input::Live(Epoch::ZERO));
        Ok(world)
    }

    fn hand_over(&mut self) {
        let [next, _] = &self.configs;
        self.give(Input::Desire(Arc::clone(next)));
        self.configs.swap(0, 1);
        let newest = self.serving.saturating_add(1);
        self.give(Input::Live(Epoch::new(newest)));
        self.give(Input::Exited(Epoch::new(self.serving), Exit::Clean));
        self.serving = newest;
    }

    fn give(&mut self, input: Input<Arc<str>>) {
        // What becomes of it does not matter here; that it is right is for the tests.
        let _reception = black_box(self.machine.handle_input(Timestamp::ZERO, input));
        while let Some(output) = self.machine.poll_output() {
            drop(black_box(output));
        }
    }
}
