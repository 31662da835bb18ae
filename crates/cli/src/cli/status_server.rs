//! The flag by which `run` and `exec` show their state over HTTP.

use clap::Args;

/// Where the state of this instance is shown.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Status server")]
pub(crate) struct StatusServerArgs {
    /// Show the state of this instance over HTTP at HOST:PORT, or at :PORT on all addresses.
    ///
    /// Probes read /healthz/ready, /healthz/live and /healthz/current there, and people /status and
    /// /events: see docs/status.md. Nothing can be changed, and everyone who can connect may read. With
    /// port 0 the system chooses a free port, which is logged. Without the flag there is no such server.
    #[arg(long, value_name = "ADDR", env = "HANDOVER_STATUS_ADDRESS")]
    pub(crate) status_address: Option<String>,
}
