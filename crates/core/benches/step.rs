//! What a step costs: one input and the taking of all that comes out of it.
//!
//! `cargo xtask bench core` runs it.

use std::sync::Arc;

use divan::Bencher;
use handover_core::{Epoch, Exit, Input, Machine, Policy, PolicyError, Timestamp};

fn main() {
    divan::main();
}

/// A hand-over is three steps: the other configuration is desired, its epoch goes live, the older
/// one exits. The figure is that of one step.
#[divan::bench(sample_count = 1_000)]
fn step_of_a_hand_over(bencher: Bencher<'_, '_>) {
    let Ok(mut world) = World::new(Policy::resilient()) else {
        return;
    };
    bencher
        .counter(divan::counter::ItemsCount::new(world.steps()))
        .bench_local(|| world.hand_over());
}

#[divan::bench(sample_count = 1_000)]
fn an_input_that_changes_nothing(bencher: Bencher<'_, '_>) {
    let Ok(mut world) = World::new(Policy::resilient()) else {
        return;
    };
    world.hand_over();
    bencher.bench_local(|| world.give(Input::Released(Epoch::new(7))));
}

#[divan::bench(sample_count = 1_000)]
fn the_next_deadline(bencher: Bencher<'_, '_>) {
    let Ok(mut world) = World::new(Policy::resilient()) else {
        return;
    };
    world.hand_over();
    bencher.bench_local(|| divan::black_box(world.machine.poll_timeout()));
}

struct World {
    machine: Machine<Arc<str>>,
    configs: [Arc<str>; 2],
    now: Timestamp,
    /// The epoch that serves.
    serving: u32,
}

impl World {
    fn new(policy: Policy) -> Result<Self, PolicyError> {
        let mut world = Self {
            machine: Machine::new(policy)?,
            configs: [Arc::from("A"), Arc::from("B")],
            now: Timestamp::ZERO,
            serving: 0,
        };
        let [_, serving] = &world.configs;
        world.give(Input::Desire(Arc::clone(serving)));
        world.give(Input::Live(Epoch::ZERO));
        Ok(world)
    }

    fn steps(&self) -> usize {
        3
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
        let _reception = divan::black_box(self.machine.handle_input(self.now, input));
        while let Some(output) = self.machine.poll_output() {
            drop(divan::black_box(output));
        }
    }
}
