//! What every supervised server has in common.
//!
//! **What it is.** An [`Operator`](operator::Operator) decides what signals, clients of a control
//! socket and changed files lead to: what is read, what the agent is asked for, when everything has to
//! end and how urgently, what each client is answered, what a service manager is told. It stands beside
//! the state machine of `handover-core`, which decides which epoch runs, and has the same contract: one
//! input with the time goes in, commands come out.
//!
//! **What it does not do.** No I/O: no clock, no thread, no file, no socket, no runtime. It knows
//! nothing of Envoy, and looks into no configuration.
//!
//! **Who calls it.** A driver, which owns the agent, the files, the clients and the time. What a driver
//! must do, and what it may rely on, stands at [`Operator`](operator::Operator), with the loop as code
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
