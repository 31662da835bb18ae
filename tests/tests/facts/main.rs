//! The facts about Envoy on which Handover is built, one test each, on a real Envoy and on the fake one.
//!
//! Each fact is a function over a [`Subject`](subject::Subject): the path of a program that the test starts by
//! itself, with no supervisor in between. It runs as `real::SECTION::NAME` on the real Envoy, in soak on each of
//! the pinned versions, and as `fake::SECTION::NAME` on `handover-fake-envoy`. Where the two differ, the fake is
//! wrong. A fact that the fake does not claim has its reason in the table below.
//!
//! `docs/envoy-facts.md` lists them for people.

#![expect(
    clippy::print_stdout,
    reason = "a failed fact is below the line that names the version"
)]
#![expect(
    clippy::panic,
    reason = "a test helper reports failure by ending the test"
)]

mod admin_lost;
mod arguments;
mod document;
mod endpoints;
mod ends_together;
mod failures;
mod flag;
mod generations;
mod loss;
mod lost_parent;
mod signals;
mod sources;
mod spawning;
mod stand_in;
mod statistics;
mod stops;
mod subject;
mod timeline;
mod validate;
mod world;

/// A fact, as the table lists it.
pub(crate) struct Fact {
    /// The file it is in.
    pub(crate) section: &'static str,
    /// The function that asserts it.
    pub(crate) name: &'static str,
    /// Why the fake does not claim it; `None` if it does.
    pub(crate) only_real: Option<&'static str>,
}

/// Makes two tests of each fact, or one where there is a reason.
macro_rules! facts {
    ($($section:ident { $($name:ident $(: $reason:literal)?),* $(,)? })*) => {
        /// All facts, in the order of the table.
        pub(crate) const FACTS: &[Fact] = &[$($(Fact {
            section: stringify!($section),
            name: stringify!($name),
            only_real: reason!($($reason)?),
        }),*),*];

        mod real {
            $(mod $section {
                $(#[test] fn $name() {
                    let test = concat!("real::", stringify!($section), "::", stringify!($name));
                    crate::subject::on_real(test, crate::$section::$name);
                })*
            })*
        }

        mod fake {
            $(mod $section {
                $(on_fake!($section $name $($reason)?);)*
            })*
        }
    };
}

macro_rules! reason {
    () => {
        None
    };
    ($reason:literal) => {
        Some($reason)
    };
}

macro_rules! on_fake {
    ($section:ident $name:ident) => {
        #[test]
        fn $name() {
            let test = concat!("fake::", stringify!($section), "::", stringify!($name));
            crate::subject::on_fake(test, crate::$section::$name);
        }
    };
    ($section:ident $name:ident $reason:literal) => {};
}

