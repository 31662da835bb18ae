//! The Envoy adapter as a library, on real Envoy: agent, adapter and a loss-counting client in one
//! process.
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
mod evidence;
mod first_resources;
mod hand_over;
mod hung;
mod long_requests;
mod newest_dies;
mod old_epoch;
mod quick_changes;
mod side_by_side;
mod stuck_flag;
mod unseen;
mod versions;
mod world;
