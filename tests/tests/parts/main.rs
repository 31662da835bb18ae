//! The parts of the adapter for Envoy, each by itself on a real Envoy: no agent, no `handover` binary.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
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
