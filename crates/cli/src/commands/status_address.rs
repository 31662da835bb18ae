//! The socket of the status server, from its flag.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use handover_netutil::ListenError;
use handover_supervisor::status_server::StatusListener;

use super::tcp_address::{is_taken, not_bound, to_listen_on};
use crate::cli::status_server::StatusServerArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

const FLAG: &str = "--status-address";

/// Listens at the address that the flag names, if there is one.
///
/// # Errors
///
/// When the address cannot be read or resolved, belongs to another process or another host, or the operating
/// system refuses a socket.
pub(super) async fn listen(args: &StatusServerArgs) -> Result<Option<StatusListener>, Fatal> {
    let Some(text) = &args.status_address else {
        return Ok(None);
    };
    let listener = match port_of_all(text) {
        Some(port) => on_all(port)?,
        None => {
            let address = to_listen_on(FLAG, text).await?;
            on(address).or_else(|error| refuse(error, address))?
        }
    };
    let address = listener.address();
    tracing::info!(%address, "the status server listens on {address}");
    Ok(Some(listener.compat_endpoints(args.compat_endpoints)))
}

/// The port in `:PORT`.
fn port_of_all(text: &str) -> Option<u16> {
    let port = text.trim().strip_prefix(':')?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| port.parse().ok())?
}

/// Listens on all addresses of both families, or of IPv4 alone on a host without IPv6.
fn on_all(port: u16) -> Result<StatusListener, Fatal> {
    let of = |ip: IpAddr| SocketAddr::new(ip, port);
    let (both, v4) = (
        of(Ipv6Addr::UNSPECIFIED.into()),
        of(Ipv4Addr::UNSPECIFIED.into()),
    );
    match on(both) {
        Err(error) if is_taken(&error) => refuse(error, both),
        Err(_) => on(v4).or_else(|error| refuse(error, v4)),
        Ok(listener) => Ok(listener),
    }
}

fn on(address: SocketAddr) -> Result<StatusListener, ListenError> {
    StatusListener::bind(address)
}

fn refuse(error: ListenError, address: SocketAddr) -> Result<StatusListener, Fatal> {
    Err(not_bound(FLAG, error, address)).or_exit(ExitCode::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_all_addresses_and_everything_else_is_an_address() {
        assert_eq!(port_of_all(":15020"), Some(15020));
        assert_eq!(port_of_all(":0"), Some(0));
        for text in [
            "15020", ":", ":65536", ":-1", ":+1", "::", "::1", ":80:", "[::]:80", ":http",
        ] {
            assert_eq!(port_of_all(text), None, "{text}");
        }
    }
}
