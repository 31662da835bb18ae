//! The forged steps, by the invariant that they break.

use std::time::Duration;

use handover_core::{
    Abort, Epoch, EpochState, Event, GaveUp, Held, Outcome, Output, Phase, Purpose, Reception,
    Target, Timestamp,
};

use crate::{change, omit, start};

const SERVING: &str = "0 desire A\n1s live 0";

const FAILED: &str = "0 desire A\n1s live 0\n2s desire B\n3s exit 1 failed";

const HELD: &str =
    "policy resilient retries=0\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 failed";

const LOST: &str = "policy resilient retries=0\n0 desire A\n1s live 0\n2s desire B\n\
                    3s exit 1 failed\n4s exit 0 failed";

const RETRY: &str = "policy default initial=1s\n0 desire A\n1s exit 0 failed\n2s wait";

const FALLBACK: &str = "policy resilient retries=2 initial=1s reset_after=none\n0 desire A\n\
                        1s live 0\n2s desire B\n3s exit 1 permanent\n4s exit 0 failed";

const ABORT_ALL: &str =
    "policy default on_failure=abort_all\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 failed";

const RESTART: &str = "policy resilient\n0 desire A\n1s live 0\n2s restart B";

const HEALTH: &str = "policy resilient retries=3 reset_after=5s\n0 desire A\n1s exit 0 failed\n\
                      2s live 0\n7s wait";

/// A fallback that has used a retry, beside a healthy epoch that is older than a renewal.
const RENEWED: &str = "policy resilient retries=3 initial=10s reset_after=2s probation=60s\n\
                       0 desire A\n1s live 0\n100s desire B\n101s exit 1 permanent\n\
                       102s exit 0 failed\n103s exit 0 failed\n104s desire C\n105s live 0\n\
                       110s renew C";

const CAP: &str = "policy resilient\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n4s desire C";

const WAITED_FOR: &str =
    "policy resilient give_way_after=2s\n0 desire A\n1s live 0\n2s desire B\n3s desire C";

const APART: &str = "policy resilient min_interval=5s max_epochs=none\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n\
                     4s desire C";

const LATE: &str =
    "policy resilient start_deadline=5s\n0 desire A\n50ms live 0\n10s desire B\n15s wait";

const GIVES_WAY: &str =
    "policy resilient give_way_after=2s\n0 desire A\n1s live 0\n2s desire B\n5s desire C";

const ON_PROBATION: &str = "policy resilient probation=5s reset_after=none\n0 desire A\n1s live 0\n\
                            10s desire B\n11s live 1\n12s wait";

const PASSES: &str =
    "policy resilient probation=5s reset_after=none\n0 desire A\n1s live 0\n6s wait";

const UNFIT: &str = "policy resilient probation=5s reset_after=none\n0 desire A\n1s live 0\n\
                     10s desire B\n11s live 1\n12s unfit 1";

const DRAINED: &str = "0 desire A\n1s live 0\n2s terminate drain\n3s exit 0 clean\n4s exit 1 clean";

fn zero() -> Epoch {
    Epoch::ZERO
}

fn one() -> Epoch {
    Epoch::new(1)
}

