//! The building blocks on a real Envoy.
//!
//! The binary is the one that `ENVOY_BIN` names, or the one that `cargo xtask envoy` has put into the
//! target directory. Without one the tests say so and pass, unless `HANDOVER_REQUIRE_ENVOY=1`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    unused_crate_dependencies,
    reason = "tests: a failed step fails the test"
)]

mod support;

mod admin;
mod arguments;
mod draining;
mod ending;
mod example;
mod first_resources;
mod keeping;
mod repair;
