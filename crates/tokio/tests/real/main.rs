//! Tests with real processes and real files, one binary, a module per subject.
#![cfg(any(feature = "process", feature = "watch"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod skipping;

#[cfg(feature = "process")]
mod output;
#[cfg(feature = "process")]
mod passing;
#[cfg(feature = "process")]
mod readiness;
#[cfg(feature = "process")]
mod signals;
#[cfg(feature = "process")]
mod start;
#[cfg(feature = "process")]
mod supervisors;
#[cfg(feature = "process")]
mod support;
#[cfg(feature = "watch")]
mod unheard;
#[cfg(feature = "watch")]
mod watching;
