//! Supervisors that run: with proxies of the tests' own, and the examples as processes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod awaited;
mod control;
mod examples;
mod panics;
mod readiness;
mod status_server;
mod support;
