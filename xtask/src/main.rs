//! Every check of the workspace, and the tools they need: `cargo xtask ci` is what CI runs, no more
//! and no less.
//!
//! It knows the workspace from the outside only: manifests, `cargo metadata`, source text, and what
//! the tools say. It links none of the crates that it checks.
//!
//! Where to look: [`commands`] has one file per subcommand, [`checks`] one file per check and their
//! registry, [`packages`] makes what is released, [`markdown`] and [`report`] read what others wrote, [`context`] is what a run shares, [`process`]
//! how a program is started. `docs/checks.md` tells what each check holds and how to add one.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "xtask is a program for people and CI logs: printing is what it does"
)]

mod checks;
mod commands;
mod context;
mod markdown;
mod packages;
mod process;
mod report;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::Xtask::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
