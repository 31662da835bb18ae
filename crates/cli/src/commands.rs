//! One file per command.

mod control;
mod demo;
mod demo_envoy;
mod doctor;
mod envoy_args;
mod envoy_binary;
mod envoy_config;
mod exec;
mod install;
mod listen;
mod manual;
mod order;
mod print_command;
mod private_ips;
mod report;
mod resolve;
mod run;
mod run_as;
mod simulate;
mod status_address;
mod story;
mod tcp_address;
mod validate;
mod verify;

use std::io::Write as _;

use handover_envoy::template::render_for_parent;
use handover_process::unblock_signals;

use crate::cli::{Cli, Command};
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::passed::Passed;
use envoy_binary::envoy_binary;

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
    let supervises = matches!(&command, Command::Run(args) if !args.print_command)
        || matches!(&command, Command::Exec(_) | Command::Demo(_));
    if !supervises {
        // A parent that blocks signals must not make a command deaf to Ctrl-C.
        unblock_signals().or_exit(ExitCode::OS)?;
    }
    match command {
        Command::Run(args) if args.print_command => print_command::run(*args).await,
        Command::Run(args) => run::run(*args, passed).await,
        Command::Exec(args) => exec::run(*args, passed).await,
        Command::Status(args) => control::status(&args).await,
        Command::Wait(args) => control::wait(&args).await,
        Command::Reload(args) => control::reload(&args).await,
        Command::Apply(args) => control::apply(&args).await,
        Command::Drain(args) => control::drain(&args).await,
        Command::Undrain(args) => control::undrain(&args).await,
        Command::Stop(args) => control::stop(&args).await,
        Command::Who(args) => control::who(&args).await,
        Command::Events(args) => story::events(&args).await,
        Command::Logs(args) => story::logs(&args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Validate(args) => validate::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Report(args) => report::run(&args).await,
        Command::Resolve(args) => resolve::run(&args).await,
        Command::PrivateIps(args) => private_ips::run(args).await,
        Command::Simulate(args) => simulate::run(&args),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::man(&args),
        Command::Schema(args) => manual::schema(args),
        Command::Install(args) => install::run(&args).await,
        Command::RenderTemplate => Ok(ExitCode::passed_on(render_for_parent())),
        Command::DemoServer(args) => crate::demo::server::run(args, passed).await,
    }
}

/// Judges flags and variables beyond their form, as far as that needs neither files nor a network.
///
/// # Errors
///
/// What the command would be refused for.
pub(crate) fn judge(command: &Command) -> Result<(), Fatal> {
    if let Command::Run(args) = command {
        run::judge(args)
    } else if let Command::Doctor(args) = command {
        run::judge(&args.run)
    } else if let Command::Exec(args) = command {
        exec::judge(args)
    } else {
        Ok(())
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
