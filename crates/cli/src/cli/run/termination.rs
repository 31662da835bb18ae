//! Flags about the drain after TERM.

use std::time::Duration;

use clap::Args;
use handover_envoy::admin::NamePattern;

use crate::cli::duration;

/// The drain of Envoy after TERM.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Stopping")]
pub(crate) struct TerminationArgs {
    /// The longest drain after TERM. Then open connections are cut.
    ///
    /// Without it, the variable `TERMINATION_DRAIN_DURATION_SECONDS` of Istio's agent counts, in whole
    /// seconds. The default is that of this agent.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_TERMINATION_DRAIN",
        default_value = "5s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) termination_drain: Duration,

    /// The time after TERM in which Envoy still accepts while its health checks fail.
    ///
    /// Use it if load balancers need this time to notice. It is part of --termination-drain.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PRE_DRAIN_DELAY",
        default_value = "0s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) pre_drain_delay: Duration,

    /// The shortest drain after TERM, even if no connection is open.
    ///
    /// It is part of --termination-drain. Without it, the variables `MINIMUM_DRAIN_DURATION` and
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS` of Istio's agent count: with `false`, a drain takes all its time.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_MIN_DRAIN",
        default_value = "0s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) min_drain: Duration,

    /// Do not wait for connections on this listener, such as probes or metrics. Repeat it for more.
    ///
    /// Neither a stop nor a change that waits for an old epoch counts them. The name is that of the
    /// configuration or of Envoy's statistics. `NAME*` matches every name that begins so.
    #[arg(
        long,
        value_name = "NAME",
        env = "HANDOVER_DRAIN_EXCLUDE_LISTENER",
        value_delimiter = ','
    )]
    pub(crate) drain_exclude_listener: Vec<NamePattern>,

    /// Do not wait for connections on the listener with this port. Repeat it for more.
    #[arg(
        long,
        value_name = "PORT",
        env = "HANDOVER_DRAIN_EXCLUDE_PORT",
        value_delimiter = ','
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) drain_exclude_port: Vec<u16>,

    /// At a stop, close and wait for inbound listeners only. The others serve until the end of the drain.
    ///
    /// Inbound is a listener with `traffic_direction: INBOUND`. So the application beside a sidecar can still
    /// call out while it finishes its requests. Connections to other listeners hold neither a stop nor
    /// `handover drain --wait`. Without the flag, every listener is closed.
    #[arg(long, env = "HANDOVER_DRAIN_INBOUND_ONLY")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) drain_inbound_only: bool,
}
