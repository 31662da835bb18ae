//! The pure state machine of Handover: which epoch of a proxy is started, aborted and cleaned up,
//! and when.
//!
//! **What it is.** A [`Machine`] takes one [`Input`] at a time, together with the time. It returns
//! [`Output`]s: commands to carry out and events to show. It starts the proxy at epoch 0, and the
//! next epoch for every later configuration. It waits until the new epoch is live and lets the
//! older ones drain. It retries failures with exponential back-off and a budget, gives up, drains
//! on terminate and cleans up. A [`Policy`] sets the details.
//!
//! **What it does not do.** No I/O: no clock, no thread, no process, no runtime, no randomness, no
//! environment. It builds for `no_std` with `alloc` and depends on nothing but `handover-retry`.
//!
//! **Who calls it.** A driver, which owns the processes and the time. `handover-tokio` is one, and
//! the example `std_driver` of this crate is another. [`Machine`] says what a driver must do and
//! what it can rely on, with a loop that compiles.
//!
//! **Which types first.** [`Machine`], [`Input`], [`Output`]; then [`Policy`] and its three
//! presets. Everything else is a part of these. The crate `handover-core-testing` has the named
//! invariants, a checker that watches a machine from outside, and scenarios as text.
//!
//! **Features.** `serde` saves and restores a machine, its inputs and its outputs.
//! [`Machine::map_config`] leaves the content of configurations out before that. It adds no `std`.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects)]

extern crate alloc;

mod epoch;
mod machine;
mod messages;
mod on_exit;
mod policy;
mod time;
#[cfg(any(test, doctest))]
mod told;
mod urgency;

pub use handover_retry as retry;

pub use epoch::Epoch;
pub use machine::{CANONICAL_NOW, Canonical, EpochInfo, EpochState, Machine, Phase, Standing};
pub use messages::{
    Abort, Deadline, DeadlineReason, Denied, Event, Exit, GaveUp, Held, Ignored, Input, Outcome,
    Output, Purpose, Reception, Severity, Target,
};
pub use on_exit::{EndCause, OnExit};
pub use policy::{Advance, OnCleanExit, OnExhausted, OnFailure, Policy, PolicyError};
pub use time::{LATE, LOOK_AROUND, Timestamp};
pub use urgency::Urgency;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
