//! `handover private-ips`.

use std::time::Duration;

use clap::Args;

use super::duration;

/// Print the IP addresses of this node, one per line, as soon as it has any.
///
/// The command waits until every interface that is coming up has an address. It leaves out loopback,
/// multicast and link-local addresses, and interfaces that are down.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the addresses were printed
  64  the command line is wrong
  69  the interfaces cannot be read
  75  time was up: there is no address, or an interface still waits for one;
      the addresses found so far were printed")]
pub(crate) struct PrivateIpsArgs {
    /// The longest time to wait for addresses. With 0s the command looks once.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PRIVATE_IPS_TIMEOUT",
        default_value = "2m"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) timeout: Duration,

    /// Print link-local addresses as well.
    #[arg(long, env = "HANDOVER_LINK_LOCAL")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) link_local: bool,
}
