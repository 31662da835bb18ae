//! Who the program runs as, from the flags.

use handover_process::{RunAs, RunAsError};

use crate::cli::run_as::RunAsArgs;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

/// Returns who the program runs as, from the flags and the files of the host alone.
pub(super) fn judge(args: &RunAsArgs) -> Result<RunAs, Fatal> {
    args.run_as().map_err(Fatal::usage)
}

/// Returns who the program runs as, once it is certain that this process may start and end it.
pub(super) fn run_as(args: &RunAsArgs) -> Result<RunAs, Fatal> {
    let run_as = judge(args)?;
    match run_as.check() {
        Ok(()) => Ok(run_as),
        Err(error) => {
            let code = match &error {
                RunAsError::Root => ExitCode::USAGE,
                RunAsError::Missing { .. } => ExitCode::NO_PERMISSION,
                RunAsError::Read(_) | _ => ExitCode::OS,
            };
            let flag = match (&error, &args.user, args.group) {
                (RunAsError::Root, _, _) | (_, None, None) => "--ambient-caps",
                (_, None, Some(_)) => "--group",
                (_, Some(_), _) => "--user",
            };
            Err(Fatal::new(code, anyhow::Error::new(error).context(flag)))
        }
    }
}
