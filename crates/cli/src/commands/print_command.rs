//! `handover run --print-command`.

use std::path::Path;

use handover_envoy::args::EnvoyArgs;
use handover_envoy::files::{TemporaryRunDir, file_name};
use handover_envoy::hot_restart::{BaseId, BaseIdChoice, HostPaths, OwnedBaseId};

use super::envoy_config::ConfigFile;
use super::run::{arguments, base_id, judge, lock_dir, owner};
use super::{envoy_binary, print};
use crate::cli::run::RunArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::logging::Logging;

/// Prints the command line of epoch 0. Neither the configuration nor an Envoy is touched.
pub(super) async fn run(mut args: RunArgs) -> Result<ExitCode, Fatal> {
    let logging = Logging::start(&args.logging).or_exit(ExitCode::OS)?;
    let line = match judge(&args) {
        Ok(()) => {
            args.look_for_kept();
            command_line(args).await
        }
        Err(error) => Err(error),
    };
    Ok(logging.finish(line.and_then(|line| {
        print(line)?;
        Ok(ExitCode::CLEAN)
    })))
}

async fn command_line(args: RunArgs) -> Result<String, Fatal> {
    let binary = envoy_binary(&args.envoy.envoy_path)?;
    let envoy_args = EnvoyArgs::new(arguments(&args).await).or_exit(ExitCode::USAGE)?;
    let base_id = match base_id(&args)? {
        BaseIdChoice::Explicit(id) => id,
        BaseIdChoice::Auto => free_base_id(&lock_dir(&args).expected(), &owner(&args))?,
    };
    let format = ConfigFile::new(&args.envoy, &args.node).format();
    let run_dir = args.run_dir.unwrap_or_else(|| {
        let chosen_at_the_start = format!("{}XXXXXX", TemporaryRunDir::PREFIX);
        tempfile::env::temp_dir().join(chosen_at_the_start)
    });
    let config = run_dir.join(file_name(0, format));
    Ok(envoy_args.command_line(&binary, &config, 0, base_id))
}

/// The base id that a start would take at this moment.
fn free_base_id(lock_dir: &Path, instance: &str) -> Result<BaseId, Fatal> {
    let host = HostPaths::with_locks(lock_dir);
    OwnedBaseId::would_pick(instance, &host).or_exit(ExitCode::UNAVAILABLE)
}
