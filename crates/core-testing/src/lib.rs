//! Tests for the state machine of Handover: named invariants, and scenarios as text.
//!
//! **What it is.** A [`Checker`] watches a [`Machine`](handover_core::Machine) from outside. It keeps
//! a record of its own and reports the first [`Invariant`] that a step breaks. A
//! [`Scenario`](scenario::Scenario) is a script of inputs with their times. It runs on a machine with
//! a checker beside it, and gives a transcript.
//!
//! **What it does not do.** It sees the public surface of `handover-core` and nothing else. It judges
//! by rules of its own, written down from the fields of a [`Policy`](handover_core::Policy). No rule
//! calls a function by which the machine decides, so a wrong rule in one is not wrong in both. Like
//! the machine it has no clock, no I/O and no randomness, and it builds for `no_std` with `alloc`.
//!
//! **Who needs it.** Whoever changes the machine, and whoever writes a driver or a simulation: a
//! driver's test can pass its steps to [`Checker::judge`], and `handover simulate` runs scripts.
//!
//! ```
//! use handover_core_testing::scenario::Scenario;
//!
//! let script = "
//! ## A failed epoch 1 beside a good epoch 0 is retried as epoch 1.
//! policy default retries=3
//! 0      desire A
//! 50ms   live 0
//! 1s     desire B
//! +20ms  exit 1 failed
//! 2s     wait
//! ";
//! let transcript = Scenario::parse(script)?.run()?;
//! assert_eq!(transcript.steps.len(), 6);
//! println!("{transcript}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects)]

extern crate alloc;

mod checker;
mod invariant;
mod observation;
pub mod scenario;

pub use checker::Checker;
pub use invariant::{Invariant, Violation};
pub use observation::{Observation, View};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
