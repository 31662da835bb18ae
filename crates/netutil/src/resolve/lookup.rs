//! The resolver behind a trait, so that a test or another resolver can take its place.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    thread,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

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

/// The resolver of the operating system: `getaddrinfo` with all that is configured behind it (the
/// hosts file, DNS, search domains).
///
/// Each lookup has a thread of its own, since nothing can interrupt it. Tokio's threads for blocking
/// work are not used: tokio panics when the operating system has no thread left, and this returns
/// an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = host.to_owned();
        let (answer, answered) = oneshot::channel();
        let look = move || {
            let found = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect);
            // The caller's limit may be over.
            drop(answer.send(found));
        };
        thread::Builder::new()
            .name("lookup".into())
            .spawn(look)
            .map_err(|error| io::Error::new(error.kind(), NoThread(error)))?;
        answered.await.map_err(io::Error::other)?
    }
}

/// Why no lookup was begun.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not start a thread for it (is a limit reached: of processes, RLIMIT_NPROC or pids.max of the control group, or of memory?): {0}"
)]
struct NoThread(io::Error);
