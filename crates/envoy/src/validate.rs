//! Asking Envoy whether a configuration is good, before an epoch is spent on it.
//!
//! `--mode validate` touches neither shared memory nor a port, so it is safe beside a running
//! Envoy; it therefore does not see port conflicts either. It takes about 50 ms.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use handover_process::RunAs;

use crate::args::EnvoyArgs;
use crate::capture::{CaptureError, capture};
use crate::text::{configuration_error, one_line};
use crate::version::{BinaryError, check_binary};

/// How long a validation may take. Envoy takes 90 ms at most for a usual configuration, but does
/// not limit how far aliases of a YAML document unfold, so one can keep it busy for minutes.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What Envoy says of a configuration.
///
/// It stays closed. There is no fourth answer, and a caller that passes one over would start an
/// unknown configuration.
#[derive(Debug)]
pub enum Verdict {
    /// Envoy would start with it.
    Valid,
    /// Envoy would not.
    Rejected {
        /// Envoy's reason, on one line and without the document that Envoy repeats.
        message: String,
    },
    /// Envoy could not be asked, or did not say.
    CouldNotRun(ValidateError),
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// The binary cannot be used.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// It cannot be started, or not be waited for.
    #[error("cannot run Envoy to validate the configuration")]
    Run(#[source] io::Error),
    /// It did not end in time.
    #[error(
        "Envoy did not finish validating the configuration within {LIMIT:?}: is it very large, \
        or does it unfold aliases of aliases?"
    )]
    TimedOut,
    /// It was ended from outside, or crashed.
    #[error("Envoy ended with {status} while validating the configuration: {said}")]
    Died {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said, on one line.
        said: String,
    },
}

/// Runs `envoy --mode validate` with the arguments that have a say.
///
/// # Cancel safety
///
/// Dropping it kills the validating process.
///
/// ```no_run
/// use handover_envoy::args::{ArgsOptions, EnvoyArgs};
/// use handover_envoy::validate::{Verdict, validate};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let args = EnvoyArgs::new(ArgsOptions::default())?;
/// match validate("/usr/bin/envoy".as_ref(), &args, "/etc/envoy.yaml".as_ref()).await {
///     Verdict::Valid => println!("good"),
///     Verdict::Rejected { message } => println!("bad: {message}"),
///     Verdict::CouldNotRun(error) => println!("unknown: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
pub async fn validate(binary: &Path, args: &EnvoyArgs, config: &Path) -> Verdict {
    validate_as(binary, args, config, &RunAs::new()).await
}

/// Runs `envoy --mode validate` as [`validate`] does, as another user. That user must be able to read the
/// configuration.
///
/// # Cancel safety
///
/// Dropping it kills the validating process.
pub async fn validate_as(
    binary: &Path,
    args: &EnvoyArgs,
    config: &Path,
    run_as: &RunAs,
) -> Verdict {
    validate_with(binary, args, config, None, run_as).await
}

/// Runs it with something that is merged into the configuration.
pub(crate) async fn validate_with(
    binary: &Path,
    args: &EnvoyArgs,
    config: &Path,
    overlay: Option<&str>,
    run_as: &RunAs,
) -> Verdict {
    if let Err(error) = check_binary(binary) {
        return Verdict::CouldNotRun(error.into());
    }
    let mut arguments = args.validate(config);
    arguments.extend(overlay_arguments(overlay));
    let captured = match capture(binary, &arguments, run_as, LIMIT).await {
        Ok(captured) => captured,
        Err(CaptureError::Spawn(error) | CaptureError::Wait(error)) => {
            return Verdict::CouldNotRun(ValidateError::Run(error));
        }
        Err(CaptureError::TimedOut) => return Verdict::CouldNotRun(ValidateError::TimedOut),
    };
    if captured.status.success() {
        return Verdict::Valid;
    }
    let reason = captured.reason.as_deref().and_then(configuration_error);
    // Exit code 1 is Envoy's only answer to a bad configuration; it goes with a reason.
    match (captured.status.code(), reason) {
        (Some(1), Some(message)) => Verdict::Rejected { message },
        (Some(1), None) => Verdict::Rejected {
            message: refusal(&captured.stderr),
        },
        _ => Verdict::CouldNotRun(ValidateError::Died {
            status: captured.status,
            said: refusal(&captured.stderr),
        }),
    }
}

/// The arguments with which Envoy merges something into its configuration.
pub(crate) fn overlay_arguments(overlay: Option<&str>) -> impl Iterator<Item = OsString> {
    let arguments = overlay.map(|overlay| ["--config-yaml".into(), overlay.into()]);
    arguments.into_iter().flatten()
}

/// What Envoy says against its arguments, or its last words.
fn refusal(stderr: &str) -> String {
    if let Some((_, rest)) = stderr.split_once("PARSE ERROR:") {
        let sentence = rest
            .split_once("\n\n")
            .map_or(rest, |(sentence, _)| sentence);
        return one_line(sentence);
    }
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| "it gave no reason".to_owned(), one_line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ArgsOptions;
    use crate::capture::tests::{dir, script};

    async fn verdict_of(program: &str) -> Verdict {
        let dir = dir();
        let args = EnvoyArgs::new(ArgsOptions::default()).unwrap();
        validate(&script(&dir, program), &args, Path::new("c.yaml")).await
    }

    #[tokio::test]
    async fn the_exit_decides_and_the_reason_is_one_line() {
        assert!(matches!(verdict_of("exit 0").await, Verdict::Valid));
        let rejected = verdict_of(
            "printf \"[x][warning] noise\\n[critical][main] [s.cc:1] error initializing configuration 'c.yaml': no  such\\n field\\n\" >&2; exit 1",
        );
        assert!(
            matches!(rejected.await, Verdict::Rejected { message } if message == "no such field")
        );
        let rejected = verdict_of(
            "printf 'PARSE ERROR: Argument: --x\\n             no match\\n\\nBrief USAGE: \\n' >&2; exit 1",
        );
        assert!(
            matches!(rejected.await, Verdict::Rejected { message } if message == "Argument: --x no match")
        );
        let silent = verdict_of("exit 1").await;
        assert!(matches!(silent, Verdict::Rejected { message } if message == "it gave no reason"));
    }

    #[tokio::test]
    async fn a_crash_is_no_verdict() {
        for program in ["echo ouch >&2; kill -ABRT $$", "echo ouch >&2; exit 2"] {
            let verdict = verdict_of(program).await;
            let Verdict::CouldNotRun(ValidateError::Died { said, .. }) = verdict else {
                panic!("{verdict:?}");
            };
            assert_eq!(said, "ouch");
        }
    }

    #[tokio::test]
    async fn without_a_binary_there_is_no_verdict() {
        let args = EnvoyArgs::new(ArgsOptions::default()).unwrap();
        let verdict = validate(Path::new("/nonexistent"), &args, Path::new("c")).await;
        assert!(matches!(
            verdict,
            Verdict::CouldNotRun(ValidateError::Binary(_))
        ));
    }
}
