//! The `handover` command: parse, run, exit.

mod cli;
mod commands;
mod control;
mod demo;
mod exit_code;
mod fatal;
mod logging;
mod operate;
mod program;
mod signals;
mod source;
mod supervise;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use clap::error::ErrorKind;

use cli::Cli;
use cli::variables::variables_behind;
use exit_code::ExitCode;
use fatal::{Fatal, OrExit as _};

fn main() -> std::process::ExitCode {
    use_the_usual_temporary_directory();
    let words: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::parse_words(&words) {
        Ok(cli) => run(cli).unwrap_or_else(|error| report(&error)),
        Err(error) => refuse(&error, &words),
    };
    code.into()
}

/// An empty variable is an unset one, so it does not mean the working directory.
fn use_the_usual_temporary_directory() {
    if std::env::var_os("TMPDIR").is_some_and(|dir| dir.is_empty()) {
        // Only a second call could fail, and there is one.
        let _is_first = tempfile::env::override_temp_dir(Path::new("/tmp"));
    }
}

/// Runs the command on this thread. What it started in the background, a lookup that hangs for
/// example, does not keep the program from ending.
fn run(cli: Cli) -> Result<ExitCode, Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitCode::OS)?;
    let result = runtime.block_on(commands::run(cli.command));
    runtime.shutdown_background();
    result
}

/// Says what is wrong with the command line, or gives the help that was asked for. The variables
/// that the command would be run with are judged beside its help.
fn refuse(error: &clap::Error, words: &[OsString]) -> ExitCode {
    // A closed pipe leaves nobody to tell.
    let _unread = error.print();
    if error.kind() == ErrorKind::DisplayVersion {
        return ExitCode::CLEAN;
    }
    if error.kind() == ErrorKind::DisplayHelp {
        return match Cli::parse_for_help(words) {
            None => ExitCode::CLEAN,
            Some(Ok(cli)) => match commands::judge(&cli.command) {
                Ok(()) => ExitCode::CLEAN,
                Err(error) => report(&error),
            },
            Some(Err(error)) => refuse(&error, words),
        };
    }
    for variable in variables_behind(error, words) {
        let value = std::env::var_os(&variable).unwrap_or_default();
        let note = format!("note: the variable {variable} is set to {value:?}");
        let _unread = writeln!(std::io::stderr(), "{note}");
    }
    ExitCode::USAGE
}

fn report(error: &Fatal) -> ExitCode {
    // As above.
    let _unread = writeln!(std::io::stderr(), "error: {error}");
    error.code
}
