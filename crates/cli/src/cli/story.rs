//! `handover events` and `handover logs`.

use std::path::PathBuf;

use clap::Args;

use super::control::TargetArgs;

/// Show what has happened to an instance: starts, hand-overs, failures, retries, drains.
///
/// Each line is a time in UTC, one word and a sentence. A reason stands below it. Events of earlier runs
/// come first, if the instance has a --state-dir. Of an instance that has ended, name that directory.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the events are printed; with --follow, the instance has ended as asked
  64  the command line is wrong
  69  no instance answers, and there is no state directory; or with
      --follow, the instance has ended without a word
  75  the instance did not answer in time")]
pub(crate) struct EventsArgs {
    /// Print what happens from now on as well, until the instance ends.
    #[arg(long)]
    pub(crate) follow: bool,

    /// Print each event as a JSON object on a line of its own. docs/control.md describes its fields.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) state_dir: StateDirArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Print the last lines that each epoch has printed.
///
/// The last 40 lines of each of the last six processes are kept if the instance has a --state-dir, and
/// those of the run before. They are written at most once a second.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the lines are printed
  64  the command line is wrong
  69  no instance answers, and there is no state directory; or there are no
      such lines
  75  the instance did not answer in time")]
pub(crate) struct LogsArgs {
    /// Print the lines of this epoch only.
    #[arg(long, value_name = "EPOCH")]
    pub(crate) epoch: Option<u32>,

    /// Print the lines of the run before this one.
    #[arg(long)]
    pub(crate) previous: bool,

    #[command(flatten)]
    pub(crate) state_dir: StateDirArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Where something is kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct StateDirArgs {
    /// The state directory of the instance. Without it, that of the running instance.
    ///
    /// It is enough for an instance that has ended.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}
