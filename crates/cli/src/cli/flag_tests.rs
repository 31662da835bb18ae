//! Each flag of each command beside the test that proves its effect. A flag without an entry, and an
//! entry without its test, fail the build: a flag whose help promises what a command does not do
//! cannot be added in silence.

mod control;
mod hooks;
mod order;
mod program;
mod run_as;
mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::Cli;

/// Command, flag, test. The first part of a test is the program with the tests, the last one its
/// name, and between them is the file.
const FLAG_TESTS: &[(&str, &str, &str)] = &[
    (
        "run",
        "config-path",
        "commands::envoy::a_configuration_that_cannot_be_used_is_named_before_anything_starts",
    ),
    (
        "run",
        "config-from",
        "proof::apply::a_configuration_is_given_kept_and_run_again_after_a_restart",
    ),
    (
        "run",
        "config-overlay",
        "proof::overlay::an_overlay_is_merged_and_its_change_alone_is_one_hand_over",
    ),
    (
        "run",
        "template",
        "proof::template::a_template_is_rendered_for_each_epoch_and_changes_only_with_the_file",
    ),
    (
        "run",
        "envoy-path",
        "commands::envoy::an_envoy_that_is_not_there_is_named",
    ),
    (
        "run",
        "base-id",
        "commands::print_command::the_line_has_every_flag_and_a_shell_reads_it_back",
    ),
    (
        "run",
        "drain-time",
        "commands::print_command::the_line_has_every_flag_and_a_shell_reads_it_back",
    ),
    (
        "run",
        "parent-shutdown-time",
        "commands::print_command::the_line_has_every_flag_and_a_shell_reads_it_back",
    ),
    (
        "run",
        "watch",
        "proof::changes::another_watched_file_leads_to_the_next_epoch_too",
    ),
    (
        "run",
        "rescan-interval",
        "proof::changes::a_file_whose_changes_nobody_reports_is_looked_at_in_the_interval",
    ),
    (
        "run",
        "run-dir-group",
        "proof::places::a_start_script_that_changes_the_user_is_told_of_and_a_group_lets_it_read",
    ),
    (
        "run",
        "watch-binary",
        "proof::binary::a_replaced_binary_leads_to_the_next_epoch_and_nobody_loses_a_request",
    ),
    (
        "run",
        "concurrency",
        "commands::print_command::the_line_has_every_flag_and_a_shell_reads_it_back",
    ),
    (
        "run",
        "run-dir",
        "commands::print_command::the_line_has_every_flag_and_a_shell_reads_it_back",
    ),
    (
        "run",
        "lock-dir",
        "commands::flags::each_command_finds_an_instance_by_its_name_its_socket_and_its_directory",
    ),
    (
        "run",
        "state-dir",
        "proof::keeping::a_crash_is_reported_and_a_hanging_envoy_is_restarted",
    ),
    (
        "run",
        "record",
        "commands::recorder::without_a_state_directory_or_where_it_is_switched_off_nothing_is_recorded",
    ),
    (
        "run",
        "fallback",
        "proof::keeping::a_cold_start_on_a_bad_configuration_runs_the_last_known_good_one",
    ),
    (
        "run",
        "termination-log",
        "proof::ending::a_drain_that_takes_too_long_is_cut_with_75_and_tells_what_held_it",
    ),
    (
        "run",
        "hung-after",
        "proof::keeping::a_crash_is_reported_and_a_hanging_envoy_is_restarted",
    ),
    (
        "run",
        "on-hung",
        "proof::switches::with_on_hung_report_an_envoy_that_hangs_is_told_and_left_alone",
    ),
    (
        "run",
        "no-repair",
        "proof::switches::with_no_repair_the_flag_stays_the_running_epoch_is_held_and_the_remedy_named",
    ),
    (
        "run",
        "native-sidecar",
        "proof::control_drain::a_sidecar_drains_on_request_only_and_ends_at_once_on_term",
    ),
    (
        "run",
        "print-command",
        "proof::arguments::the_printed_command_is_the_one_that_runs",
    ),
    (
        "run",
        "name",
        "commands::flags::each_command_finds_an_instance_by_its_name_its_socket_and_its_directory",
    ),
    (
        "run",
        "socket",
        "proof::control::two_instances_have_sockets_and_base_ids_of_their_own",
    ),
    (
        "run",
        "service-cluster",
        "proof::arguments::envoy_says_that_it_was_told_what_the_flags_say",
    ),
    (
        "run",
        "service-node",
        "proof::arguments::envoy_says_that_it_was_told_what_the_flags_say",
    ),
    (
        "run",
        "local-address-ip-version",
        "proof::arguments::envoy_says_that_it_was_told_what_the_flags_say",
    ),
    (
        "run",
        "termination-drain",
        "proof::ending::a_drain_that_takes_too_long_is_cut_with_75_and_tells_what_held_it",
    ),
    (
        "run",
        "pre-drain-delay",
        "proof::stopping::before_the_drain_envoy_goes_on_accepting_while_its_health_checks_fail",
    ),
    (
        "run",
        "min-drain",
        "proof::stopping::a_drain_takes_its_shortest_time_even_without_a_connection",
    ),
    (
        "run",
        "drain-exclude-listener",
        "proof::stopping::a_kept_connection_on_an_excluded_listener_does_not_hold_the_stop",
    ),
    (
        "run",
        "drain-exclude-port",
        "proof::stopping::a_kept_connection_of_an_old_epoch_on_an_excluded_listener_holds_nothing",
    ),
    (
        "run",
        "drain-inbound-only",
        "proof::inbound_only::an_inbound_only_drain_closes_inbound_listeners_and_the_others_serve_until_its_end",
    ),
    (
        "run",
        "start-deadline",
        "commands::flags::an_epoch_that_is_not_live_in_time_is_ended",
    ),
    (
        "run",
        "give-way-after",
        "proof::withdrawing::a_corrected_configuration_does_not_wait_for_one_without_its_resources",
    ),
    (
        "run",
        "min-interval",
        "commands::intervals::a_burst_of_changes_is_started_once_and_once_more_when_the_interval_is_over",
    ),
    (
        "run",
        "max-retries",
        "commands::flags::retries_come_after_doubling_pauses_up_to_the_longest",
    ),
    (
        "run",
        "retry-jitter",
        "commands::flags::jitter_shortens_pauses_at_random",
    ),
    (
        "run",
        "retry-interval",
        "commands::flags::retries_come_after_doubling_pauses_up_to_the_longest",
    ),
    (
        "run",
        "retry-max-interval",
        "commands::flags::retries_come_after_doubling_pauses_up_to_the_longest",
    ),
    (
        "run",
        "reset-after",
        "proof::crashes::with_reset_after_an_envoy_that_stayed_live_is_restarted_at_once_each_time",
    ),
    (
        "run",
        "on-exit",
        "proof::crashes::with_on_exit_stop_a_killed_envoy_is_the_end_with_its_code_and_its_reason",
    ),
    (
        "run",
        "on-exhausted",
        "proof::crashes::with_on_exhausted_stop_a_rejected_configuration_ends_what_serves",
    ),
    (
        "run",
        "max-epochs",
        "commands::flags::run_warns_of_what_envoy_does_with_more_epochs_than_two",
    ),
    (
        "run",
        "abort-grace",
        "commands::flags::an_epoch_that_does_not_stop_is_killed_after_the_grace",
    ),
    (
        "run",
        "log-format",
        "commands::flags::the_log_of_both_has_the_format_and_the_level_that_were_asked_for",
    ),
    (
        "run",
        "log-level",
        "commands::flags::the_log_of_both_has_the_format_and_the_level_that_were_asked_for",
    ),
    (
        "run",
        "envoy-log-level",
        "proof::arguments::envoy_says_that_it_was_told_what_the_flags_say",
    ),
    (
        "run",
        "envoy-component-log-level",
        "proof::arguments::envoy_says_that_it_was_told_what_the_flags_say",
    ),
    (
        "run",
        "wait-for-resources",
        "proof::switches::without_waiting_for_resources_the_configuration_itself_decides",
    ),
    (
        "run",
        "memory-guard",
        "proof::memory::a_hand_over_waits_for_memory_and_what_serves_goes_on",
    ),
    (
        "run",
        "probation",
        "commands::probation::a_verify_command_that_fails_leads_back_to_what_served_before",
    ),
    (
        "run",
        "verify",
        "commands::probation::a_verify_command_that_fails_leads_back_to_what_served_before",
    ),
    (
        "run",
        "verify-failures",
        "commands::probation::a_first_epoch_that_is_unfit_is_reported_and_serves_on",
    ),
    (
        "run",
        "verify-timeout",
        "commands::probation::a_verify_command_that_hangs_has_failed_after_its_time",
    ),
    (
        "run",
        "verify-tcp",
        "commands::probation::a_probe_that_is_refused_is_evidence",
    ),
    (
        "run",
        "verify-http",
        "commands::probation::a_probe_that_is_refused_is_evidence",
    ),
    (
        "run",
        "max-error-rise",
        "commands::probation::what_cannot_be_verified_is_refused",
    ),
    (
        "exec",
        "probation",
        "commands::probation::a_verify_command_that_fails_leads_back_to_what_served_before",
    ),
    (
        "exec",
        "verify",
        "commands::probation::a_verify_command_that_fails_leads_back_to_what_served_before",
    ),
    (
        "exec",
        "verify-failures",
        "commands::probation::a_first_epoch_that_is_unfit_is_reported_and_serves_on",
    ),
    (
        "exec",
        "verify-timeout",
        "commands::probation::a_verify_command_that_hangs_has_failed_after_its_time",
    ),
    (
        "exec",
        "verify-tcp",
        "commands::probation::a_probe_that_is_refused_is_evidence",
    ),
    (
        "exec",
        "verify-http",
        "commands::probation::a_probe_that_is_refused_is_evidence",
    ),
    (
        "exec",
        "memory-guard",
        "commands::shortages::a_second_process_that_does_not_fit_is_started_where_that_is_asked_for",
    ),
    (
        "exec",
        "state-dir",
        "commands::recorder::a_killed_run_with_changes_and_failures_is_replayed_without_a_difference",
    ),
    (
        "exec",
        "record",
        "commands::recorder::without_a_state_directory_or_where_it_is_switched_off_nothing_is_recorded",
    ),
    (
        "run",
        "status-address",
        "commands::status_server::an_address_that_cannot_be_had_ends_the_start_before_anything_runs",
    ),
    (
        "exec",
        "status-address",
        "commands::status_server::a_hand_over_never_shows_as_not_ready",
    ),
    (
        "run",
        "status-envoy-stats",
        "proof::stats::over_two_hand_overs_under_load_each_request_is_counted_once",
    ),
    (
        "run",
        "compat-endpoints",
        "commands::compat::calls_without_a_status_server_are_refused_before_anything_runs",
    ),
    (
        "exec",
        "compat-endpoints",
        "commands::compat::a_job_on_this_host_ends_its_proxy_as_it_ends_another_sidecar",
    ),
    (
        "exec",
        "listen",
        "commands::exec::a_program_finds_its_sockets_and_its_epoch",
    ),
    (
        "exec",
        "fd-name",
        "commands::exec::a_program_finds_its_sockets_and_its_epoch",
    ),
    (
        "exec",
        "nonblocking",
        "commands::exec::passed_sockets_block_unless_asked_for_otherwise",
    ),
    (
        "exec",
        "watch",
        "commands::exec::a_changed_file_leads_to_the_next_epoch_and_a_bad_one_does_not",
    ),
    (
        "exec",
        "rescan-interval",
        "commands::watching::without_inotify_it_looks_in_the_interval_and_a_signal_counts_what_is_there",
    ),
    (
        "exec",
        "drain-time",
        "commands::exec::an_old_epoch_that_does_not_end_is_killed_after_the_drain_time",
    ),
    (
        "exec",
        "stop-signal",
        "commands::signals::another_stop_signal_is_used_where_one_is_named",
    ),
    (
        "exec",
        "notify",
        "commands::ends::a_program_that_is_never_live_is_ended_and_tried_again",
    ),
    (
        "exec",
        "ready-fd",
        "commands::readiness::a_line_on_the_descriptor_is_readiness",
    ),
    (
        "exec",
        "probe-tcp",
        "commands::readiness::a_probe_is_asked_until_it_is_answered",
    ),
    (
        "exec",
        "probe-http",
        "commands::readiness::a_probe_is_asked_until_it_is_answered",
    ),
    (
        "exec",
        "live-after",
        "commands::readiness::without_a_word_of_the_program_the_time_it_has_run_counts",
    ),
    (
        "exec",
        "name",
        "commands::control::a_second_instance_of_the_same_name_is_refused",
    ),
    (
        "exec",
        "socket",
        "commands::control::instances_are_told_apart_by_name_and_left_ones_are_passed_over",
    ),
    (
        "exec",
        "start-deadline",
        "commands::flags::an_epoch_that_is_not_live_in_time_is_ended",
    ),
    (
        "exec",
        "give-way-after",
        "commands::exec::a_start_that_never_becomes_ready_gives_way_to_the_next_change",
    ),
    (
        "exec",
        "min-interval",
        "commands::intervals::a_burst_of_changes_is_started_once_and_once_more_when_the_interval_is_over",
    ),
    (
        "exec",
        "max-retries",
        "commands::flags::retries_come_after_doubling_pauses_up_to_the_longest",
    ),
    (
        "exec",
        "retry-jitter",
        "commands::flags::jitter_shortens_pauses_at_random",
    ),
    (
        "exec",
        "retry-interval",
        "commands::flags::retries_come_after_doubling_pauses_up_to_the_longest",
    ),
    (
        "exec",
        "retry-max-interval",
        "commands::flags::retries_come_after_doubling_pauses_up_to_the_longest",
    ),
    (
        "exec",
        "reset-after",
        "commands::flags::an_epoch_that_stayed_live_gives_its_retries_back",
    ),
    (
        "exec",
        "on-exit",
        "commands::flags::the_cause_of_an_end_decides_whether_it_is_final",
    ),
    (
        "exec",
        "on-exhausted",
        "commands::flags::what_is_given_up_ends_everything_where_that_is_asked_for",
    ),
    (
        "exec",
        "max-epochs",
        "commands::flags::as_many_epochs_run_at_once_as_may",
    ),
    (
        "exec",
        "abort-grace",
        "commands::flags::an_epoch_that_does_not_stop_is_killed_after_the_grace",
    ),
    (
        "exec",
        "log-format",
        "commands::logs::every_line_is_a_json_object_where_that_is_asked_for",
    ),
    (
        "exec",
        "log-level",
        "commands::logs::the_log_level_has_no_say_in_what_the_program_prints",
    ),
    (
        "demo",
        "hand-overs",
        "proof::demo::the_demo_is_the_same_on_a_real_envoy",
    ),
    (
        "demo",
        "interval",
        "commands::flags::a_demonstration_takes_the_time_between_its_hand_overs",
    ),
    (
        "demo",
        "envoy",
        "proof::demo::the_demo_is_the_same_on_a_real_envoy",
    ),
    (
        "demo",
        "fake-envoy",
        "commands::demo::a_fake_envoy_is_handed_over_and_loses_no_request",
    ),
    ("demo", "no-progress", "commands::demo::it_loses_no_request"),
    (
        "validate",
        "config-path",
        "proof::validate::a_good_configuration_is_valid_and_a_bad_one_is_told_in_one_line",
    ),
    (
        "validate",
        "config-overlay",
        "commands::template::overlays_are_merged_and_rendered_like_the_file",
    ),
    (
        "validate",
        "template",
        "commands::template::what_is_rendered_is_printed_as_it_is",
    ),
    (
        "validate",
        "envoy-path",
        "commands::envoy::an_envoy_that_is_not_there_is_named",
    ),
    (
        "validate",
        "print",
        "commands::template::what_is_rendered_is_printed_as_it_is",
    ),
    (
        "validate",
        "service-cluster",
        "commands::flags::validate_tells_envoy_of_its_node",
    ),
    (
        "validate",
        "service-node",
        "commands::flags::validate_tells_envoy_of_its_node",
    ),
    (
        "validate",
        "local-address-ip-version",
        "commands::flags::validate_tells_envoy_of_its_node",
    ),
    (
        "doctor",
        "json",
        "commands::doctor::a_bad_configuration_has_errors_with_value_reason_and_remedy",
    ),
    (
        "doctor",
        "all",
        "commands::doctor::every_flag_of_run_is_a_flag_of_doctor",
    ),
    (
        "doctor",
        "grace-period",
        "commands::doctor::a_grace_period_that_is_too_short_is_an_error",
    ),
    (
        "doctor",
        "unit",
        "commands::doctor::an_unknown_unit_is_no_fault_of_the_host",
    ),
    (
        "private-ips",
        "timeout",
        "commands::addresses::the_addresses_of_this_node_come_one_per_line",
    ),
    (
        "private-ips",
        "link-local",
        "commands::flags::private_ips_may_print_link_local_addresses_too",
    ),
    (
        "simulate",
        "json",
        "simulate::the_object_tells_each_step_in_full",
    ),
    (
        "demo-server",
        "config",
        "commands::exec::a_changed_file_leads_to_the_next_epoch_and_a_bad_one_does_not",
    ),
];

