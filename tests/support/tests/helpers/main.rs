//! The helpers of the integration tests, tested: a counter that misses a loss, or a guard that
//! misses a process, would make every scenario built on it worthless.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test, as the test itself would"
)]

mod control_plane;
mod envoy;
mod fake_server;
mod leftovers;
mod load;
mod supervisor;

use std::time::Duration;

/// For what takes milliseconds on an idle machine: far enough away that only a hang reaches it.
const LONG: Duration = Duration::from_secs(30);
