//! `handover completions`, `handover man` and `handover schema`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// Print the completions of a shell for all commands and flags.
///
/// For bash: `handover completions bash > /usr/share/bash-completion/completions/handover`.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the completions are printed
  64  the command line is wrong
  71  they cannot be written")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Print the manual page of `handover`, or write those of all commands.
///
/// The pages hold the same texts as --help. `handover man | man -l -` shows the first one.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the pages are printed or written
  64  the command line is wrong
  71  they cannot be written")]
pub(crate) struct ManArgs {
    /// Write `handover.1`, `handover-run.1` and so on to this directory, which is made if needed.
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// Print the JSON schema of the settings file of `run` or `exec`.
///
/// Editors complete and check a settings file with it, and a pipeline can check one before it is
/// installed. See docs/settings.md.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the schema is printed
  64  the command line is wrong
  71  it cannot be written")]
pub(crate) struct SchemaArgs {
    /// The command whose settings are described.
    #[arg(value_enum, value_name = "COMMAND")]
    pub(crate) command: SettingsOf,
}

/// A command that has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SettingsOf {
    #[cfg(feature = "envoy")]
    Run,
    Exec,
}

impl SettingsOf {
    /// Returns the name of the command.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "envoy")]
            Self::Run => "run",
            Self::Exec => "exec",
        }
    }
}
