//! The Envoy adapter as a library: agent, adapter and a loss-counting client in one process.
//!
//! The tests below [`real`] show what only a real Envoy can show. The others are about the agent and the adapter.
//! They run on the fake one, whose times are shorter, and with `HANDOVER_TEST_ENVOY=real` on a real one, as
//! `cargo xtask soak` does.
//!
//! With `HANDOVER_SOAK=1` the tests that try many moments try more of them.

#![expect(
    clippy::print_stdout,
    reason = "what Envoy says explains a test that fails, and the figures are for docs/resilience.md"
)]
#![expect(
    clippy::panic,
    reason = "a test helper reports failure by ending the test"
)]

mod bad_configurations;
mod base_id;
mod children;
mod hand_over;
mod hung;
mod killed_start;
mod long_requests;
mod newest_dies;
mod old_epoch;
mod quick_changes;
mod real;
mod side_by_side;
mod stuck_flag;
mod unseen;
mod world;
