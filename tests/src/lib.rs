//! The tests of the workspace that need more than one crate, or a real Envoy.
//!
//! | folder | proves |
//! |---|---|
//! | `tests/facts` | what Envoy itself does, and that the fake Envoy does the same |
//! | `tests/parts` | each part of `handover-envoy` by itself understands a real Envoy |
//! | `tests/adapter` | the agent with `handover-envoy` replaces a real Envoy without a loss |
//! | `tests/transports` | what becomes of each transport in a hand-over and at a stop, with Envoy and with other servers |
//! | `tests/proof` | the `handover` binary does the same, with all that a user meets |
//! | `tests/cost.rs` | what a step of the state machine costs |
//!
//! What these tests stand on is the crate `handover-test-support`, in `support`.

/// The examples of the front page compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
