//! `handover doctor`.

use std::time::Duration;

use clap::Args;

use super::duration;
use super::run::RunArgs;

/// Report what will go wrong on this host with these flags of `run`. Nothing is started.
///
/// Give it every flag and variable that `run` gets. Each finding has a value, a reason and a remedy;
/// docs/doctor.md lists the checks. It needs no rights, and a check that cannot be made says so. Run it
/// where `run` runs: in the same container, as the same user.
#[derive(Args, Clone, Debug)]
#[command(
    after_long_help = "\
Exit codes:
    0  nothing was found
    1  there are warnings: requests may be lost
    2  there are errors: requests will be lost, or Envoy does not start
   64  the command line is wrong
   71  the operating system refused something that the command needs
  Codes from 64 on mean that the command gave no answer. With --json the
  code is the same.",
    override_usage = "handover doctor [OPTIONS] --config-path FILE [-- ENVOY ARGS...]",
    mut_arg("print_command", |flag| flag.hide(true)),
    mut_arg("print_config", |flag| flag.hide(true))
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) run: Box<RunArgs>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// What `doctor` has beside the flags of `run`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Report")]
pub(crate) struct ReportArgs {
    /// Print the findings as JSON. docs/doctor.md describes its fields.
    #[arg(long)]
    pub(crate) json: bool,

    /// Print what is in order or unknown as well.
    #[arg(long)]
    pub(crate) all: bool,

    /// The time between the request to end and SIGKILL: terminationGracePeriodSeconds of the pod.
    ///
    /// Without it, the variable `TERMINATION_GRACE_PERIOD_SECONDS` counts, then `TimeoutStopSec` of the
    /// unit.
    #[arg(long, value_name = "TIME", env = "HANDOVER_GRACE_PERIOD")]
    #[arg(value_parser = duration::parse)]
    pub(crate) grace_period: Option<Duration>,

    /// The systemd unit that runs handover. Without it, that of this process.
    #[arg(long, value_name = "UNIT", env = "HANDOVER_UNIT")]
    pub(crate) unit: Option<String>,
}
