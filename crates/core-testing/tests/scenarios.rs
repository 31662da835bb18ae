//! Every script in `scenarios/` and the transcript it leads to, as a table.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use handover_core_testing::scenario::Scenario;

/// One test for each script, and the list of their names.
macro_rules! scenarios {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                let script = include_str!(concat!("../scenarios/", stringify!($name), ".txt"));
                insta::assert_snapshot!(stringify!($name), transcript(script));
            }
        )*
    };
}

scenarios! {
    start
    same_configuration_twice
    given_up_stays_given_up
    good_bad_good
    failed_epoch_is_retried_with_its_number
    delays_double
    burst_during_a_start
    burst_back_to_the_starting_one
    change_while_the_start_fails
    exhausted_with_nothing_else_stops
    exhausted_beside_a_good_one_stops
    exhausted_without_a_good_one_under_hold
    exhausted_beside_a_good_one_holds
    held_epoch_ends_cleanly
    permanent_failure_alone
    permanent_failure_beside_a_good_one
    permanent_failure_of_a_replaced_configuration
    permanent_failure_under_abort_all
    old_epoch_crashes_while_the_new_one_starts
    old_epoch_crashes_while_the_new_one_is_live
    live_epoch_dies_during_the_drain
    live_epoch_ends_before_the_drain_begins
    old_epoch_dies_during_the_drain
    released_epoch_dies_during_the_drain
    old_epoch_crashes_in_back_off
    old_epoch_crashes_in_back_off_under_stop
    new_epoch_crashes_after_live
    crash_in_a_back_off_is_not_counted_twice
    failure_crosses_an_abort
    change_crosses_an_abort
    abort_all_with_the_newest_of_three_failing
    abort_all_cascades
    abort_before_a_desire_is_not_held_against_it
    abort_all_escalates_after_the_grace
    clean_exit_stays
    clean_exit_before_live_stays
    clean_exit_restarts
    clean_exit_before_live_restarts
    clean_exit_stops
    clean_exit_before_live_stops
    clean_exit_of_a_draining_epoch
    start_deadline
    late_start_goes_live
    late_start_without_an_answer
    late_start_will_not_go_live
    late_start_of_the_fallback
    late_after_giving_way
    late_just_after_giving_way
    late_and_asked_for_again
    late_then_terminate
    late_start_ends_cleanly_during_the_drain
    late_then_restart
    late_under_abort_all
    gap_in_a_late_start
    start_deadline_spends_the_budget
    give_way
    give_way_at_once
    give_way_of_the_first_start
    give_way_to_a_renewal
    give_way_to_what_serves
    give_way_after_taking_over
    give_way_without_an_answer
    give_way_and_drain
    give_way_and_come_back
    give_way_and_come_back_live
    give_way_to_a_burst
    interval_of_a_burst
    interval_and_back
    interval_and_a_crash
    interval_and_a_retry
    interval_and_an_unfit_one
    interval_does_not_end_a_start
    interval_and_the_end
    interval_and_a_cold_restart
    gap_in_an_interval
    gap_over_an_interval
    give_way_up_to_the_deadline
    give_way_of_the_fallback
    give_way_and_fail
    give_way_then_terminate
    give_way_then_terminate_beside_live
    give_way_then_restart
    give_way_without_waiting_for_live
    gap_before_a_start_gives_way
    gap_in_a_start_that_gives_way
    cap_reached
    released_epoch_leaves_the_cap
    live_epoch_dies_while_the_cap_holds_a_change
    restart_begins_anew_at_epoch_0
    restart_with_nothing_running
    restart_escalates_after_the_grace
    restart_forgives_what_it_ends
    desire_during_a_restart
    desire_the_older_one_during_a_restart
    restart_twice
    restart_drops_an_older_failure
    restart_while_holding
    restart_that_fails_brings_the_last_good_one_back
    restart_that_fails_without_a_good_one
    restart_that_fails_under_stop
    restart_of_a_fallback
    restart_while_the_fallback_waits
    terminate_during_a_restart
    kill_during_a_restart
    restart_under_abort_all
    restart_while_all_are_aborted_for_a_failure
    terminate_with_nothing_running
    terminate_while_only_starting
    terminate_while_live
    terminate_and_the_others_end_first
    terminate_while_starting_beside_live
    terminate_drops_a_start_beside_live
    terminate_lets_a_start_drain_with_the_others
    terminate_ignored_by_a_start_beside_live
    terminate_while_going_live
    terminate_ignored_by_the_only_start
    terminate_while_only_starting_without_a_grace
    terminate_and_the_live_one_dies_beside_a_withdrawn_start
    terminate_twice_beside_a_withdrawn_start
    terminate_without_waiting_for_live
    withdrawn_and_nobody_asked
    stopped_serving
    stopped_serving_after_health
    stopped_serving_while_given_up
    stopped_serving_before_the_newer_is_given_up
    stopped_serving_to_three_changes
    stopped_serving_to_every_retry
    stopped_serving_of_the_desired_one
    stopped_serving_of_a_fallback_by_itself
    stopped_serving_with_a_fallback
    stopped_serving_while_the_newer_starts
    stopped_serving_spends_the_budget
    stopped_serving_under_abort_all
    stopped_serving_is_only_said_of_a_live_one
    stopped_serving_while_draining
    terminate_while_a_start_fails_beside_live
    terminate_in_back_off
    terminate_in_back_off_beside_live
    terminate_beside_a_draining_epoch_only
    terminate_while_aborting
    terminate_while_all_are_aborting
    terminate_while_holding
    terminate_after_giving_up
    terminate_twice
    terminate_three_times
    drain_deadline
    drain_deadline_during_a_start
    failed_drain
    kill_with_nothing_running
    kill_while_starting
    kill_while_live
    kill_in_back_off_beside_live
    kill_while_draining
    kill_while_stopping
    kill_while_aborting
    late_timeout
    late_input
    late_exit_after_health
    gap_in_a_start
    gap_in_a_start_that_hangs
    gap_that_is_short
    gap_after_a_gap
    gap_in_a_drain
    gap_in_a_drain_that_is_not_done
    gap_in_a_grace
    gap_in_a_back_off
    gap_proves_no_health
    gap_noticed_by_an_input
    gap_in_a_withdrawal
    early_and_repeated_timeouts
    input_after_the_end
    unknown_and_old_epochs
    live_while_aborting
    health_refills_the_budget
    health_with_a_full_budget
    crash_before_health_spends_the_budget
    fallback_while_given_up
    fallback_ends_cleanly
    fallback_gives_way
    fallback_start_holds_the_retry
    fallback_has_a_budget_of_its_own
    fallback_is_lost_and_the_desired_goes_on
    desire_the_fallback
    desire_the_fallback_in_its_back_off
    desire_the_fallback_while_the_other_starts
    fallback_is_not_judged_by_an_older_epoch_of_its_own
    fallback_is_replaced_by_a_newer_good_one
    fallback_that_became_desired_is_the_last_good_one_again
    fallback_that_is_late_is_forgotten_once_the_desired_is_live
    desire_the_older_live_one
    desire_the_older_live_one_while_the_other_starts
    older_desired_one_dies_while_the_other_starts
    older_desired_one_dies_while_the_other_is_aborted
    back_to_a_draining_configuration
    no_waiting_for_live
    cap_without_waiting_for_live
    terminate_weaker_after_stronger
    terminate_equal_twice
    terminate_jumps_to_kill
    terminate_stops_at_once
    terminate_stop_with_nothing_running
    retired_once
    retired_after_it_stopped_serving
    retired_while_starting
    renew
    renew_with_nothing_running
    renew_during_a_start
    renew_while_the_start_fails
    renew_in_a_back_off
    renew_while_given_up
    renew_while_the_cap_holds
    renew_that_fails
    renew_of_the_fallback
    desire_a_fallback_that_was_renewed
    renew_during_a_restart
    renew_after_a_clean_exit
    renew_while_terminating
    istio_start_then_drain
    istio_drain_returns_early
    istio_same_configuration_twice
    istio_good_bad_good
    istio_abort_of_healthy_epochs
    istio_fails_twice_then_starts
    istio_exceeds_a_budget_of_one
    istio_middle_epoch_exits_first
    istio_one_recovery_only
    istio_cascading_aborts
    istio_epoch_0_crashes_beside_epoch_1
    istio_clean_exit_is_not_started_again
    istio_crash_crosses_the_abort
    istio_change_while_aborting
    istio_exit_after_the_retry_delay
    istio_unasked_abort
    probation_passed
    unfit
    unfit_beyond_the_cap
    unfit_first_epoch
    unfit_and_the_next_one_is_unfit_too
    unfit_after_its_probation
    unfit_without_a_probation
    unfit_without_holding
    unfit_while_it_starts
    unfit_while_terminating
    terminate_while_the_good_one_starts
    unfit_and_the_good_one_fails
    unfit_then_it_dies
    unfit_then_it_stops_serving
    unfit_is_remembered
    unfit_and_renewed
    unfit_of_a_renewal
    unfit_while_a_newer_one_starts
    unfit_while_a_newer_one_starts_and_fails
    unfit_while_the_cap_holds_a_newer_one
    flood_on_probation
    flood_before_any_has_passed
    crash_on_probation
    crash_on_probation_beside_a_newer_one
    clean_exit_on_probation_stays
    restart_on_probation
    unfit_after_a_restart
    gap_on_probation
    gap_and_unfit
    desire_the_good_one_on_probation
    unfit_without_waiting_for_live
    unfit_under_abort_all
    unfit_of_what_is_renewed_meanwhile
    unfit_while_a_newer_one_starts_is_remembered
    renewed_start_outlives_the_verdict
    unfit_renewed_and_back
    unfit_is_forgotten_by_a_restart
    unfit_twice_then_while_terminating
    unfit_is_remembered_across_another_renewal
    give_way_of_the_fallback_that_serves_on
    late_newer_start_beside_an_older_one_that_goes_live
    fallback_refills_its_budget
    deadline_that_is_just_not_late
}

fn transcript(script: &str) -> String {
    let scenario = Scenario::parse(script).unwrap();
    match scenario.run() {
        Ok(transcript) => transcript.to_string(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_script_has_a_test() {
    let mut listed: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(names_in("scenarios", ".txt"), listed);
}

#[test]
fn every_snapshot_has_a_script() {
    let snapshots = names_in("tests/snapshots", ".snap");
    let scripts: Vec<String> = names_in("scenarios", ".txt")
        .iter()
        .map(|name| format!("scenarios__{name}"))
        .collect();
    assert_eq!(snapshots, scripts);
}

#[test]
fn every_script_says_in_one_sentence_what_it_is_about() {
    for name in NAMES {
        let path = folder("scenarios").join(format!("{name}.txt"));
        let scenario = Scenario::parse(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(scenario.title.ends_with('.'), "{name}: {}", scenario.title);
        assert!(!scenario.lines.is_empty(), "{name} has no line");
    }
}

fn names_in(name: &str, extension: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(extension).map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
