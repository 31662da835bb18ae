//! The resolver behind a trait, so that a test or another resolver can take its place.

use std::{io, net::SocketAddr};

use async_trait::async_trait;

/// Finds the addresses of a host name.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The addresses of `host`, each with `port`, in the order of preference.
    ///
    /// Whole socket addresses are asked for, not only IP addresses, because a link-local IPv6
    /// address is of no use without the zone it was found in.
    ///
    /// # Errors
    ///
    /// Whatever the resolver reports. A host that exists without any address is not an error but
    /// an empty list.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the caller's limit is over; it must bear that.
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The resolver of the operating system: `getaddrinfo` on tokio's blocking pool, with all that is
/// configured behind it (the hosts file, DNS, search domains).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}
