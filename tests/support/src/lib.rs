//! What the tests of the workspace stand on, where they start processes or a real Envoy.
//!
//! A scenario needs an upstream that counts ([`backend`]), clients that count every lost request
//! ([`load`]) or time requests at a fixed rate ([`paced`]), real Envoy configurations, sound and
//! broken ([`envoy_config`]), a process whose output and descendants are known ([`supervisor`],
//! [`process_tag`]), and proof that nothing stays behind ([`leftovers`]). Ports and base ids are claimed across test processes
//! ([`ports`]), and each wait has a limit and says what it waited for ([`limit`]).
//!
//! It does not test the product: that is done in the folder above it and in the crates. Its own
//! `tests/` test these helpers. Only tests call it, so a helper that cannot do its work panics, and its message
//! names what was expected, what came instead and what the processes printed.
//!
//! ```
//! use std::time::Duration;
//!
//! use handover_test_support::{backend::Backend, load::{Load, Mix}, limit};
//!
//! # tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
//! let backend = Backend::start();
//! let load = Load::start(backend.addr(), Mix::default());
//! limit::eventually(Duration::from_secs(10), "100 answers", || {
//!     (load.progress().ok >= 100).then_some(())
//! });
//! load.stop().await.assert_no_loss();
//! # });
//! ```
#![expect(
    clippy::panic,
    reason = "a test helper reports failure by ending the test, with a message for its reader"
)]

pub mod any_envoy;
pub mod backend;
pub mod bare_envoy;
pub mod browser;
mod claim;
mod connection;
pub mod control_group;
pub mod control_plane;
pub mod envoy_admin;
pub mod envoy_bin;
pub mod envoy_config;
pub mod fake_envoy;
pub mod http;
pub mod kept_connection;
pub mod leftovers;
pub mod limit;
pub mod load;
pub mod log;
pub mod metrics;
pub mod paced;
pub mod ports;
pub mod process_tag;
pub mod refused_calls;
pub mod report;
pub mod servers;
pub mod stranger;
pub mod supervisor;
pub mod systemd;
mod tally;
