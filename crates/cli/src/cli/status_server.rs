//! The flags by which `run` and `exec` show their state over HTTP.

use clap::Args;

/// Where the state of this instance is shown.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Status server")]
pub(crate) struct StatusServerArgs {
    /// Show the state of this instance over HTTP at HOST:PORT, or at :PORT on all addresses.
    ///
    /// Probes read /healthz/ready, /healthz/live and /healthz/current there, and people /status and
    /// /events: see docs/status.md. Everyone who can connect may read, and nothing can be changed without
    /// --compat-endpoints. With port 0 the system chooses a free port, which is logged. Without the flag
    /// there is no such server.
    #[arg(long, value_name = "ADDR", env = "HANDOVER_STATUS_ADDRESS")]
    pub(crate) status_address: Option<String>,

    /// Let programs on this host end or drain this instance over HTTP, as they do with other sidecars.
    ///
    /// Use it for jobs and hooks written for Istio or Consul. POST /quitquitquit drains and ends the instance,
    /// and POST /drain makes its health checks fail; docs/status.md lists all calls. Every program that
    /// connects from a loopback address may call, whichever user it belongs to. Others get 403.
    #[arg(long, env = "HANDOVER_COMPAT_ENDPOINTS", requires = "status_address")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) compat_endpoints: bool,
}
