//! What can happen, and what must be true of it.

use std::time::Duration;

use handover_core::{
    Advance, DeadlineReason, EpochInfo, EpochState, Exit, Held, Input, LOOK_AROUND, OnCleanExit,
    OnExhausted, OnFailure, Outcome, Phase, Policy, Purpose, Severity, Urgency,
};
use handover_core_testing::Invariant;
use stateright::{Model, Property};

use crate::state::State;

/// Longer than a driver is late that runs all the time, and longer than it looks around.
const GAP: Duration = LOOK_AROUND.saturating_mul(2);

/// An agent under a policy, and the world that is played to it.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) policy: Policy,
    /// How many epochs may run at once.
    pub(crate) epochs: usize,
    /// How many configurations may be told apart at once.
    pub(crate) configs: usize,
    /// Between two deadlines time passes in steps of this length, and a deadline may be overdue by
    /// as much; without it, time passes from deadline to deadline.
    pub(crate) tick: Option<Duration>,
    /// Which renewals are asked for.
    pub(crate) renewals: Renewals,
    /// Whether a deadline may also be handled so late that the driver was stopped meanwhile.
    pub(crate) gaps: bool,
}

/// Which configurations are renewed. They multiply the states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Renewals {
    None,
    /// Only the one that is desired.
    OfDesired,
    /// Any other one as well.
    OfAny,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Input(Input<usize>),
    /// The deadline has come and is handled.
    Timeout,
    /// The deadline has come, and something else is handled first.
    Delay,
    /// The deadline has come while nobody looked, and is handled much later.
    Gap,
    /// Some time has passed; no deadline has come meanwhile, or the one that is due is still not
    /// handled.
    Tick,
}

