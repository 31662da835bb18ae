//! `handover status --watch` in a build without the display for terminals.

use crate::cli::absent;
use crate::cli::control::TargetArgs;
use crate::exit_code::ExitCode;
use crate::fatal::Fatal;

/// Refuses the flag, with the build that has it.
#[expect(
    clippy::unused_async,
    reason = "in the place of a function that asks an instance"
)]
pub(super) async fn watch(_target: &TargetArgs) -> Result<ExitCode, Fatal> {
    Err(Fatal::usage(absent::flag("status --watch", "tools")))
}
