//! `handover report`.

use std::path::PathBuf;

use clap::Args;

use super::control::TargetArgs;

/// Pack what explains an incident into one archive.
///
/// The archive has the versions, the arguments without secrets, the status, what `handover doctor` finds, the
/// recording, and the last lines of epochs that failed. An instance that has ended is packed from its
/// state directory. docs/recorder.md lists the files. Read them before you pass them on: the last lines
/// and the status are as the programs wrote them.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
   0  the archive is written; what is missing in it is printed
  64  the command line is wrong
  69  no instance answers, and there is no state directory
  71  the archive cannot be written, or it exists")]
pub(crate) struct ReportArgs {
    /// The archive to write. Without it, a file in the working directory is named after the time.
    ///
    /// Only its owner can read the file.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Replace the archive if it exists.
    #[arg(long)]
    pub(crate) force: bool,

    /// The state directory of the instance. Without it, that of the running instance.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}
