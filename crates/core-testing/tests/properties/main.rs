//! Random inputs, sensible and not, against the invariants and against a reference model.
//!
//! A failure prints its script: put it into `scenarios/`, and it is replayed for ever.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by a panic; the number of cases is chosen by the environment"
)]

mod canonical;
mod generate;
mod model;
mod progress;
mod reference;
mod saved;
mod script;
