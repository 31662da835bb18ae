//! Which models are explored.

use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Advance, LATE, OnCleanExit, OnExhausted, OnFailure, Policy};

use crate::agent::{Agent, Renewals};

/// Half of it is the step in which time passes, and a deadline that late is not yet missed.
const UNIT: Duration = LATE.saturating_mul(2);

/// The presets, and each value of a policy's enums at least once more with every option set. Starts that are
/// late multiply the states, so the preset with a start deadline has fewer epochs, and is there without one.
pub(crate) fn small() -> Vec<(String, Agent)> {
    let small = |(name, policy)| (name, bounded(policy, 1, 3, 3, None));
    let mut models: Vec<_> = presets().into_iter().map(small).collect();
    let mut fewer = Vec::new();
    for (name, agent) in &mut models {
        if agent.policy.start_deadline.is_some() {
            let with_deadline = Agent {
                policy: agent.policy,
                epochs: 2,
                ..*agent
            };
            fewer.push((name.clone(), with_deadline));
            agent.policy.start_deadline = None;
            name.push_str(", no start deadline");
        }
    }
    models.append(&mut fewer);
    let with_options = [
        (
            "at once, hold",
            Policy {
                advance: Advance::AtOnce,
                on_exhausted: OnExhausted::HoldLastGood,
                max_epochs: Some(2),
                ..Policy::default()
            },
        ),
        (
            "abort all, restart, start deadline",
            Policy {
                on_failure: OnFailure::AbortAll,
                on_clean_exit: OnCleanExit::Restart,
                start_deadline: Some(UNIT),
                ..Policy::default()
            },
        ),
        (
            "hold, stop on a clean exit, health",
            Policy {
                on_exhausted: OnExhausted::HoldLastGood,
                on_clean_exit: OnCleanExit::Stop,
                retry: Retry::default().with_reset_after(UNIT),
                ..Policy::default()
            },
        ),
        (
            "at once, abort all, stop on a clean exit",
            Policy {
                on_clean_exit: OnCleanExit::Stop,
                ..Policy::istio_1_2()
            },
        ),
    ];
    models.extend(
        with_options
            .into_iter()
            .map(|(name, policy)| small((name.to_owned(), policy))),
    );
    models
}

/// The small set with renewals, and fewer epochs and configurations.
pub(crate) fn with_renewals() -> Vec<(String, Agent)> {
    let models = small().into_iter().map(|(name, agent)| {
        let renewing = Agent {
            epochs: 2,
            configs: 2,
            renewals: Renewals::OfDesired,
            ..agent
        };
        (format!("{name}, with renewals"), renewing)
    });
    models.collect()
}

/// Policies under which starts give way. The ages of starts multiply the states, so there are few
/// epochs and configurations, and in the small set health is left out.
pub(crate) fn with_giving_way(large: bool) -> Vec<(String, Agent)> {
    let resilient = Policy::resilient();
    let without_health = Policy {
        retry: Retry {
            reset_after: None,
            ..resilient.retry
        },
        ..resilient
    };
    let without_deadline = Policy {
        start_deadline: None,
        drain_deadline: None,
        ..without_health
    };
    let gives_way = |name: &str, policy, configs, agent: fn(Agent) -> Agent| {
        let mut model = bounded(policy, 1, 2, configs, None);
        model.policy.give_way_after = Some(UNIT / 2);
        (format!("{name}, starts give way"), agent(model))
    };
    let gaps = |agent| Agent {
        gaps: true,
        ..agent
    };
    let renewing = |agent| Agent {
        renewals: Renewals::OfAny,
        ..agent
    };
    let mut models = vec![gives_way("resilient", without_health, 3, |agent| agent)];
    if large {
        models.extend([
            gives_way("resilient, with gaps", without_health, 2, gaps),
            gives_way("resilient, with health", resilient, 3, renewing),
            gives_way("no start deadline", without_deadline, 3, renewing),
        ]);
        for (name, policy) in combinations() {
            models.push(gives_way(&name, policy, 2, renewing));
        }
    }
    models
}

/// Policies with a shortest time between two changes. The time since the last one multiplies the states.
pub(crate) fn with_intervals(large: bool) -> Vec<(String, Agent)> {
    let resilient = Policy::resilient();
    let without_health = Policy {
        retry: Retry {
            reset_after: None,
            ..resilient.retry
        },
        ..resilient
    };
    let apart = |name: &str, policy, agent: fn(Agent) -> Agent| {
        let mut model = bounded(policy, 1, 2, 2, None);
        model.policy.min_interval = Some(UNIT);
        (format!("{name}, changes apart"), agent(model))
    };
    let renewing = |agent| Agent {
        renewals: Renewals::OfAny,
        ..agent
    };
    let gaps = |agent| Agent {
        gaps: true,
        ..agent
    };
    let giving_way = |mut agent: Agent| {
        agent.policy.give_way_after = Some(UNIT / 2);
        agent
    };
    let without_deadline = Policy {
        start_deadline: None,
        drain_deadline: None,
        ..without_health
    };
    let mut models = vec![apart("no start deadline", without_deadline, |agent| agent)];
    if large {
        models.extend([
            apart("resilient", without_health, renewing),
            apart("resilient, with gaps", without_health, gaps),
            apart("resilient, with health", resilient, renewing),
            apart("resilient, starts give way", without_health, giving_way),
        ]);
        for (name, policy) in combinations() {
            models.push(apart(&name, policy, renewing));
        }
    }
    models
}

