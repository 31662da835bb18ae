//! What a tokio program needs if it must not die: blocking work without a panic, time limits that
//! survive a pause, and the name of what the operating system is short of.
//!
//! **What it is.** Three things that a supervisor needs of its runtime and does not get there:
//!
//! - [`offload`](mod@offload) runs work that blocks. Where no thread can be started,
//!   `tokio::task::spawn_blocking` panics; this waits for a thread that there is, or returns an error.
//! - [`time_limit`] waits. A process that was stopped finds every deadline passed when it goes on, and
//!   `tokio::time::timeout` reports it at once. Here the future gets a moment to tell what happened.
//! - [`Shortage`] reads from an error which resource ran out, so that the work is tried again later.
//!
//! **What it does not do.** It is no runtime: it runs on tokio's. It knows no process and no file;
//! `handover-process` and `handover-watch` stand on it.
//!
//! **Who calls it.** A program with children that would end with it.
//!
//! **Which items first.** [`offload::offload`] and [`time_limit::timeout`].

pub mod offload;
mod panic;
mod shortage;
pub mod time_limit;

pub use panic::panic_message;
pub use shortage::{Shortage, StartError};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
