//! Ways for a program to tell that it serves, and ways to find out.
//!
//! | the program | use |
//! | --- | --- |
//! | writes a line to a descriptor it was given | [`ReadyPipe`] |
//! | calls `sd_notify("READY=1")`, as under systemd | [`NotifySocket`] |
//! | tells nothing, but serves TCP or HTTP | [`Probe`] |
//!
//! The first two are exact: the program itself says so, at once. A probe asks from outside, again
//! and again, and anybody who listens on the address can answer it. So a probe of an address that
//! several epochs share says nothing about the newest one.

#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
mod notify;
mod pipe;
mod probe;

pub use notify::{Heard, Notice, NotifySocket};
pub use pipe::{ReadyPipe, ReadyPipeError};
pub use probe::{InvalidHost, InvalidPath, Probe, ProbeError};
