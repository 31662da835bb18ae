//! The address of this node from which it would reach another one.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

/// Returns the address of this node from which packets to `towards` would be sent. The system's
/// routing table and its rules for source addresses decide.
///
/// No packet is sent, and `towards` need not exist. The function connects a UDP socket, so that the
/// system chooses, and closes it. The port matters only to routing rules for ports, and may be 0.
///
/// # Errors
///
/// Returns a [`SourceAddressError`], which names `towards`.
///
/// ```
/// use handover_netutil::source_address;
///
/// assert_eq!(source_address("127.0.0.1:80".parse()?)?.to_string(), "127.0.0.1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn source_address(towards: SocketAddr) -> Result<IpAddr, SourceAddressError> {
    if towards.ip().is_unspecified() {
        return Err(SourceAddressError::NowhereToGo { towards });
    }
    let no_route = |source| SourceAddressError::NoRoute { towards, source };
    let socket = Socket::new(
        Domain::for_address(towards),
        Type::DGRAM,
        Some(Protocol::UDP),
    )
    .map_err(|source| SourceAddressError::Create { towards, source })?;
    socket.connect(&SockAddr::from(towards)).map_err(no_route)?;
    let chosen = socket.local_addr().map_err(no_route)?;
    // An internet socket has an internet address, so there always is one.
    let chosen = chosen
        .as_socket()
        .ok_or_else(|| no_route(io::ErrorKind::AddrNotAvailable.into()))?;
    Ok(chosen.ip())
}

/// The reason why [`source_address`] returned no address.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceAddressError {
    /// The destination is `0.0.0.0` or `[::]`, to which nothing can be sent.
    #[error("{towards} is not a destination; use the address of the other node")]
    NowhereToGo {
        /// The destination as given.
        towards: SocketAddr,
    },

    /// There is no socket to be had: too many open files, say, or no such address family.
    #[error(
        "cannot create a socket to find the route to {towards}; check the limit of open files \
         and that the system has this address family"
    )]
    Create {
        /// The destination as given.
        towards: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },

    /// This node cannot reach the destination.
    #[error("this node has no route to {towards}; check its addresses and \"ip route\"")]
    NoRoute {
        /// The destination as given.
        towards: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn loopback_is_reached_from_loopback_whatever_the_port() {
        for towards in ["127.0.0.1:0", "127.0.0.1:80", "[::1]:0"] {
            let towards: SocketAddr = towards.parse().unwrap();
            assert_eq!(source_address(towards).ok(), Some(towards.ip()));
        }
    }

    #[test]
    fn a_destination_without_a_route_is_named() {
        let towards = "198.51.100.1:443".parse().unwrap();
        let source = io::ErrorKind::NetworkUnreachable.into();
        assert_snapshot!(
            SourceAddressError::NoRoute { towards, source },
            @r#"this node has no route to 198.51.100.1:443; check its addresses and "ip route""#
        );
    }

    #[test]
    fn the_unspecified_address_is_no_destination() {
        let error = source_address("0.0.0.0:80".parse().unwrap()).unwrap_err();
        assert_snapshot!(error, @"0.0.0.0:80 is not a destination; use the address of the other node");
        assert!(source_address("[::]:80".parse().unwrap()).is_err());
    }
}
