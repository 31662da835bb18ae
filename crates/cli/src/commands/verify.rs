//! What the user wants to see of an epoch on probation.

use anyhow::Context as _;
use handover_process::ready::Probe;
use handover_supervisor::Verify;

use super::tcp_address::{http_parts, to_connect_to};
use crate::cli::probation::ProbationArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// So many characters of a command name it in reports.
const LONGEST_NAME: usize = 80;

/// Refuses what no start can make good.
pub(super) fn judge(args: &ProbationArgs, counts_errors: bool) -> Result<(), Fatal> {
    let counts = counts_errors.then_some("--max-error-rise");
    if let (None, Some(flag)) = (args.probation.0, args.needs_probation().or(counts)) {
        return Err(Fatal::usage(format_args!(
            "{flag} needs a probation: give a --probation of more than 0, such as 10s"
        )));
    }
    for url in &args.verify_http {
        parts(url)?;
    }
    if args.verify.iter().any(|command| command.trim().is_empty()) {
        return Err(Fatal::usage("--verify needs a command"));
    }
    Ok(())
}

/// Resolves the addresses, once for all epochs.
pub(super) async fn probes(args: &ProbationArgs) -> Result<Vec<Verify>, Fatal> {
    let mut probes = Vec::new();
    for url in &args.verify_http {
        let (authority, path) = parts(url)?;
        let address = to_connect_to("--verify-http", authority).await?;
        let probe = Probe::http(address, path)
            .context("--verify-http")
            .or_exit(ExitCode::USAGE)?;
        let probe = probe
            .with_host(authority)
            .context("--verify-http")
            .or_exit(ExitCode::USAGE)?;
        probes.push(Verify::probe(format!("--verify-http {url}"), probe));
    }
    for text in &args.verify_tcp {
        let address = to_connect_to("--verify-tcp", text).await?;
        let probe = Probe::tcp(address);
        probes.push(Verify::probe(format!("--verify-tcp {text}"), probe));
    }
    for command in &args.verify {
        probes.push(Verify::command(name(command), command));
    }
    Ok(probes)
}

fn name(command: &str) -> String {
    let shown: String = command.chars().take(LONGEST_NAME).collect();
    let more = if shown.len() < command.len() {
        "..."
    } else {
        ""
    };
    format!("--verify `{shown}{more}`")
}

fn parts(url: &str) -> Result<(&str, &str), Fatal> {
    let with_tls = format!("use --verify 'curl -fsS {url}'");
    http_parts("--verify-http", url, &with_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_named_by_its_beginning() {
        assert_eq!(name("true"), "--verify `true`");
        let long = "x".repeat(81);
        assert_eq!(name(&long), format!("--verify `{}...`", "x".repeat(80)));
    }
}
