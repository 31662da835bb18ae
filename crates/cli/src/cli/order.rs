//! What the start of `run` and `exec` waits for, and what else ends them.

use std::path::PathBuf;

use clap::Args;

use super::duration::Limit;

/// What the start waits for, and what ends the instance.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Order")]
pub(crate) struct OrderArgs {
    /// Start nothing until this file exists, is readable and not empty. Repeat it for more.
    ///
    /// Until all files are there, the instance is not ready, and `handover status` names what is missing.
    /// TERM ends it at once. The configuration itself may be named, too. After the first start the files
    /// are not looked at any more; see --watch.
    #[arg(
        long,
        value_name = "PATH",
        env = "HANDOVER_WAIT_FOR_FILE",
        value_delimiter = ','
    )]
    pub(crate) wait_for_file: Vec<PathBuf>,

    /// End with 75 when the files of --wait-for-file are not there within this time.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_WAIT_FOR_FILE_TIMEOUT",
        default_value = "none",
        requires = "wait_for_file"
    )]
    pub(crate) wait_for_file_timeout: Limit,

    /// When this process ends, drain and end, as on TERM.
    ///
    /// It may be a process of another user. If there is no such process at the start, the exit code is 64.
    #[arg(long, value_name = "PID", env = "HANDOVER_EXIT_WITH_PID")]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) exit_with_pid: Option<i32>,

    /// When this file appears, drain and end, as on TERM.
    ///
    /// It is a regular file and may be empty. If it is there at the start, perhaps from an earlier run, the
    /// exit code is 64.
    #[arg(long, value_name = "PATH", env = "HANDOVER_EXIT_WITH_FILE")]
    pub(crate) exit_with_file: Option<PathBuf>,
}
