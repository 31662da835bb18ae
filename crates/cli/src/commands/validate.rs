//! `handover validate`.

use std::io::Write as _;

use handover_envoy::args::EnvoyArgs;
use handover_envoy::validate::{ValidateError, Verdict};
use handover_process::RunAs;
use tracing::Level;

use super::envoy_args::node_options;
use super::envoy_config::ConfigFile;
use super::{envoy_binary, print, print_bytes};
use crate::cli::run::ValidateArgs;
use crate::escape::escaped;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::logging::journal;

pub(super) async fn run(args: ValidateArgs) -> Result<ExitCode, Fatal> {
    let file = ConfigFile::new(&args.envoy, &args.node);
    let name = file.name();
    if args.print {
        if !file.is_derived() {
            return Err(Fatal::usage(
                "--print needs --template or --config-overlay: without them, Envoy gets the file as it is",
            ));
        }
        let text = file.text().await.map_err(Fatal::not_read)?;
        print_bytes(&text)?;
        return Ok(ExitCode::CLEAN);
    }
    let binary = envoy_binary(&args.envoy.envoy_path)?;
    let options = node_options(&args.node, &args.extra).await;
    let arguments = EnvoyArgs::new(options).or_exit(ExitCode::USAGE)?;
    // What `run` asks for beyond Envoy comes first: its errors have a remedy.
    let config = file.read().await.map_err(Fatal::not_read)?;
    match file
        .verdict(&binary, &arguments, &config, &RunAs::new())
        .await?
    {
        Verdict::Valid => {
            let name = escaped(&name, &[]);
            for limits in [
                config.admin_limits(),
                config.bootstrap().stats.hidden_evidence(),
            ]
            .into_iter()
            .flatten()
            {
                let warning = format!("warning: {name}: {limits}");
                let warning = journal::lines_for_stderr(&warning, Level::WARN);
                // Nobody reads it where standard error is closed, and the verdict is the same.
                let _unread = writeln!(std::io::stderr(), "{warning}");
            }
            print(format_args!("{name}: valid"))?;
            Ok(ExitCode::CLEAN)
        }
        Verdict::Rejected { message } => {
            let error = anyhow::anyhow!("{name}: {message}");
            Err(Fatal::new(ExitCode::CONFIG, error))
        }
        Verdict::CouldNotRun(ValidateError::Binary(error)) => {
            let code = ExitCode::of_failure(&error);
            Err(Fatal::new(code, error))
        }
        Verdict::CouldNotRun(error) => Err(Fatal::new(ExitCode::UNAVAILABLE, error)),
    }
}
