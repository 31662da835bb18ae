//! Flags of Envoy that handover has too, beside those that it sets itself.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

/// What Envoy is told of the node that it runs on. It has a say in whether a configuration is good,
/// so `validate` takes it as well.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The node")]
pub(crate) struct NodeArgs {
    /// The cluster that Envoy belongs to, as Envoy's flag of this name.
    #[arg(long, value_name = "NAME", env = "HANDOVER_SERVICE_CLUSTER")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service_cluster: Option<String>,

    /// The id of Envoy's node, as Envoy's flag of this name.
    #[arg(long, value_name = "ID", env = "HANDOVER_SERVICE_NODE")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service_node: Option<String>,

    /// The address family of the address that Envoy takes for its own; without it Envoy decides,
    /// for v4.
    #[arg(
        long,
        value_enum,
        value_name = "FAMILY",
        env = "HANDOVER_LOCAL_ADDRESS_IP_VERSION"
    )]
    pub(crate) local_address_ip_version: Option<LocalAddress>,
}

/// An address family, or the word for finding it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocalAddress {
    /// v6 on a node that has IPv6 addresses only, otherwise v4. It waits at most 10 seconds for the
    /// first address of the node, once, at the start.
    Auto,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What Envoy logs. Its lines are always shown, whatever --log-level says.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub(crate) struct EnvoyLogArgs {
    /// Which of Envoy's lines Envoy writes; without it, those of info and above.
    #[arg(
        long,
        value_name = "LEVEL",
        env = "HANDOVER_ENVOY_LOG_LEVEL",
        value_parser = ["trace", "debug", "info", "warning", "error", "critical"]
    )]
    pub(crate) envoy_log_level: Option<String>,

    /// The same for single components of Envoy, such as `upstream:debug,config:trace`.
    #[arg(
        long,
        value_name = "LEVELS",
        env = "HANDOVER_ENVOY_COMPONENT_LOG_LEVEL",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) envoy_component_log_level: Option<String>,
}
