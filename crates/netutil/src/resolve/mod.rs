//! From `host:port` to one socket address.

mod authority;
mod error;
mod lookup;

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use tokio::time::Instant;

use authority::{Authority, Host, Port};

pub use error::{HostError, ResolveError};
pub use lookup::{Lookup, SystemLookup};

/// The limit of [`resolve_addr`]: 15 seconds, as in the agent that Handover re-implements. With
/// usual settings, two tries of five seconds each, the resolver answers or fails within that time.
pub const RESOLVE_LIMIT: Duration = Duration::from_secs(15);

/// Resolves `addr`, an IP address or a host name with a port. It uses the system's resolver, and
/// takes at most [`RESOLVE_LIMIT`].
///
/// | `addr` | result |
/// | --- | --- |
/// | `192.0.2.1:80` | that address; no resolver is asked |
/// | `[2001:db8::1]:80` | that address; IPv6 must stand in square brackets |
/// | `[fe80::1%eth0]:80`, `[fe80::1%2]:80` | that address in the zone of the interface with this name or number |
/// | `[192.0.2.1]:80`, `[example.com]:80` | the same as without the brackets |
/// | `192.0.2.1:http` | that address with port 80, from the system's table of TCP services |
/// | `example.com:80` | the first IPv4 address of the host, or its first IPv6 address if it has no IPv4 one |
///
/// In an IPv6-only environment, use an IPv6 address or a name without IPv4 addresses.
///
/// Details:
///
/// - The port is a decimal number or the name of a TCP service. Port 0 is accepted, because a
///   listener can ask for it. An address without a port is refused: `localhost:` has no answer that a
///   socket could use.
/// - Nothing is trimmed: an address with white space around or in it is refused.
/// - A dot at the end of a host name is kept. With it the resolver tries no search domains.
/// - A host name has at most 253 characters, and 1 to 63 in each part between two dots: letters,
///   digits, `-` and `_`. Other letters need their ASCII form (`xn--…`).
/// - A name whose last part is a number is refused. Resolvers read `10.1` and `0x7f.1` as old forms
///   of addresses, and hardly anybody who types `10.0.1:80` means 10.0.0.1.
///
/// # Errors
///
/// Returns a [`ResolveError`], which names `addr` and the remedy.
///
/// # Cancel safety
///
/// Cancel safe. The resolver works on its own thread and cannot be interrupted. After a drop or a
/// time-out, that thread continues until the resolver gives up. No runtime waits for it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover_netutil::ResolveError> {
/// use handover_netutil::resolve_addr;
///
/// let addr = resolve_addr("[::1]:8080").await?;
/// assert_eq!(addr.to_string(), "[::1]:8080");
///
/// let error = resolve_addr("::1:8080").await.unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#""::1:8080" has more than one colon; if it is an IPv6 address, enclose it in square brackets, such as "[::1]:80""#
/// );
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ResolveAddr")]
pub async fn resolve_addr(addr: &str) -> Result<SocketAddr, ResolveError> {
    resolve_addr_with(&SystemLookup, addr, RESOLVE_LIMIT).await
}

/// Resolves `addr` as [`resolve_addr`] does, but asks `lookup` for the addresses of a host name,
/// and takes at most `limit`.
///
/// `lookup` is not asked for an IP address with a number as its port.
///
/// # Errors
///
/// As [`resolve_addr`].
///
/// # Cancel safety
///
/// As cancel safe as `lookup`; nothing else happens after the first await.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), handover_netutil::ResolveError> {
/// use handover_netutil::{Lookup, resolve_addr_with};
/// use std::{io, net::SocketAddr, time::Duration};
///
/// /// Knows one host.
/// struct Table;
///
/// #[async_trait::async_trait]
/// impl Lookup for Table {
///     async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
///         match host {
///             "pilot" => Ok(vec![([192, 0, 2, 7], port).into()]),
///             _ => Err(io::ErrorKind::NotFound.into()),
///         }
///     }
/// }
///
/// let addr = resolve_addr_with(&Table, "pilot:15010", Duration::from_secs(1)).await?;
/// assert_eq!(addr.to_string(), "192.0.2.7:15010");
/// # Ok(())
/// # }
/// ```
pub async fn resolve_addr_with<L>(
    lookup: &L,
    addr: &str,
    limit: Duration,
) -> Result<SocketAddr, ResolveError>
where
    L: Lookup + ?Sized,
{
    let Authority { host, port } = Authority::parse(addr)?;
    let started = Instant::now();
    let port = match port {
        Port::Number(port) => port,
        Port::Service(service) => port_of(lookup, addr, service, limit).await?,
    };
    match host {
        Host::V4(ip) => Ok(SocketAddr::new(IpAddr::V4(ip), port)),
        Host::V6 { ip, zone } => Ok(SocketAddrV6::new(ip, port, 0, zone).into()),
        Host::Name(host) => {
            let left = limit.saturating_sub(started.elapsed());
            by_name(lookup, addr, host, port, Limit { whole: limit, left }).await
        }
    }
}

/// How long a lookup may take.
#[derive(Clone, Copy)]
struct Limit {
    /// The caller's limit, as an error names it.
    whole: Duration,
    /// The part that the steps before have left.
    left: Duration,
}

fn too_long(limit: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer came within {limit:?}"),
    )
}

async fn port_of<L>(
    lookup: &L,
    addr: &str,
    service: &str,
    limit: Duration,
) -> Result<u16, ResolveError>
where
    L: Lookup + ?Sized,
{
    let failed = |source| ResolveError::ServiceLookup {
        addr: addr.into(),
        service: service.into(),
        source,
    };
    let found = tokio::time::timeout(limit, lookup.service(service))
        .await
        .map_err(|_elapsed| failed(too_long(limit)))?
        .map_err(failed)?;
    found.ok_or_else(|| ResolveError::UnknownService {
        addr: addr.into(),
        service: service.into(),
    })
}

async fn by_name<L>(
    lookup: &L,
    addr: &str,
    host: &str,
    port: u16,
    limit: Limit,
) -> Result<SocketAddr, ResolveError>
where
    L: Lookup + ?Sized,
{
    let found = match tokio::time::timeout(limit.left, lookup.lookup(host, port)).await {
        Ok(Ok(found)) => found,
        Ok(Err(source)) => {
            return Err(ResolveError::Lookup {
                addr: addr.into(),
                host: host.into(),
                source,
            });
        }
        Err(_elapsed) => {
            return Err(ResolveError::TimedOut {
                addr: addr.into(),
                host: host.into(),
                limit: limit.whole,
            });
        }
    };
    let first_v4 = found.iter().find(|found| found.is_ipv4());
    first_v4
        .or(found.first())
        .copied()
        .ok_or_else(|| ResolveError::NoUsableAddress {
            addr: addr.into(),
            host: host.into(),
        })
}

#[cfg(test)]
mod tests;
