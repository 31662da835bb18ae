//! `fuzz`: runs each fuzz target of `fuzz/` for a while.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::process;

/// The package, which is a workspace of its own.
const PACKAGE: &str = "fuzz";

struct Target {
    name: &'static str,
    /// Where it begins, beside what earlier runs have found.
    seeds: Option<&'static str>,
    dictionary: Option<&'static str>,
}

const TARGETS: [Target; 8] = [
    Target {
        name: "script",
        seeds: Some("crates/core/scenarios"),
        dictionary: Some("fuzz/script.dict"),
    },
    Target {
        name: "inputs",
        seeds: None,
        dictionary: None,
    },
    Target::reader("bootstrap", "fuzz/seeds/bootstrap"),
    Target::reader("template", "fuzz/seeds/template"),
    Target::reader("last_known_good", "fuzz/seeds/last_known_good"),
    Target::reader("admin_answers", "fuzz/seeds/admin_answers"),
    Target::reader("hot_restart_messages", "fuzz/seeds/hot_restart_messages"),
    Target::reader("readiness", "fuzz/seeds/readiness"),
];

impl Target {
    /// A reader of foreign bytes, with its seeds. Tests of its crate replay them.
    const fn reader(name: &'static str, seeds: &'static str) -> Self {
        Self {
            name,
            seeds: Some(seeds),
            dictionary: None,
        }
    }
}

/// Runs all of them, so many seconds each, also after one has found something.
pub(super) fn command(seconds: u32) -> Result<ExitCode> {
    let context = Context::new()?;
    if !context.has_subcommand("fuzz") {
        bail!("cargo-fuzz is not installed: `cargo install cargo-fuzz --locked` does it");
    }
    let mut problems = Vec::new();
    for target in &TARGETS {
        println!("{}: {seconds} s", target.name);
        problems.extend(run(&context, target, seconds)?);
    }
    for problem in &problems {
        println!("{problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one, and says where the input is that breaks it.
fn run(context: &Context, target: &Target, seconds: u32) -> Result<Option<String>> {
    let corpus = directory(context, "corpus", target)?;
    let findings = directory(context, "findings", target)?;
    // Nothing here has unsafe code, so nothing needs the sanitizer that a stable compiler lacks.
    let mut fuzz = context.cargo(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", PACKAGE]);
    fuzz.arg("--target-dir").arg(context.target().join("fuzz"));
    fuzz.arg(target.name).arg(corpus);
    fuzz.args(target.seeds.map(|seeds| context.root.join(seeds)));
    fuzz.arg("--").arg(format!("-max_total_time={seconds}"));
    // An input of a few lines takes less than a millisecond.
    fuzz.args(["-timeout=10", "-verbosity=0", "-print_final_stats=1"]);
    fuzz.arg(format!("-artifact_prefix={}/", findings.display()));
    if let Some(dictionary) = target.dictionary {
        let path = context.root.join(dictionary);
        fuzz.arg(format!("-dict={}", path.display()));
    }
    let problem = process::passes(fuzz)?;
    Ok(problem.map(|problem| {
        let (name, findings) = (target.name, findings.display());
        format!(
            "{problem}: the input that breaks `{name}` is in {findings}, and what it breaks \
             is shown above; `cargo fuzz tmin` makes it shorter"
        )
    }))
}

/// What is kept from run to run is below the target directory: it is not part of the repository.
fn directory(context: &Context, kind: &str, target: &Target) -> Result<PathBuf> {
    let path = context
        .scratch()?
        .join(PACKAGE)
        .join(kind)
        .join(target.name);
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}
