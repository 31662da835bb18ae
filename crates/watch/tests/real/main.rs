//! Tests with real files, one binary, a module per subject.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod skipping;
mod unheard;
mod watching;
