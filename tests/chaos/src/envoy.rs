//! The fake Envoy, as a program beside the one that lets it run.

use std::process::ExitCode;

fn main() -> ExitCode {
    handover_fake_envoy::run(std::env::args_os())
}
