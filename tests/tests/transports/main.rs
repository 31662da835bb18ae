//! What becomes of each transport in a hand-over and at a stop, measured on a real Envoy: what goes on,
//! what is cut, and when. `docs/resilience.md` has the table.
//! [`servers`] does the same for servers of others.
//!
//! `cargo xtask soak` measures every pinned version.
#![expect(
    clippy::print_stdout,
    reason = "a test prints the figures for the table; the harness shows them where they are asked for"
)]

mod clients;
mod config;
mod http2;
mod known;
mod namespace;
mod quic;
mod requests;
mod servers;
mod streams;
mod udp;
mod wires;
mod world;
