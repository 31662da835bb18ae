//! Every script in `scenarios/` and the transcript it leads to, as a table.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{run, script};

/// One test for each script, and the list of their names.
macro_rules! scenarios {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                let script = include_str!(concat!("scenarios/", stringify!($name), ".txt"));
                insta::with_settings!({ prepend_module_to_snapshot => false }, {
                    insta::assert_snapshot!(stringify!($name), transcript(script));
                });
            }
        )*
    };
}

scenarios! {
    hooks_of_a_hand_over_and_the_end
    hook_rejects_the_first_configuration
    hook_rejects_a_change
    newer_read_replaces_one_that_a_hook_holds
    hook_holds_the_drain_for_its_limit
    second_signal_does_not_wait_for_the_hook
    hook_of_an_unfit_epoch_and_of_what_was_given_up
    hook_of_what_was_given_up_at_the_end_is_run_once
    hook_of_the_same_configuration_is_run_for_a_next_epoch_only
    hook_of_an_unfit_epoch_has_the_evidence
    newer_read_drops_the_hook_that_waits_for_its_turn
    drain_after_a_panic_waits_for_no_hook
    reload_through_a_probation_is_refused_at_the_end
    start
    first_read_fails
    first_read_fails_while_a_client_waits
    first_read_is_short
    signal_before_the_first_read_is_done
    hang_up_before_the_first_read_is_done
    stand_in_starts_in_place_of_the_files
    files_equal_to_the_stand_in_take_its_place
    change_is_read_and_asked_for
    change_without_a_difference
    change_of_other_inputs_renews
    other_inputs_of_a_failed_change_are_not_forgotten
    back_to_the_live_configuration
    failed_read_keeps_what_runs
    failed_read_refuses_those_who_wait
    change_during_a_read_replaces_it
    those_who_wait_go_over_to_the_newer_read
    look_that_is_due_stays_due
    hang_up_starts_the_next_epoch
    hang_up_is_owed_by_the_next_good_read
    hang_up_during_a_change_is_not_lost
    hang_up_during_a_reload_is_reported_again
    ready_again_while_a_retry_is_due
    more_time_is_asked_for_during_a_long_start
    more_time_is_asked_for_until_the_end
    loop_is_reported_to_turn
    reload_is_answered_once_it_was_taken_in
    reload_waits_until_it_is_live
    reload_if_changed_without_a_change
    reload_if_changed_after_the_change_was_seen
    reload_joins_one_that_renews
    reload_is_given_up
    reload_is_replaced
    each_reload_hears_of_its_own_change
    reload_that_ends_cleanly
    reload_times_out_while_its_change_starts
    reload_times_out_while_the_files_are_read
    client_that_goes_takes_nothing_back
    client_that_goes_leaves_its_cold_restart
    cold_reload_restarts
    cold_reload_is_not_for_every_proxy
    cold_reload_that_was_refused_is_not_owed
    change_that_is_denied
    denial_ends_what_has_begun
    hurried_reload_releases_one_after_another
    hurried_reload_that_nothing_holds
    release_of_another_epoch_is_ignored
    hurried_reload_waits_for_a_retry
    hurried_reload_of_what_is_held_already
    hurried_reload_with_wait
    hurry_waits_for_a_state_of_its_change
    hurry_outlasts_the_start_of_another_epoch
    terminate_drains_stops_and_kills
    terminate_stops_where_no_drain_is_wanted
    terminate_during_a_read
    terminate_while_a_change_starts
    terminate_ends_what_is_tried_again
    nothing_new_begins_after_the_end_has_begun
    stop_is_no_more_for_being_said_twice
    stop_now_skips_the_drain_as_wanted
    stop_waits_for_the_end
    agent_ends_by_itself
    agent_panics
    panic_of_the_driver_drains
    panic_while_ending_changes_nothing
    drain_on_request
    drain_by_signal
    drain_by_signal_is_not_queued_twice
    drain_waits_until_no_client_is_connected
    drain_times_out
    drain_that_fails
    undrain_does_not_overtake_the_drain
    drain_goes_on_without_its_client
    drain_is_waited_for_while_everything_ends
    forwarded_signal
    short_read_is_tried_again
    pauses_grow_up_to_a_minute
    pauses_grow_while_the_agent_changes
    newer_read_takes_the_place_of_a_further_try
    short_start_is_tried_again
    failure_of_another_epoch_is_no_shortage
    short_start_is_not_noticed_during_a_read
    ready_is_told_after_the_first_look
    ready_is_not_told_while_nothing_listens
    sockets_that_cannot_be_seen_are_taken_at_their_word
    ready_again_after_a_look_at_the_next_epoch
    lost_listeners_show_in_the_next_status
    pauses_between_looks_grow_up_to_a_minute
    statuses_during_a_look_share_the_next_one
    look_only_when_who_listens_may_have_changed
    look_that_is_overtaken_counts_for_nobody
    look_for_a_status_that_is_overtaken_is_made_again
    look_that_is_overtaken_by_the_end_is_not_made_again
    look_that_panics_is_not_waited_for
    status_while_everything_ends
    status_names_the_newest_live_epoch
    ready_while_a_newer_change_starts
    ready_again_after_a_reload_that_failed
    ready_again_once_something_serves
    crash_of_the_only_epoch_shows_in_the_status
    number_of_an_ask_is_used_once
    what_is_over_is_ignored
    who_is_answered_while_everything_ends
    unfit_after_live
    silent_once_is_nothing
    silent_three_times
    missing_in_one_look_is_nothing
    missing_while_something_is_warming
    warming_that_ends_is_nothing
    probe_fails_three_times
    probe_recovers_after_two
    errors_rise
    quiet_minute_proves_nothing
    errors_as_before_prove_nothing
    unfit_first_epoch
    flood_of_changes_on_probation
    terminate_on_probation
    reload_through_a_probation_that_is_passed
    nothing_to_examine
    reload_through_a_probation_that_is_not
    reload_through_a_probation_is_replaced
    reload_through_a_probation_outlasts_a_crash
    reload_times_out_on_probation
    look_that_hangs
    unfit_is_not_what_the_agent_found
    another_epoch_of_the_same_number_is_judged_anew
    wait_until_ready
    wait_until_ready_looks_again
    wait_until_ready_keeps_the_looks_close
    wait_until_current
    wait_while_what_serves_is_about_to_end
    wait_until_current_lasts_while_files_cannot_be_read
    looks_keep_their_pauses_while_a_client_waits_for_something_else
    unfit_once_the_agent_has_found_it_so
    files_that_are_still_missing_are_no_news
    unfit_until_another_epoch_has_its_number
    wait_times_out
    wait_ends_with_an_instance_that_ends_by_itself
    wait_is_refused_once_the_end_was_asked_for
    files_are_awaited_before_the_first_read
    awaited_file_vanishes_again
    awaited_files_are_looked_at_after_each_failed_read
    awaited_files_come_too_late
    terminate_while_files_are_awaited
    job_is_done
    job_is_done_where_no_drain_is_wanted
    newer_configuration_of_a_client_wins
    first_configuration_of_a_client_is_rejected
    first_configuration_of_a_client_is_kept_on_probation
    configuration_of_a_client_while_files_are_awaited
    configuration_of_a_client_where_files_are_read
    configuration_of_a_client_that_is_unfit_is_not_kept
    configuration_of_a_client_that_is_rejected_leaves_no_trace
    configuration_of_a_client_that_is_given_up_is_not_kept
    configuration_of_a_client_that_is_desired_already
    configuration_of_a_client_that_comes_at_the_end
    configuration_of_a_client_on_probation_is_not_kept_yet
    configuration_of_a_client_is_kept_once_it_is_live
    configuration_of_a_client_goes_live_while_another_is_kept
    configuration_of_a_client_cannot_be_kept
}

