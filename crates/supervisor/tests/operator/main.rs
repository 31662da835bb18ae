//! The operator: scenarios as transcripts, every order of events in a bounded model, and random inputs.
//! Each step is checked against the promises of [`check`].

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod check;
mod model;
mod properties;
mod purity;
mod run;
mod scenarios;
mod script;
mod service_manager;
mod table;
mod trials;
mod verdict;
mod words;
mod world;
