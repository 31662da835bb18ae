//! Where an admin endpoint is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an admin endpoint is reached.
///
/// ```
/// use handover_envoy::admin::AdminAddress;
///
/// for text in ["127.0.0.1:9901", "[::1]:9901", "unix:/run/envoy/admin.sock", "unix:@admin"] {
///     let address: AdminAddress = text.parse()?;
///     assert_eq!(address.to_string(), text);
/// }
/// # Ok::<(), handover_envoy::admin::AdminAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminAddress {
    /// A TCP address. Envoy takes IP addresses only, so there is no name to look up.
    Tcp(SocketAddr),
    /// A Unix socket: its path, or `@` and the name of an abstract socket, as in Envoy's
    /// configuration.
    Unix(PathBuf),
}

/// Why a text is no admin address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no admin address: write IP:PORT, [IPV6]:PORT or unix:PATH")]
pub struct AdminAddressError(String);

impl AdminAddress {
    /// Returns the TCP port, or `None` for a Unix socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        let refused = || AdminAddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let usable = !matches!(path, "" | "@") && !path.contains('\0');
            return usable.then(|| Self::Unix(path.into())).ok_or_else(refused);
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Self::Tcp(address)),
            Ok(_) | Err(_) => Err(refused()),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_the_forms_that_are() {
        for text in [
            "",
            "9901",
            "localhost:9901",
            "127.0.0.1",
            "127.0.0.1:0",
            "::1:9",
            "unix:",
            "unix:@",
            "/a",
            "unix:a\0b",
        ] {
            let error = text.parse::<AdminAddress>().unwrap_err();
            assert!(error.to_string().contains("write IP:PORT"), "{text}");
        }
    }

    #[test]
    fn only_an_address_of_tcp_has_a_port() {
        for (text, port) in [
            ("127.0.0.1:9901", Some(9901)),
            ("[::1]:9902", Some(9902)),
            ("unix:/a", None),
        ] {
            let address: AdminAddress = text.parse().unwrap();
            assert_eq!(address.port(), port, "{text}");
        }
    }
}
