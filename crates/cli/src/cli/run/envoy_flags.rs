//! Envoy's own flags that `run` and `validate` pass on.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

/// The flags about the node. Envoy's verdict on a configuration can depend on them, so `validate` has
/// them as well.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The node")]
pub(crate) struct NodeArgs {
    /// The cluster that Envoy belongs to; Envoy's flag of this name.
    #[arg(long, value_name = "NAME", env = "HANDOVER_SERVICE_CLUSTER")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service_cluster: Option<String>,

    /// The id of the node that Envoy runs on; Envoy's flag of this name.
    #[arg(long, value_name = "ID", env = "HANDOVER_SERVICE_NODE")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service_node: Option<String>,

    /// The family of the address that Envoy takes for its own. Without it, Envoy uses v4.
    #[arg(
        long,
        value_enum,
        value_name = "FAMILY",
        env = "HANDOVER_LOCAL_ADDRESS_IP_VERSION"
    )]
    pub(crate) local_address_ip_version: Option<LocalAddress>,
}

/// An address family, or `auto` to find it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocalAddress {
    /// v6 on a node that only has IPv6 addresses, otherwise v4. Handover looks once, at the start, and
    /// waits up to 10 seconds for the first address.
    Auto,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The levels of Envoy's lines. `--log-level` does not filter them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub(crate) struct EnvoyLogArgs {
    /// The lowest level of Envoy's own lines. Without it, Envoy uses info.
    #[arg(
        long,
        value_name = "LEVEL",
        env = "HANDOVER_ENVOY_LOG_LEVEL",
        value_parser = ["trace", "debug", "info", "warning", "error", "critical"]
    )]
    pub(crate) envoy_log_level: Option<String>,

    /// The lowest level for single components of Envoy, such as upstream:debug,config:trace.
    #[arg(
        long,
        value_name = "LEVELS",
        env = "HANDOVER_ENVOY_COMPONENT_LOG_LEVEL",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) envoy_component_log_level: Option<String>,
}
