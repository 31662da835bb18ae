//! `handover resolve`.

use clap::Args;

/// Print the socket address of HOST:PORT.
///
/// A host with IPv4 and IPv6 addresses gives its first IPv4 address. An IPv6 address needs square
/// brackets, with its zone if it has one: `[fe80::1%eth0]:80`. A lookup is given up after 15 seconds.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the address was printed
  64  the address is malformed
  69  the host is unknown, or has no address
  75  the resolver did not answer in time")]
pub(crate) struct ResolveArgs {
    /// A host name or an IP address, and a port. The port is a number or the name of a service, such
    /// as http.
    #[arg(value_name = "HOST:PORT")]
    pub(crate) address: String,
}
