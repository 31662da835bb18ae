//! Random policies and scripts.

use std::env;
use std::fmt;
use std::time::Duration;

use handover_core::retry::{Jitter, Retry};
use handover_core::{
    Advance, Epoch, Exit, Input, OnCleanExit, OnExhausted, OnFailure, Policy, Severity, Timestamp,
    Urgency,
};
use handover_core_testing::scenario::{Line, Scenario};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// So many cases, or as many as the environment variable `PROPTEST_CASES` asks for. A failing script
/// is shown, not kept: it belongs into `scenarios/`.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let of_environment = ProptestConfig::default();
    ProptestConfig {
        cases: if env::var_os("PROPTEST_CASES").is_some() {
            of_environment.cases
        } else {
            cases
        },
        failure_persistence: None,
        ..of_environment
    }
}

/// A scenario that a failing test shows as a script, ready to be put into `scenarios/`.
#[derive(Clone)]
pub(crate) struct Script(pub(crate) Scenario);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n\n{}", self.0)
    }
}

/// A line, with the time since the one before it.
type Step = (Duration, bool, Option<Input<String>>);

/// A script under a random policy. Times are short and few, so that moments often coincide.
pub(crate) fn scenario(lines: usize) -> impl Strategy<Value = Script> {
    (policy(), beginning(), vec(line(), 1..=lines)).prop_map(|(policy, first, steps)| {
        let mut at = Timestamp::ZERO;
        let steps = first.into_iter().chain(steps);
        let lines = steps.map(|(span, missing_deadlines, input)| {
            at = at.after(span);
            Line {
                at,
                missing_deadlines,
                input,
            }
        });
        Script(Scenario {
            title: String::new(),
            policy,
            lines: lines.collect(),
        })
    })
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        1 => Just(Policy::default()),
        1 => Just(Policy::istio_1_2()),
        1 => Just(Policy::resilient()),
        6 => any_policy(),
    ]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let retry = (0_u32..4, span(), option::of(span()), option::of(1_u64..8)).prop_map(
        |(max_retries, initial_interval, max_interval, reset_after)| Retry {
            max_retries,
            initial_interval,
            max_interval,
            reset_after: reset_after.map(Duration::from_secs),
            jitter: Jitter::NONE,
        },
    );
    let whom = (
        prop_oneof![Just(Advance::WhenLive), Just(Advance::AtOnce)],
        prop_oneof![Just(OnFailure::KeepServing), Just(OnFailure::AbortAll)],
        prop_oneof![Just(OnExhausted::Stop), Just(OnExhausted::HoldLastGood)],
        prop_oneof![
            Just(OnCleanExit::Stay),
            Just(OnCleanExit::Restart),
            Just(OnCleanExit::Stop)
        ],
    );
    let when = (
        option::of((1_u64..6).prop_map(Duration::from_secs)),
        option::of((1_u64..4).prop_map(Duration::from_secs)),
        option::of(2_u32..4),
        option::of((1_u64..6).prop_map(Duration::from_secs)),
        span(),
        option::of(span()),
        option::of((1_u64..6).prop_map(Duration::from_secs)),
    );
    (retry, whom, when).prop_map(|(retry, whom, when)| Policy {
        retry,
        advance: whom.0,
        on_failure: whom.1,
        on_exhausted: whom.2,
        on_clean_exit: whom.3,
        start_deadline: when.0,
        give_way_after: when.1,
        max_epochs: when.2,
        probation: when.3,
        abort_grace: when.4,
        drain_deadline: when.5,
        min_interval: when.6,
    })
}

fn span() -> impl Strategy<Value = Duration> {
    (0_u64..6).prop_map(Duration::from_secs)
}

/// What a script begins with. By chance alone, few would get as far as to a last good configuration.
fn beginning() -> impl Strategy<Value = Vec<Step>> {
    let a = || vec![Input::Desire("A".to_owned()), Input::Live(Epoch::ZERO)];
    let with = |more: &[Input<String>]| a().into_iter().chain(more.iter().cloned()).collect();
    let (b, one) = (Input::Desire("B".to_owned()), Epoch::new(1));
    let failed = Input::Exited(one, Exit::Failed(Severity::Transient));
    let inputs: Vec<Vec<Input<String>>> = vec![
        a(),
        with(&[b.clone(), Input::Live(one)]),
        with(&[b.clone(), Input::Live(one), Input::Unfit(one)]),
        with(&[b.clone(), Input::Live(one), failed.clone()]),
        with(&[b, failed]),
    ];
    let (long, none) = (Duration::from_secs(40), Duration::ZERO);
    let span = prop_oneof![2 => Just(long), 1 => Just(none)];
    let begun = (prop::sample::select(inputs), span).prop_map(move |(inputs, between)| {
        let change = Input::Desire("B".to_owned());
        let step = |input| {
            (
                if input == change { between } else { none },
                false,
                Some(input),
            )
        };
        inputs.into_iter().map(step).collect()
    });
    prop_oneof![1 => Just(Vec::new()), 1 => begun]
}

fn line() -> impl Strategy<Value = Step> {
    let span =
        prop_oneof![4 => Just(Duration::ZERO), 4 => span(), 1 => Just(Duration::from_secs(40))];
    (
        span,
        prop::bool::weighted(0.2),
        option::weighted(0.9, input()),
    )
}

/// Mostly what makes sense for the few epochs that run, sometimes nonsense.
fn input() -> impl Strategy<Value = Input<String>> {
    prop_oneof![
        12 => "[ABC]".prop_map(Input::Desire),
        2 => "[ABC]".prop_map(Input::Renew),
        2 => "[ABC]".prop_map(Input::Restart),
        14 => epoch().prop_map(Input::Live),
        2 => epoch().prop_map(Input::StoppedServing),
        2 => epoch().prop_map(Input::Released),
        2 => epoch().prop_map(Input::Withdrawn),
        4 => epoch().prop_map(Input::Unfit),
        16 => (epoch(), exit()).prop_map(|(epoch, exit)| Input::Exited(epoch, exit)),
        2 => urgency().prop_map(Input::Terminate),
    ]
}

fn epoch() -> impl Strategy<Value = Epoch> {
    prop_oneof![
        8 => Just(0_u32),
        8 => Just(1),
        4 => Just(2),
        2 => Just(3),
        1 => Just(u32::MAX),
    ]
    .prop_map(Epoch::new)
}

fn urgency() -> impl Strategy<Value = Urgency> {
    prop_oneof![
        6 => Just(Urgency::Drain),
        3 => Just(Urgency::Stop),
        1 => Just(Urgency::Kill),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        5 => Just(Exit::Failed(Severity::Transient)),
        1 => Just(Exit::Failed(Severity::Permanent)),
        3 => Just(Exit::Clean),
        1 => Just(Exit::Aborted),
    ]
}
