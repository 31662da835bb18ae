//! The decisions of a supervisor that are the same for every supervised server.
//!
//! **What it is.** An [`Operator`](operator::Operator) decides what follows from signals, from
//! clients of a control socket and from changed files. It decides what is read, what the agent is
//! asked for, and when everything ends. It also decides the answers to clients and the reports to a
//! service manager. It stands beside the state machine of `handover-core`, which decides which
//! epoch runs. Both have the same contract: one input with the time goes in, and commands come out.
//!
//! **What it does not do.** No I/O: no clock, no thread, no file, no socket, no runtime. It knows
//! nothing of Envoy, and never looks into a configuration.
//!
//! **Who calls it.** A driver, which owns the agent, the files, the clients and the time.
//! [`Operator`](operator::Operator) says what a driver must do and what it can rely on, with a loop
//! that compiles.
//!
//! **Which types first.** [`Operator`](operator::Operator), [`Input`](operator::Input),
//! [`Output`](operator::Output); then [`Request`](operator::Request) with
//! [`Reply`](operator::Reply) and [`Refusal`](operator::Refusal). Everything else is a part of these.

#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects)]

extern crate alloc;

pub mod operator;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