facts! {
    flag {
        the_layout_of_the_shared_memory,
        the_flag_is_set_while_an_epoch_initializes,
        a_failed_epoch_blocks_every_later_try,
        a_cleared_flag_lets_the_same_epoch_go_live,
        an_epoch_that_initializes_blocks_the_next,
        a_kill_right_after_the_spawn_is_harmless,
    }
    ends_together {
        term_to_an_initializing_epoch_ends_its_parent,
        int_to_an_initializing_epoch_ends_its_parent,
        kill_of_an_initializing_epoch_spares_its_parent,
        term_to_a_live_child_ends_its_draining_parent,
        quitquitquit_of_a_live_child_ends_its_draining_parent,
        kill_of_a_live_child_spares_its_draining_parent,
    }
    lost_parent {
        a_child_aborts_after_its_parent_was_killed,
        a_child_lives_when_its_dead_parent_is_stood_in_for,
        an_epoch_starts_when_its_dead_parent_is_stood_in_for,
        a_killed_parent_leaves_connections_without_an_answer,
    }
    spawning {
        an_epoch_ends_with_the_thread_that_spawned_it,
        without_hot_restart_an_epoch_outlives_the_thread_that_spawned_it,
        every_epoch_ends_with_a_killed_supervisor,
        an_epoch_outlives_an_exec_of_its_supervisor,
        an_epoch_raises_its_limit_of_open_files,
    }
    generations {
        a_dead_child_is_replaced_by_the_same_epoch,
        the_number_after_a_dead_child_hangs_and_aborts,
        the_next_but_one_ends_an_epoch_at_once,
    }
    admin_lost {
        a_missing_certificate_costs_the_parent_its_admin_endpoint,
        a_port_conflict_costs_the_parent_its_admin_endpoint,
        a_taken_admin_port_costs_the_parent_its_admin_endpoint,
        what_cannot_be_read_leaves_the_admin_endpoint,
    }
    validate {
        a_validation_exits_with_0_or_1,
        a_validation_does_not_see_a_taken_port,
        a_validation_leaves_the_shared_memory_alone,
    }
    sources {
        a_source_that_is_given_up_leaves_a_live_epoch_without_its_listener,
        an_epoch_without_its_listener_takes_over,
        a_fetched_listener_that_cannot_be_made_is_rejected_and_the_rest_is_taken,
        a_source_without_a_limit_is_waited_for,
        a_certificate_that_is_given_up_leaves_a_listener_without_handshakes: "it speaks no TLS",
        a_certificate_without_a_limit_is_waited_for_by_name: "it speaks no TLS",
    }
    statistics {
        a_childs_statistics_contain_its_parents,
        a_flag_keeps_the_parents_statistics_out,
        a_matcher_drops_the_gauges_of_the_listener,
        a_listener_has_a_name_of_its_choice_in_the_statistics,
        the_admin_endpoint_may_be_narrowed,
    }
    timeline {
        the_admin_endpoint_goes_over_once,
        connections_go_over_once,
        the_parent_ends_at_the_parent_shutdown_time,
        requests_are_cut_at_the_parent_shutdown_time,
        idle_connections_end_with_the_parent,
        an_immediate_drain_closes_with_the_next_request,
        a_gradual_drain_closes_over_the_drain_time,
    }
    loss {
        hot_restarts_lose_nothing,
        hot_restarts_with_an_immediate_drain_lose_nothing,
        without_reuse_port_the_concurrency_may_change,
        another_base_id_shares_the_port,
        the_admin_port_may_change,
        a_moved_listener_leaves_its_port_at_once,
    }
    failures {
        a_duplicate_of_a_running_epoch_is_refused,
        a_later_epoch_without_shared_memory_aborts,
        a_later_epoch_without_a_parent_hangs_and_aborts,
        a_later_epoch_may_begin_without_a_parent,
        epoch_0_starts_beside_a_later_epoch_of_its_base_id,
        epoch_0_replaces_stale_shared_memory,
        shared_memory_of_another_version_aborts_the_child,
        shared_memory_of_another_size_aborts_the_child,
        a_stopped_epoch_takes_connections_and_holds_its_child_up,
        a_stopped_old_epoch_hangs_the_admin_endpoint_of_its_child,
        an_old_epoch_may_be_killed_after_it_was_told_to_end,
        an_epoch_that_gets_no_thread_aborts,
    }
    signals {
        term_ends_an_epoch_without_a_drain,
        int_ends_an_epoch_without_a_drain,
        segv_ends_an_epoch_by_that_signal,
        hup_is_ignored,
        usr1_opens_the_log_file_again,
    }
    endpoints {
        a_graceful_drain_accepts_for_the_drain_time,
        a_graceful_drain_that_skips_the_exit_closes_kept_connections_only,
        a_drain_refuses_at_once_and_keeps_connections,
        a_failed_health_check_closes_kept_connections,
        quitquitquit_ends_at_once,
        an_order_by_get_is_refused,
        an_unknown_path_is_not_found,
    }
    stops {
        a_stop_by_term_alone_cuts_requests,
        a_stop_after_a_fixed_drain_cuts_longer_requests,
        a_stop_after_a_graceful_drain_to_the_last_connection_cuts_nothing,
        a_stop_after_failed_health_and_a_drain_to_the_last_connection_cuts_nothing,
    }
    arguments {
        the_hot_restart_version_is_printed_to_standard_error,
        the_version_is_printed_to_standard_output,
        a_flag_joined_with_its_value_is_refused,
        a_flag_given_twice_is_refused,
        an_unknown_flag_is_refused,
        a_dynamic_base_id_is_written_to_a_file,
        without_hot_restart_there_is_no_shared_memory,
    }
}
