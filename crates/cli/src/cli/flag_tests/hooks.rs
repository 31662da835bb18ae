//! The commands at moments of an epoch's life.

const IN_ORDER: &str = "commands::hooks::each_moment_has_its_hook_in_order";
const OF_RUN: &str = "commands::hooks::the_hooks_of_run_are_run_for_envoy";

/// Command, flag, test.
pub(super) const TESTS: &[(&str, &str, &str)] = &[
    (
        "exec",
        "hook-pre-start",
        "commands::hooks::a_hook_before_the_start_can_refuse_a_configuration",
    ),
    ("exec", "hook-live", IN_ORDER),
    (
        "exec",
        "hook-unfit",
        "commands::hooks::an_unfit_epoch_and_a_configuration_that_is_given_up_have_theirs",
    ),
    ("exec", "hook-pre-drain", IN_ORDER),
    ("exec", "hook-post-exit", IN_ORDER),
    (
        "exec",
        "hook-gave-up",
        "commands::hooks::an_unfit_epoch_and_a_configuration_that_is_given_up_have_theirs",
    ),
    (
        "exec",
        "hook-timeout",
        "commands::hooks::a_hook_that_hangs_or_fails_is_told_and_holds_nothing_up",
    ),
    ("run", "hook-pre-start", OF_RUN),
    ("run", "hook-live", OF_RUN),
    ("run", "hook-unfit", OF_RUN),
    ("run", "hook-pre-drain", OF_RUN),
    ("run", "hook-post-exit", OF_RUN),
    ("run", "hook-gave-up", OF_RUN),
    ("run", "hook-timeout", OF_RUN),
];
