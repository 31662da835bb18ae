//! One file per command.

mod control;
#[cfg(all(feature = "envoy", feature = "tools"))]
mod demo;
#[cfg(all(feature = "envoy", feature = "tools"))]
mod demo_envoy;
#[cfg(feature = "envoy")]
mod doctor;
#[cfg(feature = "envoy")]
mod envoy_args;
#[cfg(feature = "envoy")]
mod envoy_binary;
#[cfg(feature = "envoy")]
mod envoy_config;
mod exec;
mod install;
mod listen;
#[cfg(feature = "tools")]
mod manual;
mod named_directory;
mod order;
mod own_files;
#[cfg(feature = "envoy")]
mod print_command;
mod private_ips;
mod report;
mod resolve;
#[cfg(feature = "envoy")]
mod run;
mod run_as;
#[cfg(feature = "tools")]
mod simulate;
mod status_address;
mod story;
mod tcp_address;
#[cfg(feature = "envoy")]
mod validate;
mod verify;

use std::io::Write as _;

#[cfg(feature = "envoy")]
use handover_envoy::template::render_for_parent;
use handover_process::unblock_signals;

use crate::cli::{Cli, Command};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::passed::Passed;
#[cfg(feature = "envoy")]
use envoy_binary::envoy_binary;
#[cfg(feature = "envoy")]
pub(crate) use envoy_config::ConfigSource;

#[cfg(feature = "envoy")]
#[cfg(test)]
pub(crate) use envoy_args::ADDRESS_LIMIT;

/// Runs a command to its end.
pub(crate) async fn run(cli: Cli, passed: Passed) -> Result<ExitCode, Fatal> {
    let Cli { command, config } = cli;
    if let Some(config) = config {
        // First, as it may show why the settings do not go together.
        print_bytes(config.as_bytes())?;
        judge(&command)?;
        return Ok(ExitCode::CLEAN);
    }
    if !supervises(&command) {
        // A parent that blocks signals must not make a command deaf to Ctrl-C.
        unblock_signals().or_exit(ExitCode::OS)?;
    }
    match command {
        #[cfg(feature = "envoy")]
        Command::Run(args) if args.print_command => print_command::run(*args).await,
        #[cfg(feature = "envoy")]
        Command::Run(args) => run::run(*args, passed).await,
        Command::Exec(args) => exec::run(*args, passed).await,
        Command::Status(args) => control::status(&args).await,
        Command::Wait(args) => control::wait(&args).await,
        Command::Reload(args) => control::reload(&args).await,
        #[cfg(feature = "envoy")]
        Command::Apply(args) => control::apply(&args).await,
        Command::Drain(args) => control::drain(&args).await,
        Command::Undrain(args) => control::undrain(&args).await,
        Command::Stop(args) => control::stop(&args).await,
        Command::Who(args) => control::who(&args).await,
        Command::Events(args) => story::events(&args).await,
        Command::Logs(args) => story::logs(&args).await,
        #[cfg(all(feature = "envoy", feature = "tools"))]
        Command::Demo(args) => demo::run(args).await,
        #[cfg(feature = "envoy")]
        Command::Validate(args) => validate::run(args).await,
        #[cfg(feature = "envoy")]
        Command::Doctor(args) => doctor::run(args).await,
        Command::Report(args) => report::run(&args).await,
        Command::Resolve(args) => resolve::run(&args).await,
        Command::PrivateIps(args) => private_ips::run(args).await,
        #[cfg(feature = "tools")]
        Command::Simulate(args) => simulate::run(&args),
        #[cfg(feature = "tools")]
        Command::Completions(args) => manual::completions(args),
        #[cfg(feature = "tools")]
        Command::Man(args) => manual::man(&args),
        #[cfg(feature = "tools")]
        Command::Schema(args) => manual::schema(args),
        Command::Install(args) => install::run(&args).await,
        #[cfg(feature = "envoy")]
        Command::RenderTemplate => Ok(ExitCode::passed_on(render_for_parent())),
        #[cfg(all(feature = "envoy", feature = "tools"))]
        Command::DemoServer(args) => crate::demo::server::run(args, passed).await,
    }
}

/// Returns whether the command takes signals over, for what it supervises.
fn supervises(command: &Command) -> bool {
    match command {
        Command::Exec(_) => true,
        #[cfg(feature = "envoy")]
        Command::Run(args) => !args.print_command,
        #[cfg(all(feature = "envoy", feature = "tools"))]
        Command::Demo(_) => true,
        _ => false,
    }
}

/// Judges flags and variables beyond their form, as far as that needs neither files nor a network.
///
/// # Errors
///
/// What the command would be refused for.
pub(crate) fn judge(command: &Command) -> Result<(), Fatal> {
    match command {
        Command::Exec(args) => exec::judge(args),
        #[cfg(feature = "envoy")]
        Command::Run(args) => run::judge(args),
        #[cfg(feature = "envoy")]
        Command::Doctor(args) => run::judge(&args.run),
        _ => Ok(()),
    }
}

/// Prints a result on standard output, as a line.
fn print(text: impl std::fmt::Display) -> Result<(), Fatal> {
    print_bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes on standard output as they are. That nobody reads them is an error, not a panic.
fn print_bytes(bytes: &[u8]) -> Result<(), Fatal> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .or_exit(ExitCode::OS)
}