/// What each command that speaks to an instance has.
const TARGET: [&str; 3] = ["name", "socket", "lock-dir"];
const TARGET_TEST: &str =
    "commands::flags::each_command_finds_an_instance_by_its_name_its_socket_and_its_directory";

/// `doctor` takes every flag of `run`, and judges by what `run` would do with it.
const DOCTOR_TEST: &str = "commands::doctor::every_flag_of_run_is_a_flag_of_doctor";

fn flag_tests() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let clients = [
        "status", "wait", "reload", "apply", "drain", "undrain", "stop", "who", "events", "logs",
        "report",
    ];
    let targets = clients
        .into_iter()
        .flat_map(|client| TARGET.map(|flag| (client, flag, TARGET_TEST)));
    let more = order::TESTS.iter().chain(run_as::TESTS);
    let more = more
        .chain(program::TESTS)
        .chain(settings::TESTS)
        .chain(hooks::TESTS)
        .chain(control::TESTS);
    let tests = || FLAG_TESTS.iter().chain(more.clone());
    let of_run = tests().filter(|(command, ..)| *command == "run");
    let of_doctor = of_run.map(|(_, flag, _)| ("doctor", *flag, DOCTOR_TEST));
    tests().copied().chain(targets).chain(of_doctor)
}

/// The file that has the test.
fn file_of(test: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (module, _) = test.rsplit_once("::").unwrap();
    let file = match module.split_once("::") {
        Some(("commands", file)) => format!("crates/cli/tests/commands/{file}.rs"),
        Some((program, file)) => format!("tests/tests/{program}/{file}.rs"),
        None => format!("crates/cli/tests/{module}.rs"),
    };
    workspace.join(file)
}

