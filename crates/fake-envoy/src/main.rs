//! The fake Envoy as a program.

fn main() -> std::process::ExitCode {
    handover_fake_envoy::run(std::env::args_os())
}
