//! The command line: what may be typed, and what each word means.

pub(crate) mod absent;
pub(crate) mod arguments;
pub(crate) mod control;
#[cfg(all(feature = "envoy", feature = "tools"))]
pub(crate) mod demo;
#[cfg(feature = "envoy")]
pub(crate) mod doctor;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod exec;
#[cfg(all(feature = "envoy", feature = "tools"))]
#[cfg(test)]
mod flag_tests;
pub(crate) mod global;
pub(crate) mod group;
pub(crate) mod hooks;
pub(crate) mod install;
pub(crate) mod listen;
#[cfg(feature = "tools")]
pub(crate) mod manual;
mod nearest;
mod on_exit;
pub(crate) mod order;
pub(crate) mod policy;
pub(crate) mod private_ips;
pub(crate) mod probation;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod resolve;
#[cfg(feature = "envoy")]
pub(crate) mod run;
pub(crate) mod run_as;
pub(crate) mod settings;
#[cfg(feature = "tools")]
pub(crate) mod simulate;
pub(crate) mod status_server;
pub(crate) mod story;

use clap::{Parser, Subcommand};

#[cfg(feature = "envoy")]
use control::ApplyArgs;
use control::{DrainArgs, ReloadArgs, StatusArgs, StopArgs, UndrainArgs, WaitArgs, WhoArgs};
#[cfg(all(feature = "envoy", feature = "tools"))]
use demo::{DemoArgs, DemoServerArgs};
#[cfg(feature = "envoy")]
use doctor::DoctorArgs;
use exec::ExecArgs;
use install::InstallArgs;
#[cfg(feature = "tools")]
use manual::{CompletionsArgs, ManArgs, SchemaArgs};
use private_ips::PrivateIpsArgs;
use report::ReportArgs;
use resolve::ResolveArgs;
#[cfg(feature = "envoy")]
use run::{RunArgs, ValidateArgs};
#[cfg(feature = "tools")]
use simulate::SimulateArgs;
use story::{EventsArgs, LogsArgs};

/// Keep a proxy running, and replace it without losing a request.
#[derive(Debug, Parser)]
#[command(
    name = "handover",
    version,
    after_long_help = help_below(),
    disable_help_subcommand = true,
    max_term_width = 100,
    subcommand_required = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// What --print-config prints, if it is given.
    #[arg(skip)]
    pub(crate) config: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "envoy")]
    Run(Box<RunArgs>),
    Exec(Box<ExecArgs>),
    Status(StatusArgs),
    Wait(WaitArgs),
    Reload(ReloadArgs),
    #[cfg(feature = "envoy")]
    Apply(ApplyArgs),
    Drain(DrainArgs),
    Undrain(UndrainArgs),
    Stop(StopArgs),
    Who(WhoArgs),
    Events(EventsArgs),
    Logs(LogsArgs),
    #[cfg(all(feature = "envoy", feature = "tools"))]
    Demo(DemoArgs),
    #[cfg(feature = "envoy")]
    Validate(ValidateArgs),
    #[cfg(feature = "envoy")]
    Doctor(DoctorArgs),
    Report(ReportArgs),
    Resolve(ResolveArgs),
    PrivateIps(PrivateIpsArgs),
    #[cfg(feature = "tools")]
    Simulate(SimulateArgs),
    #[cfg(feature = "tools")]
    Completions(CompletionsArgs),
    #[cfg(feature = "tools")]
    Man(ManArgs),
    #[cfg(feature = "tools")]
    Schema(SchemaArgs),
    Install(InstallArgs),
    #[cfg(all(feature = "envoy", feature = "tools"))]
    DemoServer(DemoServerArgs),
    #[cfg(feature = "envoy")]
    /// Renders the template that another handover asks for.
    #[command(name = RENDER_TEMPLATE, hide = true)]
    RenderTemplate,
}

#[cfg(feature = "envoy")]
/// The command by which handover asks itself to render a template in a process of its own.
pub(crate) const RENDER_TEMPLATE: &str = "render-template";

/// Returns what `handover --help` ends with.
fn help_below() -> String {
    match absent::summary() {
        Some(absent) => format!("{AFTER_HELP}\n\n{absent}"),
        None => AFTER_HELP.to_owned(),
    }
}

/// Shown by `--help` of the commands that supervise.
pub(crate) const AFTER_HELP: &str = "\
Signals, for `run` and `exec`:
  TERM, INT, QUIT  drain, then end; a second one stops at once, a third kills
  HUP              start the next epoch, even if nothing has changed
  USR1             passed on to every process; Envoy reopens its log files
  USR2             make Envoy's health checks fail, as `handover drain` does

Exit codes:
    0  success
   64  the command line is wrong
   65  the configuration was rejected, or cannot be read
   69  the retries are spent, or something that was asked for is unavailable
   70  a bug in handover
   71  the operating system refused something at the start: an address, a limit
   75  time was up: a drain was cut, or an answer or a file did not come in time
   77  Envoy has no permission to read its configuration; see --run-dir-group.
       Or handover may not start a program of another user; see --user
  126  the program was found and cannot be executed
  127  the program was not found
  128+N  killed by signal N
  If the end of the program ends `run` or `exec`, its exit code is passed on.

An epoch is one start of the supervised program; epochs are numbered from 0.
A TIME has a unit: 300ms, 45s, 1m 30s.
Each flag has an environment variable, shown beside it, and is a key of the file
of --settings. The flag wins over the variable, and the variable over the file.
An empty variable counts as unset. If a flag may be repeated, its variable takes
a list with commas, except HANDOVER_VERIFY and _VERIFY_HTTP.";
