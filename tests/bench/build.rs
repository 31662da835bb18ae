//! Compiles the child that every supervisor starts: a static program without the standard library, so that its own
//! start takes as little time as the system allows.
//!
//! A binary of the package would be linked with the start-up code of the system's library, and would need the
//! handler of panics that the profile of the workspace asks for.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SOURCE: &str = "child/child.rs";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCE}");
    match compile() {
        Ok(child) => {
            println!("cargo::rustc-env=BENCH_CHILD={}", child.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("cargo::error={problem}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<PathBuf, String> {
    let variable = |name: &str| {
        std::env::var_os(name).ok_or_else(|| format!("cargo has not set {name} for a build script"))
    };
    let child = PathBuf::from(variable("OUT_DIR")?).join("child");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--crate-name",
        "child",
    ]);
    rustc.args([
        "-Copt-level=2",
        "-Cpanic=abort",
        "-Cstrip=symbols",
        "-Crelocation-model=static",
    ]);
    rustc.args([
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
    ]);
    rustc.arg("--target").arg(variable("TARGET")?);
    rustc.arg("-o").arg(&child).arg(SOURCE);
    let output = rustc
        .output()
        .map_err(|error| format!("starting rustc for {SOURCE}: {error}"))?;
    if output.status.success() {
        return Ok(child);
    }
    let reason = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    Err(format!("compiling {SOURCE}: {}: {reason}", output.status))
}