forged! {
    a_number_that_is_no_successor: EpochIsSuccessor, "0 desire A", |step| {
        step.outputs = start(1, "A", Purpose::Desired).into();
    };
    a_number_that_is_taken: EpochIsSuccessor, FAILED, |step| {
        step.outputs.extend(start(0, "B", Purpose::Desired));
    };
    a_start_beside_a_start: OneStartAtATime, "0 desire A", |step| {
        step.outputs.extend(start(1, "A", Purpose::Desired));
    };
    a_start_above_the_cap: CapRespected, CAP, |step| {
        step.outputs.extend(start(2, "C", Purpose::Desired));
    };
    a_start_beyond_the_cap_that_is_not_said: CapRespected, UNFIT, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::BeyondCap { .. })));
    };
    a_start_within_the_cap_that_is_called_beyond_it: CapRespected, SERVING, |step| {
        let event = Event::BeyondCap { epoch: zero(), running: 2 };
        step.outputs.push(Output::Event(event));
    };
    a_probation_that_does_not_end: ProbationEndsOnTime, PASSES, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::ProbationPassed { .. })));
    };
    a_probation_that_ends_too_early: ProbationEndsOnTime, ON_PROBATION, |step| {
        step.outputs.push(Output::Event(Event::ProbationPassed { epoch: one() }));
    };
    an_unfit_epoch_that_is_not_called_so: UnfitMakesRoom, UNFIT, |step| {
        omit(step, |it| !matches!(it, Output::Start { .. }));
    };
    an_unfit_epoch_that_is_not_replaced: UnfitMakesRoom, UNFIT, |step| {
        change(step, |event| if let Event::Unfit { replaced, .. } = event {
            *replaced = false;
        });
    };
    a_fit_epoch_that_is_called_unfit: UnfitMakesRoom, ON_PROBATION, |step| {
        let event = Event::Unfit { epoch: one(), replaced: true };
        step.outputs.push(Output::Event(event));
    };
    an_unfit_configuration_that_is_not_given_up: FailureCostsWhatThePolicySays, UNFIT, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::GaveUp { .. })));
    };
    an_exit_without_cleanup: CleanupExactlyOnce, FAILED, |step| {
        omit(step, |it| matches!(it, Output::Cleanup(_)));
    };
    a_second_cleanup: CleanupExactlyOnce, FAILED, |step| {
        step.outputs.push(Output::Cleanup(one()));
    };
    a_cleanup_of_what_runs: CleanupExactlyOnce, SERVING, |step| {
        step.outputs.push(Output::Cleanup(zero()));
    };
    a_start_before_the_cleanup: CleanupExactlyOnce,
        "policy default initial=0\n0 desire A\n1s exit 0 failed", |step| {
        omit(step, |it| matches!(it, Output::Cleanup(_)));
        step.outputs.push(Output::Cleanup(zero()));
    };
    a_start_beside_an_aborted_epoch: NoStartWhileAborting, RESTART, |step| {
        step.outputs.extend(start(1, "B", Purpose::Desired));
    };
    a_start_to_serve_after_a_terminate: NoServeStartAfterTerminate,
        "0 desire A\n1s live 0\n2s terminate drain", |step| {
        for output in &mut step.outputs {
            if let Output::Start { target, .. } = output {
                *target = Target::Serve("A".into());
            }
        }
    };
    a_start_of_another_configuration: StartsWhatIsAskedFor, "0 desire A", |step| {
        step.outputs = start(0, "B", Purpose::Desired).into();
    };
    a_start_of_what_was_desired_before: StartsWhatIsAskedFor,
        "0 desire A\n1s live 0\n2s desire B", |step| {
        step.outputs = start(1, "A", Purpose::Desired).into();
    };
    a_start_without_an_event: StartsWhatIsAskedFor, "0 desire A", |step| {
        omit(step, |it| matches!(it, Output::Event(Event::Started { .. })));
    };
    an_event_without_a_start: StartsWhatIsAskedFor, SERVING, |step| {
        let [_, event] = start(0, "A", Purpose::Desired);
        step.outputs.push(event);
    };
    a_start_of_what_is_current: StartsWhatIsAskedFor,
        "policy default advance=at_once\n0 desire A", |step| {
        step.outputs.extend(start(1, "A", Purpose::Desired));
    };
    a_fallback_that_there_is_not: StartsWhatIsAskedFor,
        "policy resilient\n0 desire A", |step| {
        step.outputs = start(0, "A", Purpose::Fallback).into();
    };
    a_fallback_while_another_serves: StartsWhatIsAskedFor, HELD, |step| {
        step.outputs.extend(start(1, "A", Purpose::Fallback));
    };
    a_fallback_although_the_desired_one_may_start: StartsWhatIsAskedFor,
        "policy resilient initial=1s\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 failed\n\
         3500ms exit 0 failed\n3700ms desire C", |step| {
        step.outputs = start(0, "A", Purpose::Fallback).into();
    };
    a_fallback_that_never_served: StartsWhatIsAskedFor,
        &format!("{FALLBACK}\n5s wait"), |step| {
        step.outputs = start(0, "B", Purpose::Fallback).into();
    };
    a_drain_that_serves: StartsWhatIsAskedFor, "0 desire A", |step| {
        change(step, |event| if let Event::Started { purpose, .. } = event {
            *purpose = Purpose::Drain;
        });
    };
    too_many_retries_left: RetriesWithinBudget, FAILED, |step| {
        change(step, |event| if let Event::RetryScheduled { retries_left, .. } = event {
            *retries_left += 1;
        });
    };
    too_few_retries_left: RetriesWithinBudget, FALLBACK, |step| {
        change(step, |event| if let Event::RetryScheduled { retries_left, .. } = event {
            *retries_left -= 1;
        });
    };
    a_start_without_a_retry: RetriesWithinBudget, "0 desire A\n1s live 0\n2s exit 0 clean", |step| {
        step.outputs.extend(start(0, "A", Purpose::Desired));
    };
    a_refill_to_more_than_there_are: RetriesWithinBudget, HEALTH, |step| {
        change(step, |event| if let Event::BudgetRefilled { retries_left, .. } = event {
            *retries_left += 1;
        });
    };
    a_refill_that_is_left_out: RetriesWithinBudget, HEALTH, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::BudgetRefilled { .. })));
    };
    a_refill_before_health: RetriesWithinBudget,
        "policy resilient retries=3 reset_after=5s\n0 desire A\n1s exit 0 failed\n2s live 0\n\
         6s wait", |step| {
        let (epoch, retries_left) = (zero(), 3);
        step.outputs.push(Output::Event(Event::BudgetRefilled { epoch, retries_left }));
    };
    a_refill_of_neither_the_desired_nor_the_last_good_one: RetriesWithinBudget, RENEWED, |step| {
        let (epoch, retries_left) = (zero(), 3);
        step.outputs.push(Output::Event(Event::BudgetRefilled { epoch, retries_left }));
    };
    a_refill_of_what_is_full: RetriesWithinBudget,
        "policy resilient retries=3 reset_after=5s\n0 desire A\n1s live 0\n6s wait", |step| {
        let (epoch, retries_left) = (zero(), 3);
        step.outputs.push(Output::Event(Event::BudgetRefilled { epoch, retries_left }));
    };
    a_delay_that_is_too_short: RetriesWait, FAILED, |step| {
        change(step, |event| if let Event::RetryScheduled { delay, .. } = event {
            *delay /= 2;
        });
    };
    a_delay_that_does_not_double: RetriesWait,
        "policy default initial=1s\n0 desire A\n1s exit 0 failed\n3s exit 0 failed", |step| {
        change(step, |event| if let Event::RetryScheduled { delay, .. } = event {
            *delay = Duration::from_secs(1);
        });
    };
    a_delay_after_health: RetriesWait,
        "policy resilient reset_after=5s\n0 desire A\n1s live 0\n9s exit 0 failed", |step| {
        change(step, |event| if let Event::RetryScheduled { delay, .. } = event {
            *delay = Duration::from_millis(200);
        });
    };
    a_retry_that_does_not_wait: RetriesWait, FAILED, |step| {
        step.outputs.extend(start(1, "B", Purpose::Desired));
    };
    a_failure_without_a_retry: FailureCostsWhatThePolicySays, FAILED, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::RetryScheduled { .. })));
    };
    a_retry_without_a_failure: FailureCostsWhatThePolicySays, SERVING, |step| {
        step.outputs.push(retry(Purpose::Desired));
    };
    a_second_retry_for_one_failure: FailureCostsWhatThePolicySays, FAILED, |step| {
        step.outputs.push(retry(Purpose::Desired));
    };
    a_retry_for_another: FailureCostsWhatThePolicySays, FAILED, |step| {
        change(step, |event| if let Event::RetryScheduled { purpose, .. } = event {
            *purpose = Purpose::Fallback;
        });
    };
    a_retry_for_a_draining_epoch: FailureCostsWhatThePolicySays,
        "0 desire A\n1s live 0\n2s desire B\n3s live 1\n4s exit 0 failed", |step| {
        step.outputs.push(retry(Purpose::Desired));
    };
    a_retry_for_a_clean_exit: FailureCostsWhatThePolicySays,
        "0 desire A\n1s live 0\n2s exit 0 clean", |step| {
        omit(step, |it| matches!(it, Output::Event(Event::NotRestarted { .. })));
        step.outputs.push(retry(Purpose::Desired));
    };
    a_clean_exit_that_is_forgotten: FailureCostsWhatThePolicySays,
        "0 desire A\n1s live 0\n2s exit 0 clean", |step| {
        omit(step, |it| matches!(it, Output::Event(Event::NotRestarted { .. })));
    };
    a_clean_exit_that_is_told_of_a_draining_epoch: FailureCostsWhatThePolicySays,
        "0 desire A\n1s live 0\n2s desire B\n3s live 1\n4s exit 0 clean", |step| {
        step.outputs.push(Output::Event(Event::NotRestarted { epoch: zero() }));
    };
    a_clean_exit_that_does_not_end_the_agent: FailureCostsWhatThePolicySays,
        "policy default on_clean_exit=stop\n0 desire A\n1s live 0\n2s exit 0 clean", |step| {
        omit(step, |it| matches!(it, Output::Finish(_)));
        step.after.phase = Phase::Running;
    };
    an_agent_that_ends_for_no_cause: FailureCostsWhatThePolicySays, SERVING, |step| {
        step.after.phase = Phase::Stopping(Outcome::ProxyEnded { epoch: zero() });
    };
    a_permanent_failure_that_is_retried: FailureCostsWhatThePolicySays,
        "policy resilient\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 permanent", |step| {
        omit(step, |it| matches!(it, Output::Event(Event::GaveUp { .. })));
        step.outputs.push(retry(Purpose::Desired));
    };
    a_failure_that_is_given_up_too_early: FailureCostsWhatThePolicySays, FAILED, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::RetryScheduled { .. })));
        step.outputs.push(gave_up(true));
    };
    a_failure_that_is_retried_and_given_up: FailureCostsWhatThePolicySays, FAILED, |step| {
        step.outputs.push(gave_up(false));
    };
    a_failure_given_up_for_another_reason: FailureCostsWhatThePolicySays, HELD, |step| {
        change(step, |event| if let Event::GaveUp { why, .. } = event {
            *why = GaveUp::Permanent;
        });
    };
    a_fallback_lost_too_early: FailureCostsWhatThePolicySays, FALLBACK, |step| {
        omit(step, |it| matches!(it, Output::Event(Event::RetryScheduled { .. })));
        step.outputs.push(Output::Event(Event::FallbackLost { epoch: zero() }));
    };
    an_abort_of_a_start_for_no_cause: FailureCostsWhatThePolicySays,
        "policy default advance=at_once\n0 desire A\n1s desire B\n2s exit 0 failed", |step| {
        step.outputs.push(Output::Abort { epoch: one(), how: Abort::Graceful });
    };
    another_that_is_not_aborted: FailureCostsWhatThePolicySays, ABORT_ALL, |step| {
        omit(step, |it| matches!(it, Output::Abort { .. }));
        step.after.epochs[0].state = EpochState::Live;
    };
    a_late_start_without_a_retry: FailureCostsWhatThePolicySays,
        "policy default start_deadline=1s\n0 desire A\n2s exit 0 aborted", |step| {
        omit(step, |it| matches!(it, Output::Event(Event::RetryScheduled { .. })));
    };
    nothing_held_while_one_serves: HoldsLastGood, HELD, |step| {
        change(step, |event| if let Event::GaveUp { holding, .. } = event {
            *holding = false;
        });
    };
    held_where_the_policy_holds_nothing: HoldsLastGood,
        "policy default retries=0\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 failed", |step| {
        change(step, |event| if let Event::GaveUp { holding, .. } = event {
            *holding = true;
        });
    };
    a_fallback_where_the_policy_holds_nothing: HoldsLastGood, RETRY, |step| {
        change(step, |event| if let Event::Started { purpose, .. } = event {
            *purpose = Purpose::Fallback;
        });
    };
    held_with_nothing_left_to_hold: HoldsLastGood, LOST, |step| {
        let is_lost = |it: &Output<String>| matches!(it, Output::Event(Event::FallbackLost { .. }));
        let end = step.outputs.iter().position(is_lost).unwrap();
        step.outputs.truncate(end + 1);
        step.after.phase = Phase::Running;
        step.after.desired = step.before.desired.clone();
        step.after.retries_left = step.before.retries_left;
        step.after.held = step.before.held;
    };
    a_panic_for_nothing: PanicAtMostOnceThenFinish, SERVING, |step| {
        step.outputs.push(Output::Panic { config: "A".into(), epoch: zero() });
    };
    a_second_panic: PanicAtMostOnceThenFinish, LOST, |step| {
        step.outputs.pop();
        step.outputs.push(Output::Panic { config: "B".into(), epoch: one() });
    };
    no_panic_when_all_is_lost: PanicAtMostOnceThenFinish, LOST, |step| {
        omit(step, |it| matches!(it, Output::Panic { .. } | Output::Finish(_)));
    };
    a_panic_of_another_configuration: PanicAtMostOnceThenFinish, LOST, |step| {
        for output in &mut step.outputs {
            if let Output::Panic { config, .. } = output {
                *config = "A".into();
            }
        }
    };
    a_start_after_the_panic: PanicAtMostOnceThenFinish, LOST, |step| {
        step.outputs.pop();
        step.outputs.extend(start(0, "A", Purpose::Desired));
    };
    another_end_after_a_panic: PanicAtMostOnceThenFinish, LOST, |step| {
        step.outputs.pop();
        step.outputs.push(Output::Finish(Outcome::Drained));
    };
    a_good_epoch_aborted_for_a_bad_one: GoodEpochSurvivesBadOne, FAILED, |step| {
        step.outputs.push(Output::Abort { epoch: zero(), how: Abort::Graceful });
    };
    a_restart_that_aborts_nothing: RestartBeginsAnew, RESTART, |step| {
        omit(step, |it| matches!(it, Output::Abort { .. }));
        step.after.epochs[0].state = EpochState::Live;
        step.after.epochs[0].on_probation = true;
        step.after.current = step.before.current.clone();
    };
    a_restart_that_is_charged: RestartBeginsAnew,
        "policy resilient\n0 desire A\n1s live 0\n2s desire B\n3s live 1\n4s restart B\n\
         5s exit 0 failed", |step| {
        step.outputs.push(retry(Purpose::Desired));
    };
    a_restart_that_starts_the_last_good_one: RestartBeginsAnew,
        &format!("{RESTART}\n3s exit 0 aborted"), |step| {
        let ends = step.outputs.len() - 2;
        step.outputs.truncate(ends);
        step.outputs.extend(start(0, "A", Purpose::Fallback));
    };
    held_for_no_reason: NoLostDesire, FAILED, |step| step.after.held = None;
    held_although_it_is_current: NoLostDesire, SERVING, |step| {
        step.after.held = Some(Held::Starting(zero()));
    };
    held_by_a_start_that_is_live: NoLostDesire, FAILED, |step| {
        step.after.held = Some(Held::Starting(zero()));
    };
    held_by_an_abort_that_there_is_not: NoLostDesire, FAILED, |step| {
        step.after.held = Some(Held::Aborting(zero()));
    };
    held_by_a_cap_that_is_not_reached: NoLostDesire,
        "policy resilient\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 failed", |step| {
        step.after.held = Some(Held::Cap { running: 1 });
    };
    held_by_a_cap_that_is_miscounted: NoLostDesire, CAP, |step| {
        step.after.held = Some(Held::Cap { running: 3 });
    };
    held_until_after_the_retry: NoLostDesire, FAILED, |step| {
        step.after.held = Some(Held::Retry(Timestamp::from_millis(9_000)));
    };
    held_for_a_retry_without_a_deadline: NoLostDesire, FAILED, |step| step.after.deadline = None;
    held_as_given_up: NoLostDesire, FAILED, |step| step.after.held = Some(Held::GivenUp);
    held_as_left_alone: NoLostDesire, FAILED, |step| step.after.held = Some(Held::NotRestarted);
    held_by_numbers_that_are_left: NoLostDesire, FAILED, |step| {
        step.after.held = Some(Held::NumbersUsedUp);
    };
    a_fallback_that_is_not_started: NoLostDesire,
        "policy resilient initial=0\n0 desire A\n1s live 0\n2s desire B\n3s exit 1 permanent\n\
         4s exit 0 failed", |step| {
        let ends = step.outputs.len() - 2;
        step.outputs.truncate(ends);
        step.after.epochs.clear();
        step.after.current = None;
        step.after.held = Some(Held::GivenUp);
    };
    a_fallback_that_waits_for_the_retry_of_another: NoLostDesire,
        "policy resilient\n0 desire A\n1s live 0\n2s desire B\n3s stopped_serving 0\n\
         4s exit 1 failed", |step| {
        let ends = step.outputs.len() - 2;
        step.outputs.truncate(ends);
        step.after.epochs.pop();
        step.after.current = None;
        step.after.held = Some(Held::Retry(Timestamp::from_millis(4_200)));
    };
    a_fallback_that_waits_for_a_retry_while_it_drains: NoLostDesire,
        "policy resilient retries=9 initial=10s reset_after=none probation=none\n0 desire A\n\
         1s live 0\n2s desire B\n3s exit 1 permanent\n4s exit 0 failed\n15s live 0\n\
         16s desire C\n17s stopped_serving 0\n18s exit 1 failed", |step| {
        let ends = step.outputs.len() - 2;
        step.outputs.truncate(ends);
        step.after.epochs.pop();
        step.after.current = None;
        step.after.held = Some(Held::Retry(Timestamp::from_millis(28_000)));
    };
    a_fallback_that_is_forgotten_beside_a_start_and_an_unfit_epoch: NoLostDesire,
        "policy resilient give_way_after=2s reset_after=none probation=60s\n0 desire A\n\
         1s live 0\n100s desire B\n101s live 1\n102s unfit 1\n103s desire C\n\
         105s exit 2 aborted\n106s desire B", |step| {
        step.after.held = Some(Held::GivenUp);
    };
    an_older_epoch_that_counts_as_renewed: RenewalStartsAnEpoch,
        "0 desire A\n1s live 0\n2s renew A", |step| {
        step.outputs.clear();
        step.after.epochs.pop();
        step.after.epochs[0].desired = true;
    };
    an_epoch_that_is_not_retired: RetiredAtMostOnce,
        "0 desire A\n1s live 0\n2s desire B\n3s live 1", |step| {
        omit(step, |it| matches!(it, Output::Retire { .. }));
    };
    an_epoch_that_is_retired_twice: RetiredAtMostOnce,
        "0 desire A\n1s live 0\n2s desire B\n3s live 1", |step| {
        step.outputs.push(Output::Retire { epoch: zero(), by: one() });
    };
    an_epoch_that_is_retired_by_a_start: RetiredAtMostOnce,
        "0 desire A\n1s live 0\n2s desire B", |step| {
        step.outputs.push(Output::Retire { epoch: zero(), by: one() });
    };
    the_newest_that_is_retired: RetiredAtMostOnce, SERVING, |step| {
        step.outputs.push(Output::Retire { epoch: zero(), by: zero() });
    };
    an_aborted_epoch_that_is_retired: RetiredAtMostOnce,
        "policy default advance=at_once start_deadline=1s\n0 desire A\n500ms desire B\n\
         1s wait\n1200ms live 1", |step| {
        step.outputs.push(Output::Retire { epoch: zero(), by: one() });
    };
    the_newest_that_is_called_superseded: RetiredAtMostOnce, SERVING, |step| {
        let event = Event::Superseded { epoch: zero(), by: zero() };
        step.outputs.push(Output::Event(event));
    };
    a_start_that_is_said_to_supersede: RetiredAtMostOnce,
        "0 desire A\n1s live 0\n2s desire B\n3s stopped_serving 0", |step| {
        let event = Event::Superseded { epoch: zero(), by: one() };
        step.outputs.push(Output::Event(event));
    };
    a_terminate_that_does_not_end: UrgencyNeverFalls,
        "0 desire A\n1s live 0\n2s terminate drain", |step| step.after.phase = Phase::Running;
    a_stop_that_drains: UrgencyNeverFalls,
        "0 desire A\n1s live 0\n2s terminate stop", |step| {
        step.after.phase = Phase::Draining { until: None, epoch: None };
    };
    a_kill_that_asks: UrgencyNeverFalls,
        "0 desire A\n1s live 0\n2s terminate stop\n3s terminate kill", |step| {
        step.outputs.clear();
        step.after.epochs[0].state = EpochState::Aborting(Abort::Graceful);
    };
    a_gentler_end_that_is_accepted: UrgencyNeverFalls,
        "0 desire A\n1s live 0\n2s terminate stop\n3s terminate drain", |step| {
        step.input.as_mut().unwrap().1 = Reception::Accepted;
    };
    a_drain_that_nobody_asked_for: UrgencyNeverFalls, SERVING, |step| {
        step.after.phase = Phase::Draining { until: None, epoch: None };
    };
    an_output_for_an_ignored_input: RefusedInputsDoNothing,
        "0 desire A\n1s live 0\n2s desire A", |step| {
        step.outputs.push(Output::Event(Event::Restarting));
    };
    an_output_for_a_denied_input: RefusedInputsDoNothing,
        "0 desire A\n1s live 0\n2s terminate drain\n3s desire B", |step| {
        step.outputs.push(Output::Event(Event::DrainTimedOut));
    };
    an_output_after_the_end: AlwaysFinishes, DRAINED, |step| {
        step.outputs.push(Output::Event(Event::DrainTimedOut));
    };
    a_second_end: AlwaysFinishes, DRAINED, |step| {
        step.outputs.push(Output::Finish(Outcome::Drained));
    };
    an_end_while_one_runs: AlwaysFinishes, SERVING, |step| {
        step.outputs.push(Output::Finish(Outcome::Drained));
    };
    no_end_although_nothing_runs: AlwaysFinishes, DRAINED, |step| {
        omit(step, |it| matches!(it, Output::Finish(_)));
        step.after.phase = step.before.phase;
    };
    an_end_that_is_not_told: AlwaysFinishes, DRAINED, |step| {
        omit(step, |it| matches!(it, Output::Finish(_)));
    };
    killed_although_nobody_has: AlwaysFinishes, DRAINED, |step| {
        step.outputs.pop();
        step.outputs.push(Output::Finish(Outcome::Killed));
    };
    ended_by_the_proxy_although_it_has_not: AlwaysFinishes, DRAINED, |step| {
        step.outputs.pop();
        step.outputs.push(Output::Finish(Outcome::ProxyEnded { epoch: zero() }));
    };
    an_abort_of_what_does_not_run: AbortsEscalate, SERVING, |step| {
        step.outputs.push(Output::Abort { epoch: one(), how: Abort::Graceful });
    };
    an_abort_that_is_repeated: AbortsEscalate,
        "0 desire A\n1s live 0\n2s terminate stop", |step| {
        step.outputs.push(Output::Abort { epoch: zero(), how: Abort::Graceful });
    };
    an_abort_without_the_grace: AbortsEscalate,
        "0 desire A\n1s live 0\n2s terminate stop", |step| {
        step.outputs = vec![Output::Abort { epoch: zero(), how: Abort::Immediate }];
    };
    a_grace_that_there_is_not: AbortsEscalate,
        "policy default grace=0\n0 desire A\n1s live 0\n2s terminate stop", |step| {
        step.outputs = vec![Output::Abort { epoch: zero(), how: Abort::Graceful }];
    };
    a_start_that_is_withdrawn_twice: WithdrawnAtMostOnce,
        "0 desire A\n1s terminate drain", |step| step.outputs.push(Output::Withdraw(zero()));
    a_start_that_is_withdrawn_for_nothing: WithdrawnAtMostOnce, "0 desire A", |step| {
        step.outputs.push(Output::Withdraw(zero()));
    };
    what_serves_is_withdrawn: WithdrawnAtMostOnce,
        "0 desire A\n1s live 0\n2s terminate drain", |step| {
        step.outputs.push(Output::Withdraw(zero()));
    };
    a_late_start_that_is_not_asked: LateStartsMayAnswer, LATE, |step| {
        omit(step, |it| matches!(it, Output::Withdraw(_)));
        step.after.epochs[1].withdrawn = false;
    };
    a_late_start_that_is_aborted_at_once: LateStartsMayAnswer, LATE, |step| {
        step.outputs.push(Output::Abort { epoch: one(), how: Abort::Immediate });
        step.after.epochs[1].state = EpochState::Aborting(Abort::Immediate);
        step.after.epochs[1].withdrawn = false;
    };
    a_late_start_without_a_deadline: LateStartsMayAnswer, LATE, |step| {
        step.after.deadline = None;
    };
    a_late_start_that_is_not_aborted: LateStartsMayAnswer,
        "policy resilient start_deadline=5s\n0 desire A\n50ms live 0\n10s desire B\n20s wait", |step| {
        omit(step, |it| matches!(it, Output::Abort { .. }));
        step.after.epochs[1].state = EpochState::Starting;
        step.after.epochs[1].withdrawn = true;
    };
    a_late_start_that_outlives_its_deadline: LateStartsMayAnswer,
        "policy resilient start_deadline=5s\n0 desire A\n50ms live 0\n10s desire B\n20s wait", |step| {
        omit(step, |it| matches!(it, Output::Abort { .. }));
        step.after.epochs[1].state = EpochState::Starting;
        step.after.epochs[1].withdrawn = true;
        step.after.deadline = step.before.deadline;
    };
    a_start_that_gives_way_too_early: GivesWayToANewerDesire, WAITED_FOR, |step| {
        step.outputs.push(gives_way(1));
        step.outputs.push(Output::Withdraw(one()));
    };
    a_start_that_gives_way_to_nothing: GivesWayToANewerDesire,
        "policy resilient give_way_after=2s\n0 desire A\n5s wait", |step| {
        step.outputs.push(gives_way(0));
        step.outputs.push(Output::Withdraw(zero()));
    };
    a_start_that_gives_way_to_a_retry: GivesWayToANewerDesire,
        "policy resilient give_way_after=2s initial=1s\n0 desire A\n1s live 0\n2s desire B\n\
         3s exit 1 failed\n3s exit 0 failed\n8s wait", |step| {
        step.outputs.push(gives_way(0));
        step.outputs.push(Output::Withdraw(zero()));
    };
    a_start_that_gives_way_twice: GivesWayToANewerDesire, GIVES_WAY, |step| {
        step.outputs.extend([gives_way(1), Output::Withdraw(one())]);
    };
    a_start_that_gives_way_and_goes_on: GivesWayToANewerDesire, GIVES_WAY, |step| {
        omit(step, |it| matches!(it, Output::Withdraw(_)));
        step.after.epochs[1].withdrawn = false;
    };
    a_start_that_is_waited_for_without_a_deadline: GivesWayToANewerDesire, WAITED_FOR, |step| {
        step.after.deadline = None;
    };
    a_start_that_is_waited_for_until_its_deadline: GivesWayToANewerDesire, WAITED_FOR, |step| {
        step.after.deadline.as_mut().unwrap().at = Timestamp::from_millis(62_000);
    };
    a_start_that_does_not_give_way: GivesWayToANewerDesire,
        "policy resilient give_way_after=2s\n0 desire A\n1s live 0\n2s desire B\n3s desire C\n\
         4s wait", |step| {
        step.outputs.clear();
        step.after = step.before.clone();
    };
    a_change_just_after_another_one: ChangesAreApart, APART, |step| {
        step.outputs = start(2, "C", Purpose::Desired).into();
    };
    a_start_that_is_not_withdrawn: NoStartOutlivesTerminate,
        "0 desire A\n1s terminate drain", |step| {
        omit(step, |it| matches!(it, Output::Withdraw(_)));
        step.after.epochs[0].withdrawn = false;
    };
    a_withdrawn_start_that_nothing_ends: NoStartOutlivesTerminate,
        "0 desire A\n1s terminate drain", |step| step.after.deadline = None;
    a_missed_deadline_that_is_not_noticed: LooksBeforeLateDeadlines,
        "policy default start_deadline=1s\n0 desire A\n5s! wait", |step| step.outputs.clear();
    a_missed_deadline_that_is_not_put_off: LooksBeforeLateDeadlines,
        "policy default start_deadline=1s\n0 desire A\n5s! wait", |step| {
        step.after.deadline.as_mut().unwrap().at = Timestamp::from_millis(5_000);
    };
    a_deadline_that_is_put_off_twice: LooksBeforeLateDeadlines,
        "policy default start_deadline=1s\n0 desire A\n5s! wait\n9s! wait", |step| {
        step.outputs.clear();
        step.after = step.before.clone();
    };
    a_start_that_is_called_late_too_early: LooksBeforeLateDeadlines,
        "policy default start_deadline=2s\n0 desire A\n1s wait", |step| {
        step.outputs.push(Output::Event(Event::StartTimedOut { epoch: zero() }));
    };
    a_start_that_is_called_late_twice: LooksBeforeLateDeadlines, LATE, |step| {
        step.outputs.push(Output::Event(Event::StartTimedOut { epoch: one() }));
    };
    a_good_drain_that_is_called_failed: DrainedMeansDrained, DRAINED, |step| {
        step.outputs.pop();
        step.outputs.push(Output::Finish(Outcome::DrainFailed));
    };
    a_failed_drain_that_is_called_good: DrainedMeansDrained,
        "0 desire A\n1s live 0\n2s terminate drain\n3s exit 0 failed\n4s exit 1 aborted", |step| {
        step.outputs.pop();
        step.outputs.push(Output::Finish(Outcome::Drained));
    };
    an_epoch_that_is_not_shown: ShowsWhatRuns, SERVING, |step| step.after.epochs.clear();
    an_epoch_in_another_state: ShowsWhatRuns, SERVING, |step| {
        step.after.epochs[0].state = EpochState::Starting;
    };
    a_superseded_epoch_that_is_shown_as_live: ShowsWhatRuns,
        "0 desire A\n1s live 0\n2s desire B\n3s live 1", |step| {
        step.after.epochs[0].state = EpochState::Live;
    };
    an_epoch_for_another_purpose: ShowsWhatRuns, SERVING, |step| {
        step.after.epochs[0].purpose = Purpose::Fallback;
    };
    an_epoch_from_another_time: ShowsWhatRuns, SERVING, |step| {
        step.after.epochs[0].started = Timestamp::from_millis(1);
    };
    an_epoch_that_is_not_shown_as_desired: ShowsWhatRuns, SERVING, |step| {
        step.after.epochs[0].desired = false;
    };
    an_epoch_that_is_shown_as_desired: ShowsWhatRuns,
        "0 desire A\n1s live 0\n2s desire B", |step| step.after.epochs[0].desired = true;
    an_epoch_that_is_shown_as_released: ShowsWhatRuns, SERVING, |step| {
        step.after.epochs[0].released = true;
    };
    an_epoch_that_is_shown_as_withdrawn: ShowsWhatRuns, SERVING, |step| {
        step.after.epochs[0].withdrawn = true;
    };
    another_configuration_shown_as_desired: ShowsWhatRuns, SERVING, |step| {
        step.after.desired = Some("B".into());
    };
    another_configuration_shown_as_current: ShowsWhatRuns, SERVING, |step| {
        step.after.current = None;
    };
    other_retries_shown: ShowsWhatRuns, SERVING, |step| step.after.retries_left = Some(9);
}

fn retry(purpose: Purpose) -> Output<String> {
    Output::Event(Event::RetryScheduled {
        purpose,
        delay: Duration::from_millis(200),
        retries_left: 9,
    })
}

fn gives_way(epoch: u32) -> Output<String> {
    Output::Event(Event::GivesWay {
        epoch: Epoch::new(epoch),
        after: Duration::from_secs(3),
    })
}

fn gave_up(holding: bool) -> Output<String> {
    Output::Event(Event::GaveUp {
        epoch: one(),
        why: GaveUp::BudgetSpent,
        holding,
    })
}
