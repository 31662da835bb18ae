//! The resolver behind a trait, so that tests and other resolvers can replace it.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    thread,
};

use async_trait::async_trait;
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::oneshot;

/// Finds the addresses of a host name, and the port of a service.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Returns the addresses of `host`, each with `port`, in the order of preference.
    ///
    /// The result has whole socket addresses, because a link-local IPv6 address is useless without
    /// its zone.
    ///
    /// # Errors
    ///
    /// Returns the resolver's error. A host without any address is no error, but an empty list.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the caller's limit passes, so it must be cancel safe.
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Returns the port of the TCP service `name`, or `None` if there is no such service.
    ///
    /// The default asks the system, which usually reads `/etc/services`. Override it if the system
    /// must not be asked.
    ///
    /// # Errors
    ///
    /// Returns an error if the table of services cannot be searched.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the caller's limit passes, so it must be cancel safe.
    async fn service(&self, name: &str) -> io::Result<Option<u16>> {
        let name = name.to_owned();
        on_a_thread(move || port_of_service(&name)).await
    }
}

/// The resolver of the operating system: `getaddrinfo`, with the hosts file, DNS and search domains
/// that it is configured for.
///
/// Each lookup has its own thread, because nothing can interrupt it. It uses no blocking thread of
/// tokio: tokio panics if the system has no thread left, and this lookup returns an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = host.to_owned();
        on_a_thread(move || {
            (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect)
        })
        .await
    }
}

/// Runs `look` on a thread of its own and returns what it found.
async fn on_a_thread<T, F>(look: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let work = move || {
        // The caller's limit may be over.
        drop(answer.send(look()));
    };
    thread::Builder::new()
        .name("lookup".into())
        .spawn(work)
        .map_err(|error| io::Error::new(error.kind(), NoThread(error)))?;
    answered.await.map_err(io::Error::other)?
}

/// Asks the system for a service by the same call that finds hosts: `getaddrinfo`, without a host.
fn port_of_service(name: &str) -> io::Result<Option<u16>> {
    let tcp = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    match getaddrinfo(None, Some(name), Some(tcp)) {
        Ok(mut found) => {
            let first = found.next().transpose()?;
            Ok(first.map(|address| address.sockaddr.port()))
        }
        // There is no host, so only the service can be what is unknown.
        Err(error)
            if matches!(
                error.kind(),
                LookupErrorKind::Service | LookupErrorKind::NoName
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Why no lookup was begun.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not start a thread (is a limit reached: of processes, RLIMIT_NPROC or pids.max of the control group, or of memory?): {0}"
)]
struct NoThread(io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    /// The system reads a number as a service of its own, whatever table it has.
    #[tokio::test]
    async fn the_system_finds_the_port_of_a_service() {
        assert_eq!(SystemLookup.service("8080").await.unwrap(), Some(8_080));
        let unknown = SystemLookup.service("no-such-service").await;
        assert_eq!(unknown.unwrap(), None);
    }

    #[test]
    fn what_is_no_name_is_not_an_unknown_service() {
        port_of_service("a\0b").unwrap_err();
    }
}