impl Model for Agent {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        State::start(self.policy).into_iter().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let machine = &state.machine;
        if state.broken.is_some() || machine.outcome().is_some() {
            return;
        }
        if machine.phase() == Phase::Running {
            // Those that the machine knows, and one that it does not know.
            let configs = (0..=state.configs()).filter(|new| machine.desired() != Some(new));
            actions.extend(configs.map(|new| Action::Input(Input::Desire(new))));
            let configs = 0..=state.configs();
            let renewed = configs.clone().filter(|config| match self.renewals {
                Renewals::None => false,
                Renewals::OfDesired => machine.desired() == Some(config),
                Renewals::OfAny => true,
            });
            actions.extend(renewed.map(|new| Action::Input(Input::Renew(new))));
            actions.extend(configs.map(|new| Action::Input(Input::Restart(new))));
        }
        for info in machine.epochs() {
            actions.extend(
                deeds(info, self.policy.max_epochs)
                    .into_iter()
                    .map(Action::Input),
            );
        }
        for urgency in [Urgency::Drain, Urgency::Stop, Urgency::Kill] {
            actions.push(Action::Input(Input::Terminate(urgency)));
        }
        if let Some(wait) = state.until_deadline() {
            actions.push(Action::Timeout);
            if !wait.is_zero() {
                actions.push(Action::Delay);
                // What a second gap does to what waits since the first is a test of its own.
                if self.gaps && machine.looks_around_until().is_none() {
                    actions.push(Action::Gap);
                }
            }
            if let Some(tick) = self.tick
                && (wait > tick || (wait.is_zero() && state.lateness() < tick))
            {
                actions.push(Action::Tick);
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let wait = state.until_deadline().unwrap_or_default();
        Some(match action {
            Action::Input(input) => state.after(Duration::ZERO, Some(input)),
            Action::Timeout => state.after(wait, None),
            Action::Delay => state.later(wait),
            Action::Gap => state.after(wait + GAP, None),
            Action::Tick => state.later(self.tick.unwrap_or_default()),
        })
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.machine.epochs().count() <= self.epochs && state.configs() <= self.configs
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = invariants();
        properties.extend(common_sights());
        properties.extend(self.sights_of_the_policy());
        properties
    }
}

/// What this epoch, by itself, can do next.
fn deeds(info: EpochInfo, max_epochs: Option<u32>) -> Vec<Input<usize>> {
    let epoch = info.epoch;
    let exits: &[Exit] = match info.state {
        EpochState::Aborting(_) => &[Exit::Aborted, Exit::Failed(Severity::Permanent)],
        EpochState::Starting | EpochState::Live | EpochState::Draining => &[
            Exit::Clean,
            Exit::Failed(Severity::Transient),
            Exit::Failed(Severity::Permanent),
        ],
    };
    let mut deeds: Vec<_> = exits
        .iter()
        .map(|exit| Input::Exited(epoch, *exit))
        .collect();
    if info.withdrawn {
        deeds.push(Input::Exited(epoch, Exit::Aborted));
    }
    if info.state == EpochState::Starting && info.purpose != Purpose::Drain {
        deeds.push(Input::Live(epoch));
    }
    if info.withdrawn {
        deeds.push(Input::Withdrawn(epoch));
    }
    if info.on_probation {
        deeds.push(Input::Unfit(epoch));
    }
    if info.state == EpochState::Live {
        deeds.push(Input::StoppedServing(epoch));
    }
    if max_epochs.is_some() && info.state == EpochState::Draining && !info.released {
        deeds.push(Input::Released(epoch));
    }
    deeds
}

fn invariants() -> Vec<Property<Agent>> {
    vec![
        Property::always("epoch_is_successor", |_, it: &State| {
            it.keeps(Invariant::EpochIsSuccessor)
        }),
        Property::always("one_start_at_a_time", |_, it: &State| {
            it.keeps(Invariant::OneStartAtATime)
        }),
        Property::always("cap_respected", |_, it: &State| {
            it.keeps(Invariant::CapRespected)
        }),
        Property::always("cleanup_exactly_once", |_, it: &State| {
            it.keeps(Invariant::CleanupExactlyOnce)
        }),
        Property::always("no_start_while_aborting", |_, it: &State| {
            it.keeps(Invariant::NoStartWhileAborting)
        }),
        Property::always("no_serve_start_after_terminate", |_, it: &State| {
            it.keeps(Invariant::NoServeStartAfterTerminate)
        }),
        Property::always("retries_within_budget", |_, it: &State| {
            it.keeps(Invariant::RetriesWithinBudget)
        }),
        Property::always("panic_at_most_once_then_finish", |_, it: &State| {
            it.keeps(Invariant::PanicAtMostOnceThenFinish)
        }),
        Property::always("good_epoch_survives_bad_one", |_, it: &State| {
            it.keeps(Invariant::GoodEpochSurvivesBadOne)
        }),
        Property::always("aborts_escalate", |_, it: &State| {
            it.keeps(Invariant::AbortsEscalate)
        }),
        Property::always("withdrawn_at_most_once", |_, it: &State| {
            it.keeps(Invariant::WithdrawnAtMostOnce)
        }),
        Property::always("gives_way_to_a_newer_desire", |_, it: &State| {
            it.keeps(Invariant::GivesWayToANewerDesire)
        }),
        Property::always("changes_are_apart", |_, it: &State| {
            it.keeps(Invariant::ChangesAreApart)
        }),
        Property::always("no_start_outlives_terminate", |_, it: &State| {
            it.keeps(Invariant::NoStartOutlivesTerminate)
        }),
        Property::always("probation_ends_on_time", |_, it: &State| {
            it.keeps(Invariant::ProbationEndsOnTime)
        }),
        Property::always("unfit_makes_room", |_, it: &State| {
            it.keeps(Invariant::UnfitMakesRoom)
        }),
        Property::always("starts_what_is_asked_for", |_, it: &State| {
            it.keeps(Invariant::StartsWhatIsAskedFor)
        }),
        Property::always("retries_wait", |_, it: &State| {
            it.keeps(Invariant::RetriesWait)
        }),
        Property::always("failure_costs_what_the_policy_says", |_, it: &State| {
            it.keeps(Invariant::FailureCostsWhatThePolicySays)
        }),
        Property::always("holds_last_good", |_, it: &State| {
            it.keeps(Invariant::HoldsLastGood)
        }),
        Property::always("refused_inputs_do_nothing", |_, it: &State| {
            it.keeps(Invariant::RefusedInputsDoNothing)
        }),
        Property::always("shows_what_runs", |_, it: &State| {
            it.keeps(Invariant::ShowsWhatRuns)
        }),
        Property::always("looks_before_late_deadlines", |_, it: &State| {
            it.keeps(Invariant::LooksBeforeLateDeadlines)
        }),
        Property::always("restart_begins_anew", |_, it: &State| {
            it.keeps(Invariant::RestartBeginsAnew) && it.restarts_once()
        }),
        Property::always("drained_means_drained", |_, it: &State| {
            it.keeps(Invariant::DrainedMeansDrained)
        }),
        Property::always("renewal_starts_an_epoch", |agent: &Agent, it: &State| {
            let renews = agent.renewals == Renewals::None || it.renews();
            it.keeps(Invariant::RenewalStartsAnEpoch) && renews
        }),
        Property::always("retired_at_most_once", |_, it: &State| {
            it.keeps(Invariant::RetiredAtMostOnce)
        }),
        Property::always("urgency_never_falls", |_, it: &State| {
            it.keeps(Invariant::UrgencyNeverFalls)
        }),
        Property::always("no_lost_desire", |_, it: &State| {
            it.keeps(Invariant::NoLostDesire) && it.gets_the_desired_to_run()
        }),
        Property::always("always_finishes", |_, it: &State| {
            it.keeps(Invariant::AlwaysFinishes) && it.finishes_when_told()
        }),
        Property::always("needless_timeouts_do_nothing", |_, it: &State| {
            it.bears_needless_timeouts()
        }),
        Property::always("repeated_inputs_do_nothing", |_, it: &State| {
            it.bears_repeated_inputs()
        }),
    ]
}

/// What must be seen under every policy, so that the model cannot be true by being empty.
fn common_sights() -> Vec<Property<Agent>> {
    vec![
        Property::sometimes("an epoch is live beside a draining one", |_, it: &State| {
            it.any(EpochState::Live) && it.any(EpochState::Draining)
        }),
        Property::sometimes("a cold restart waits for an exit", |_, it: &State| {
            it.is_restarting()
        }),
        Property::sometimes("a withdrawn start is waited for", |_, it: &State| {
            it.machine.epochs().any(|info| info.withdrawn)
        }),
        Property::sometimes("an epoch drains and none is newer", |_, it: &State| {
            let newest = it.machine.epochs().next_back();
            newest.is_some_and(|info| info.state == EpochState::Draining)
        }),
        Property::sometimes("a retry is waited for", |_, it: &State| {
            matches!(it.machine.held(), Some(Held::Retry(_)))
        }),
        Property::sometimes("the desired is given up", |_, it: &State| {
            matches!(it.machine.outcome(), Some(Outcome::GaveUp { .. }))
        }),
        Property::sometimes("all is drained", |_, it: &State| {
            it.ends_with(Outcome::Drained)
        }),
        Property::sometimes("the drain is cut", |_, it: &State| {
            it.ends_with(Outcome::DrainTimedOut)
        }),
        Property::sometimes("the drain is skipped", |_, it: &State| {
            it.ends_with(Outcome::DrainSkipped)
        }),
        Property::sometimes("the drain fails", |_, it: &State| {
            it.ends_with(Outcome::DrainFailed)
        }),
        Property::sometimes("all is killed", |_, it: &State| {
            it.ends_with(Outcome::Killed)
        }),
    ]
}

impl Agent {
    fn sights_of_the_policy(&self) -> Vec<Property<Self>> {
        let policy = &self.policy;
        let mut sights = Vec::new();
        if self.renewals != Renewals::None {
            sights.push(Property::sometimes(
                "a renewal starts an epoch",
                |_, it: &State| {
                    let mut serving = it
                        .machine
                        .epochs()
                        .filter(|info| info.purpose == Purpose::Desired);
                    serving.any(|info| info.state == EpochState::Live && !info.desired)
                },
            ));
        }
        if self.gaps {
            sights.push(Property::sometimes(
                "a missed deadline waits",
                |_, it: &State| it.machine.looks_around_until().is_some(),
            ));
        }
        if policy.advance == Advance::WhenLive {
            sights.push(Property::sometimes(
                "a change waits for a start",
                |_, it: &State| matches!(it.machine.held(), Some(Held::Starting(_))),
            ));
        }
        if policy.start_deadline.is_some() && !policy.abort_grace.is_zero() {
            sights.push(Property::sometimes(
                "a late start may answer",
                |_, it: &State| {
                    let next = it.machine.poll_timeout().map(|next| next.reason);
                    matches!(next, Some(DeadlineReason::LateStart(_)))
                },
            ));
        }
        if policy.advance == Advance::WhenLive && policy.give_way_after.is_some() {
            sights.push(Property::sometimes(
                "a start gives way to a change",
                |_, it: &State| {
                    let is_running = it.machine.phase() == Phase::Running;
                    is_running && it.machine.epochs().any(|info| info.withdrawn)
                },
            ));
        }
        if policy.min_interval.is_some() {
            sights.push(Property::sometimes(
                "a change waits for the one before",
                |_, it: &State| matches!(it.machine.held(), Some(Held::Interval(_))),
            ));
        }
        if policy.probation.is_some() {
            sights.push(Property::sometimes(
                "an epoch that is found unfit serves",
                |_, it: &State| it.machine.epochs().any(|info| info.unfit),
            ));
        }
        if policy.start_deadline.is_some() || policy.on_failure == OnFailure::AbortAll {
            sights.push(Property::sometimes(
                "an abort is waited for",
                |_, it: &State| matches!(it.machine.held(), Some(Held::Aborting(_))),
            ));
        }
        // Where a failure aborts every epoch, none is left to hold.
        if policy.on_exhausted == OnExhausted::HoldLastGood
            && policy.on_failure == OnFailure::KeepServing
        {
            sights.push(Property::sometimes(
                "the last good one is held",
                |_, it: &State| it.machine.is_degraded(),
            ));
            sights.push(Property::sometimes(
                "the last good one is started again",
                |_, it: &State| {
                    it.machine
                        .epochs()
                        .any(|info| info.purpose == Purpose::Fallback)
                },
            ));
        }
        match policy.on_clean_exit {
            OnCleanExit::Stay => {
                sights.push(Property::sometimes(
                    "a clean exit is left alone",
                    |_, it: &State| it.machine.held() == Some(Held::NotRestarted),
                ));
            }
            OnCleanExit::Stop => {
                sights.push(Property::sometimes(
                    "a clean exit is the end",
                    |_, it: &State| {
                        matches!(it.machine.outcome(), Some(Outcome::ProxyEnded { .. }))
                    },
                ));
            }
            OnCleanExit::Restart => {}
        }
        sights
    }
}
