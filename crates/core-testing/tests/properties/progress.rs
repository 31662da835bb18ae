//! Whatever came before: where epochs go live, exit when they are told and deadlines are handled,
//! the machine gets to where it was told to go.

use handover_core::{
    EpochInfo, EpochState, Exit, Input, Machine, Phase, Purpose, Standing, Timestamp, Urgency,
};
use handover_core_testing::Checker;
use handover_core_testing::scenario::{Line, Scenario};
use proptest::prelude::*;

use crate::generate::{self, Script};

proptest! {
    #![proptest_config(generate::config(1_000))]

    #[test]
    fn the_last_desire_is_what_runs_in_the_end(Script(scenario) in generate::scenario(40)) {
        let mut world = World::after(&scenario);
        let was_over = world.is_over();
        world.be_fair();
        let standing = world.machine.standing();
        let arrived = match standing {
            Standing::Live(_) | Standing::Nothing => true,
            Standing::GivenUp(_) | Standing::NotRestarted | Standing::Ending => was_over,
            Standing::Pending(_) => false,
        };
        prop_assert!(arrived, "{standing:?}: {:?}", world.machine);
    }

    #[test]
    fn a_terminate_leads_to_the_end(Script(scenario) in generate::scenario(40)) {
        let mut world = World::after(&scenario);
        world.give(Input::Terminate(Urgency::Drain));
        world.be_fair();
        let finished = matches!(world.machine.phase(), Phase::Finished(_));
        prop_assert!(finished, "{:?}", world.machine);
    }
}

struct World {
    machine: Machine<String>,
    checker: Checker<String>,
    now: Timestamp,
}

impl World {
    fn after(scenario: &Scenario) -> Self {
        let mut world = Self {
            machine: Machine::new(scenario.policy).unwrap(),
            checker: Checker::new(scenario.policy),
            now: Timestamp::ZERO,
        };
        for Line {
            at,
            missing_deadlines,
            input,
        } in &scenario.lines
        {
            while let Some(next) = world.machine.poll_timeout().filter(|next| next.at < *at)
                && !missing_deadlines
            {
                world.wait_until(next.at);
            }
            world.now = *at;
            match input {
                Some(input) => world.give(input.clone()),
                None => world.wait_until(*at),
            }
        }
        world
    }

    /// Whether the desired configuration may end up not running: its pursuit is over, or an epoch
    /// that was late will still cost it a retry, which may be its last.
    fn is_over(&self) -> bool {
        let over = match self.machine.standing() {
            Standing::GivenUp(_) | Standing::NotRestarted | Standing::Ending => true,
            Standing::Nothing | Standing::Live(_) | Standing::Pending(_) => false,
        };
        over || self.machine.epochs().any(is_aborting)
    }

    fn be_fair(&mut self) {
        for _ in 0..200 {
            match (self.next_input(), self.machine.poll_timeout()) {
                (Some(input), _) => self.give(input),
                (None, Some(due)) => self.wait_until(due.at),
                (None, None) => return,
            }
        }
        panic!("no end: {:?}", self.machine);
    }

    /// What the proxies do next: an aborted one exits, one that starts goes live, one that drains
    /// or is drained ends.
    fn next_input(&self) -> Option<Input<String>> {
        let newest = |which: fn(EpochInfo) -> bool| {
            self.machine
                .epochs()
                .rev()
                .find(|it| which(*it))
                .map(|it| it.epoch)
        };
        let exited = |epoch, exit| Input::Exited(epoch, exit);
        newest(is_aborting)
            .map(|epoch| exited(epoch, Exit::Aborted))
            .or_else(|| newest(is_starting).map(Input::Live))
            .or_else(|| newest(is_ending).map(|epoch| exited(epoch, Exit::Clean)))
    }

    fn give(&mut self, input: Input<String>) {
        let given = self.checker.give_input(&mut self.machine, self.now, input);
        let (_reception, _outputs) = given.expect("every invariant holds");
    }

    fn wait_until(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
        let outputs = self.checker.give_timeout(&mut self.machine, self.now);
        outputs.expect("every invariant holds");
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
