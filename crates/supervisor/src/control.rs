//! The control socket: how a running instance is asked and told things.
//!
//! ```text
//!  handover reload ──▶ client ──▶ Unix socket ──▶ server ──▶ routes ──▶ ask ──▶ the supervisor's loop
//!                         │                                                          │
//!                    find, address                                                   answer
//! ```
//!
//! Nothing here decides anything: each question goes to the loop of `supervise`, and its answer
//! goes back. What the words on the wire mean is in `wire`, and for others in `docs/control.md`.

mod address;
mod ask;
mod client;
mod find;
mod guests;
mod half_closed;
mod name;
mod place;
mod routes;
mod server;
mod socket;
pub(crate) mod wire;

pub(crate) use ask::{Answer, Ask, Asked};
pub(crate) use client::{Answered, Client};
pub(crate) use find::{Wanted, find};
pub(crate) use name::Name;
pub(crate) use place::{Directory, Instance};
pub(crate) use server::Control;

/// A directory for the sockets of a test.
#[cfg(test)]
fn test_directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap()
}
