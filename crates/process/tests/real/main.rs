//! Tests with real processes, one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod identity;
mod output;
mod passing;
mod readiness;
mod signals;
mod skipping;
mod start;
mod supervisors;
mod support;