/// Policies with a probation, in which an epoch may be found unfit. The ages of live epochs multiply
/// the states, and so does what is gone back to.
pub(crate) fn with_probation(large: bool) -> Vec<(String, Agent)> {
    let resilient = Policy::resilient();
    let without_health = Policy {
        retry: Retry {
            reset_after: None,
            ..resilient.retry
        },
        ..resilient
    };
    let tries = |name: &str, policy, epochs, renewals| {
        let mut model = bounded(policy, 1, epochs, 2, None);
        model.policy.probation = Some(UNIT);
        model.renewals = renewals;
        (format!("{name}, on probation"), model)
    };
    // What is started beyond the cap needs a third epoch.
    let without_deadline = Policy {
        start_deadline: None,
        ..without_health
    };
    let mut models = vec![tries("resilient", without_deadline, 3, Renewals::None)];
    if large {
        let name = "resilient, with start deadline";
        models.push(tries(name, without_health, 3, Renewals::None));
        models.push(tries(
            "resilient, with health",
            resilient,
            3,
            Renewals::None,
        ));
        let (name, model) = tries("resilient, with gaps", without_health, 2, Renewals::None);
        models.push((
            name,
            Agent {
                gaps: true,
                ..model
            },
        ));
        for (name, policy) in combinations() {
            models.push(tries(&name, policy, 2, Renewals::OfAny));
        }
    }
    models
}

/// The presets, few epochs and configurations, and a driver that is stopped now and then. The large
/// set has each combination of a policy's enums as well.
pub(crate) fn with_gaps(large: bool) -> Vec<(String, Agent)> {
    let mut policies = presets();
    if large {
        policies.extend(combinations());
    }
    let models = policies.into_iter().map(|(name, policy)| {
        let agent = bounded(policy, 1, 2, 2, None);
        let gaps = Agent {
            gaps: true,
            renewals: if large {
                Renewals::OfAny
            } else {
                Renewals::None
            },
            ..agent
        };
        (format!("{name}, with gaps"), gaps)
    });
    models.collect()
}

/// The presets, and each combination of a policy's enums with every option set: three retries, four
/// epochs, three configurations. Time passes in finer steps too, where the states stay within bounds.
pub(crate) fn large() -> Vec<(String, Agent)> {
    let mut models = Vec::new();
    for (name, policy) in presets().into_iter().chain(combinations()) {
        let large = |retries, tick| bounded(policy, retries, 4, 3, tick);
        // A fallback beside the desired one, and starts beside each other, multiply the states.
        let is_large = policy.advance == Advance::AtOnce
            && policy.on_exhausted == OnExhausted::HoldLastGood
            && policy.on_failure == OnFailure::KeepServing;
        let fine = Some(UNIT / 2);
        if is_large {
            models.push((format!("{name}, few retries"), large(1, fine)));
            models.push((name, large(3, None)));
        } else {
            models.push((name, large(3, fine)));
        }
    }
    for (_, agent) in &mut models {
        agent.renewals = Renewals::OfAny;
    }
    models
}

fn presets() -> Vec<(String, Policy)> {
    [
        ("default", Policy::default()),
        ("istio_1_2", Policy::istio_1_2()),
        ("resilient", Policy::resilient()),
    ]
    .map(|(name, policy)| (name.to_owned(), policy))
    .into()
}

fn combinations() -> Vec<(String, Policy)> {
    let mut policies = Vec::new();
    for advance in [Advance::WhenLive, Advance::AtOnce] {
        for on_failure in [OnFailure::KeepServing, OnFailure::AbortAll] {
            for on_exhausted in [OnExhausted::Stop, OnExhausted::HoldLastGood] {
                for on_clean_exit in [OnCleanExit::Stay, OnCleanExit::Restart, OnCleanExit::Stop] {
                    policies.push((
                        format!("{advance:?}, {on_failure:?}, {on_exhausted:?}, {on_clean_exit:?}"),
                        Policy {
                            advance,
                            on_failure,
                            on_exhausted,
                            on_clean_exit,
                            // Every option is set.
                            ..Policy::resilient()
                        },
                    ));
                }
            }
        }
    }
    policies
}

/// The policy with few retries and with spans that coincide often, and the bounds of its world.
fn bounded(
    policy: Policy,
    retries: u32,
    epochs: usize,
    configs: usize,
    tick: Option<Duration>,
) -> Agent {
    let retry = Retry {
        max_retries: retries,
        initial_interval: UNIT,
        max_interval: policy.retry.max_interval.map(|_| 2 * UNIT),
        reset_after: policy.retry.reset_after.map(|_| 2 * UNIT),
        ..policy.retry
    };
    Agent {
        policy: Policy {
            retry,
            start_deadline: policy.start_deadline.map(|_| UNIT),
            // Where starts give way is a set of its own: their ages multiply the states.
            give_way_after: None,
            // So are the time between changes and probation.
            min_interval: None,
            probation: None,
            abort_grace: policy.abort_grace.min(UNIT),
            drain_deadline: Some(UNIT),
            ..policy
        },
        epochs,
        configs,
        tick,
        gaps: false,
        renewals: Renewals::None,
    }
}
