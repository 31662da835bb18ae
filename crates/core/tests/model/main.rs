//! Every order of events, exhaustively, within bounds: a few changes, a few retries, any epoch
//! going live, exiting in any way or hanging, deadlines handled in time or late, a terminate or a
//! kill at any moment.
//!
//! The model drives the machine that is shipped. Nothing is abstracted: time moves only to the next
//! deadline, so the moments are few; changes and retries are few, so each run ends and the states
//! are finite.
//!
//! `HANDOVER_MODEL=large` explores larger bounds for some minutes; build it with `--release`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the number of states is the result; the set is chosen by the environment"
)]

mod agent;
mod state;

use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Advance, OnCleanExit, OnExhausted, OnFailure, Policy};
use stateright::{Checker, Model};

use self::agent::Agent;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_default_preset_keeps_every_promise() {
    explore("default", preset(Policy::default()));
}

#[test]
fn the_preset_of_the_reference_keeps_every_promise() {
    explore("istio_1_2", preset(Policy::istio_1_2()));
}

#[test]
fn the_resilient_preset_keeps_every_promise() {
    explore("resilient", preset(Policy::resilient()));
}

#[test]
fn holding_while_clean_exits_stay_keeps_every_promise() {
    let policy = Policy {
        on_exhausted: OnExhausted::HoldLastGood,
        ..preset(Policy::default())
    };
    explore("hold, stay", policy);
}

#[test]
fn aborting_all_while_waiting_for_live_keeps_every_promise() {
    let policy = Policy {
        on_failure: OnFailure::AbortAll,
        on_clean_exit: OnCleanExit::Restart,
        start_deadline: Some(SECOND),
        ..preset(Policy::default())
    };
    explore("abort all, restart", policy);
}

#[test]
fn stopping_on_a_clean_exit_keeps_every_promise() {
    let policy = Policy {
        on_clean_exit: OnCleanExit::Stop,
        ..preset(Policy::default())
    };
    explore("stop on clean exit", policy);
}

#[test]
fn holding_without_waiting_for_live_keeps_every_promise() {
    let policy = Policy {
        advance: Advance::AtOnce,
        on_exhausted: OnExhausted::HoldLastGood,
        max_epochs: Some(2),
        ..preset(Policy::default())
    };
    explore("at once, hold", policy);
}

/// The preset with few retries and with all spans alike, so that moments coincide.
fn preset(policy: Policy) -> Policy {
    let retry = Retry {
        max_retries: if is_large() { 2 } else { 1 },
        initial_interval: SECOND,
        max_interval: None,
        reset_after: policy.retry.reset_after.map(|_| 2 * SECOND),
        ..policy.retry
    };
    Policy {
        retry,
        start_deadline: policy.start_deadline.map(|_| SECOND),
        abort_grace: policy.abort_grace.min(SECOND),
        drain_deadline: Some(SECOND),
        ..policy
    }
}

fn explore(name: &str, policy: Policy) {
    // Two things multiply the states: health, after which an epoch may be started without end, and
    // fallbacks beside epochs that nobody waits for.
    let by_health = policy.retry.reset_after.is_some();
    let by_fallback =
        policy.advance == Advance::AtOnce && policy.on_exhausted == OnExhausted::HoldLastGood;
    let agent = Agent {
        policy,
        changes: match (by_health, by_fallback, is_large()) {
            (true, _, _) | (_, true, false) => 2,
            (false, false, _) | (false, true, true) => 3,
        },
        starts: match (is_large(), by_health) {
            (false, _) => 4,
            (true, true) => 5,
            (true, false) => 6,
        },
        epochs: 4,
    };
    let checker = agent.checker().threads(2).spawn_bfs().join();
    println!("{name}: {} distinct states", checker.unique_state_count());
    checker.assert_properties();
}

fn is_large() -> bool {
    std::env::var("HANDOVER_MODEL").is_ok_and(|set| set == "large")
}
