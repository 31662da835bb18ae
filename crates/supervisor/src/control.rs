//! The control socket: how a running instance is asked and told things.
//!
//! ```text
//!  Client ──▶ Unix socket ──▶ server ──▶ routes ──▶ Ask ──▶ the supervisor's loop
//!    ▲                                                            │
//!  find, Name, Directory                                       Answer
//! ```
//!
//! Nothing here decides anything: each ask goes to the loop of the supervisor, and its answer goes back.
//! What the words on the wire mean stands in [`wire`].
//!
//! A supervisor is given a [`Socket`]. Whoever wants to speak to one [finds](find()) its socket and asks
//! there with a [`Client`].

pub(crate) mod accept;
mod address;
mod ask;
mod client;
pub(crate) mod connections;
mod directory;
mod find;
mod half_closed;
mod name;
mod routes;
mod server;
mod socket;
pub mod wire;

pub(crate) use ask::{Answer, Ask, PendingAsk};
pub use client::{Answered, Client, ClientError};
pub use directory::Directory;
pub use find::{FindError, Selector, find};
pub use name::{Name, NameError};
pub(crate) use server::Control;
pub use socket::{BindError, Socket, sweep};

/// A directory for the sockets of a test.
#[cfg(test)]
fn test_directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap()
}
