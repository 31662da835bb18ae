//! Every order of events, exhaustively: any number of changes, any epoch going live, exiting in any
//! way or hanging, deadlines handled in time or late, a terminate or a kill at any moment.
//!
//! The model drives the machine that is shipped. A state of the model is a machine that
//! stands for all which differ from it in names only ([`canonical`](handover_core::Machine::canonical):
//! the moment, the numbers of epochs, which configuration is called what). A property test of its own
//! shows that these do the same (`tests/properties/canonical.rs`). So the states are finite without a bound
//! on the length of a run, on the changes, the starts, the terminates or the time. What is bounded:
//! how many epochs run at once and how many configurations are told apart at once. Starts give way in a
//! set of its own, and so do changes that are apart, and probation. Time passes from
//! deadline to deadline, and in the large set in steps between them too.
//!
//! `cargo xtask model` explores the large set. The tests here explore the small one.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the number of states is the result; the set is chosen by the environment"
)]

mod agent;
mod sets;
mod state;

use std::time::Instant;

use stateright::{Checker, DiscoveryClassification, Model};

use self::agent::Agent;

#[test]
fn every_preset_and_every_value_of_a_policy_keeps_every_promise() {
    explore_all(if is_large() {
        sets::large()
    } else {
        sets::small()
    });
}

/// The large set renews in every model.
#[test]
fn every_promise_is_kept_where_configurations_are_renewed() {
    if !is_large() {
        explore_all(sets::with_renewals());
    }
}

#[test]
fn every_promise_is_kept_where_starts_give_way() {
    explore_all(sets::with_giving_way(is_large()));
}

#[test]
fn every_promise_is_kept_where_changes_are_apart() {
    explore_all(sets::with_intervals(is_large()));
}

#[test]
fn every_promise_is_kept_by_a_driver_that_is_stopped_now_and_then() {
    explore_all(sets::with_gaps(is_large()));
}

#[test]
fn every_promise_is_kept_on_probation() {
    explore_all(sets::with_probation(is_large()));
}

fn is_large() -> bool {
    std::env::var("HANDOVER_MODEL").is_ok_and(|set| set == "large")
}

fn explore_all(models: Vec<(String, Agent)>) {
    let begun = Instant::now();
    let mut sum = 0;
    let number = models.len();
    for (name, agent) in models {
        sum += explore(&name, agent);
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{sum:>9} distinct states in {number} models, {took:.1} s");
}

/// Explores all states, and fails with the way to the first one that should not be, or with the name
/// of a sight that is not to be seen.
fn explore(name: &str, agent: Agent) -> usize {
    let begun = Instant::now();
    let checker = agent.checker().threads(2).spawn_bfs().join();
    let states = checker.unique_state_count();
    let took = begun.elapsed().as_secs_f64();
    println!("{states:>9} distinct states in {took:>5.1} s: {name}");
    tell_ways(&checker);
    checker.assert_properties();
    states
}

/// Prints the way to each state that breaks a promise, state by state.
fn tell_ways(checker: &impl Checker<Agent>) {
    for (name, way) in checker.discoveries() {
        if let DiscoveryClassification::Example = checker.discovery_classification(name) {
            continue;
        }
        println!("{name} does not hold:");
        for (state, action) in way.into_vec() {
            println!("    {:?}", state.machine);
            println!("  {action:?}");
        }
    }
}
