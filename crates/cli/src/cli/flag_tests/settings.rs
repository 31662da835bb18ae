//! The flags about where settings come from.

/// Command, flag, test.
pub(super) const TESTS: &[(&str, &str, &str)] = &[
    (
        "run",
        "settings",
        "commands::settings::a_flag_wins_over_a_variable_that_over_the_file_and_that_over_the_default",
    ),
    (
        "run",
        "print-config",
        "commands::settings::what_is_printed_is_a_file_that_means_the_same",
    ),
    (
        "exec",
        "settings",
        "commands::settings::a_file_says_what_exec_runs_and_how",
    ),
    (
        "exec",
        "print-config",
        "commands::settings::the_settings_are_printed_one_a_line_with_their_origins",
    ),
];
