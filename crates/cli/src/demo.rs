//! The demonstration: a server to hand over, clients that lose nothing, and a look at both.
//!
//! - [`server`] is the program that is supervised: this binary again, with another command.
//! - [`fake_envoy`] is the Envoy of `--fake-envoy`: this binary again, by another name.
//! - [`load`] sends the requests, on a thread of its own, and [`tally`] counts them.
//! - [`script`] says which configuration comes when.
//! - [`screen`] tells what happens; [`report`] is the table at the end.

pub(crate) mod fake_envoy;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod screen;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod tally;