fn transcript(text: &str) -> String {
    let transcript = script::parse(text).and_then(|script| run::transcript(&script));
    transcript.unwrap_or_else(|problem| panic!("{problem}"))
}

#[test]
fn every_script_has_a_test() {
    let mut listed: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(names_in("scenarios", ".txt"), listed);
}

#[test]
fn every_snapshot_has_a_script() {
    assert_eq!(
        names_in("snapshots", ".snap"),
        names_in("scenarios", ".txt")
    );
}

#[test]
fn every_script_says_in_one_sentence_what_it_is_about() {
    for name in NAMES {
        let path = folder("scenarios").join(format!("{name}.txt"));
        let script = script::parse(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(script.title.ends_with('.'), "{name}: {}", script.title);
        assert!(!script.lines.is_empty(), "{name} has no line");
    }
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line() {
    let problem = |text| script::parse(text).unwrap_err();
    assert_eq!(
        problem("0 wait\n0 reload"),
        "line 2: `reload` is not known here"
    );
    assert_eq!(
        problem("soon wait"),
        "line 1: `soon` is not a time; write for example `200ms`, `5s` or `0`"
    );
    assert_eq!(
        problem("5s wait\n1s wait"),
        "line 2: `1s` is before the line above"
    );
    assert_eq!(problem("0 read 1 ok A 7"), "line 1: write `inputs=N`");
    assert_eq!(problem("0 gone"), "line 1: a word is missing");
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
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/operator")
        .join(name)
}
