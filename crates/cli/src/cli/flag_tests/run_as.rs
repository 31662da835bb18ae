//! The flags that say who the program runs as, and with which limit of open files.

const HANDS_OVER: &str = "proof::other_user::envoy_hands_over_as_another_user_who_keeps_one_capability_and_loses_nothing";

const EXEC: &str =
    "commands::run_as::exec_runs_the_program_as_the_user_with_the_group_and_the_capabilities";

/// Command, flag, test.
pub(super) const TESTS: &[(&str, &str, &str)] = &[
    ("run", "user", HANDS_OVER),
    ("run", "group", HANDS_OVER),
    ("run", "ambient-caps", HANDS_OVER),
    ("exec", "user", EXEC),
    ("exec", "group", EXEC),
    ("exec", "ambient-caps", EXEC),
    (
        "exec",
        "nofile",
        "commands::run_as::nofile_sets_the_soft_limit_of_the_program",
    ),
];
