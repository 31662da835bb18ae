//! `handover resolve` and `handover private-ips`.

use std::time::Duration;

use clap::Args;

use super::span;

/// Print the socket address of HOST:PORT.
///
/// The first IPv4 address of the host wins over any IPv6 one. An IPv6 address stands in square
/// brackets, with its zone if it has one: `[fe80::1%eth0]:80`. A lookup may take 15 seconds.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the address was printed
  64  the address is malformed
  69  the host is not known, or has no address
  75  the resolver did not answer in time")]
pub(crate) struct ResolveArgs {
    /// A host name or an IP address, with a port.
    #[arg(value_name = "HOST:PORT")]
    pub(crate) address: String,
}

/// Print the addresses of this node, one per line, as soon as it has any.
///
/// Addresses of interfaces that are down, loopback, multicast and link-local ones are left out.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the addresses were printed
  69  the interfaces could not be looked at
  75  time was up: what was printed is what there is, and an interface still waits for its address
      or there is none")]
pub(crate) struct PrivateIpsArgs {
    /// How long to wait for addresses; 0s looks once.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PRIVATE_IPS_TIMEOUT",
        default_value = "2m"
    )]
    #[arg(value_parser = span::parse)]
    pub(crate) timeout: Duration,

    /// Print link-local addresses too.
    #[arg(long, env = "HANDOVER_LINK_LOCAL")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) link_local: bool,
}
