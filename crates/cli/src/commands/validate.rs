//! `handover validate`.

use handover_envoy::EnvoyConfig;
use handover_envoy::args::EnvoyArgs;
use handover_envoy::validate::{ValidateError, Verdict, validate};

use super::envoy_args::node_options;
use super::envoy_binary;
use crate::cli::run::ValidateArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

pub(super) async fn run(args: ValidateArgs) -> Result<ExitCode, Fatal> {
    let path = args.envoy.config_path;
    let binary = envoy_binary(&args.envoy.envoy_path)?;
    let options = node_options(&args.node, &args.extra).await;
    let arguments = EnvoyArgs::new(options).or_exit(ExitCode::USAGE)?;
    // What `run` asks for beyond Envoy comes first: its errors have a remedy.
    EnvoyConfig::read(&path).or_exit(ExitCode::CONFIG)?;
    match validate(&binary, &arguments, &path).await {
        Verdict::Valid => {
            super::print(format_args!("{}: valid", path.display()))?;
            Ok(ExitCode::CLEAN)
        }
        Verdict::Rejected { message } => {
            let error = anyhow::anyhow!("{}: {message}", path.display());
            Err(Fatal::new(ExitCode::CONFIG, error))
        }
        Verdict::CouldNotRun(ValidateError::Binary(error)) => {
            let code = ExitCode::of_failure(&error);
            Err(Fatal::new(code, error))
        }
        Verdict::CouldNotRun(error) => Err(Fatal::new(ExitCode::UNAVAILABLE, error)),
    }
}
