//! `handover install`.

use std::path::PathBuf;

use clap::Args;

/// Copy this program to a directory, for the init container of a pod.
///
/// The image of the proxy needs no handover then: an init container puts it on a volume that both share. The
/// copy is run once, with --version, to see that it can be. Then it takes the place of an older one in one
/// step, so a process that runs that is not disturbed.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
    0  the copy is there, and runs
   64  the command line is wrong
   71  it cannot be written: no space, a read-only file system, no permission
  126  the copy cannot be executed, as on a file system mounted with noexec")]
pub(crate) struct InstallArgs {
    /// Write `handover` to this directory, which is made if needed.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