#[test]
fn each_flag_of_each_command_names_the_test_that_proves_it() {
    let cli = Cli::command();
    let flags: BTreeSet<(String, String)> = cli
        .get_subcommands()
        .flat_map(|command| {
            let longs = command.get_arguments().filter_map(clap::Arg::get_long);
            longs.map(|long| (command.get_name().to_owned(), long.to_owned()))
        })
        .collect();
    let tested: BTreeSet<(String, String)> = flag_tests()
        .map(|(command, flag, _)| (command.to_owned(), flag.to_owned()))
        .collect();
    let without: Vec<_> = flags.difference(&tested).collect();
    assert!(without.is_empty(), "no test is named for {without:?}");
    let unknown: Vec<_> = tested.difference(&flags).collect();
    assert!(unknown.is_empty(), "there is no such flag: {unknown:?}");
    assert_eq!(flag_tests().count(), tested.len(), "one is named twice");
}

#[test]
fn each_test_that_is_named_is_there_and_uses_the_flag() {
    for (command, flag, test) in flag_tests() {
        let file = file_of(test);
        let source = std::fs::read_to_string(&file);
        let source = source.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = test.rsplit("::").next().unwrap();
        let place = source.find(&format!("fn {name}()"));
        let place = place.unwrap_or_else(|| panic!("{test} is not in {}", file.display()));
        let before = source[..place]
            .trim_end()
            .trim_end_matches("async")
            .trim_end();
        let is_test = before.ends_with("#[test]") || before.ends_with("#[tokio::test]");
        assert!(is_test, "{test} is no test");
        // A positional argument in the form of a flag would be in the help, and is not.
        let uses = [
            format!("\"--{flag}"),
            format!("--{flag} "),
            format!("--{flag}="),
        ];
        let used = uses.iter().any(|text| source.contains(text));
        let is_in_a_helper = HELPERS.contains(&(command, flag));
        assert!(
            used || is_in_a_helper,
            "{test}: --{flag} is not in {}",
            file.display()
        );
    }
}

/// Flags that every test of a file gets from a function that is elsewhere.
const HELPERS: [(&str, &str); 3] = [
    ("run", "socket"),
    ("exec", "socket"),
    ("demo-server", "config"),
];

/// The short help, `-h`, is for a quick look. What a flag needs more words for is in its long help.
#[test]
fn the_short_help_of_each_flag_fits_in_two_lines_of_a_terminal() {
    for command in Cli::command().get_subcommands() {
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let name = (command.get_name(), arg.get_id());
            assert!(!help.is_empty(), "{name:?} has no help");
            assert!(help.len() <= 110, "{name:?}: {help}");
        }
    }
}

/// These texts are written with their line ends, so nothing wraps them.
#[test]
fn what_stands_below_the_flags_fits_in_80_columns() {
    for command in Cli::command().get_subcommands() {
        let below = command.get_after_long_help().map(ToString::to_string);
        for line in below.unwrap_or_default().lines() {
            assert!(line.len() <= 80, "{}: {line}", command.get_name());
        }
    }
}
