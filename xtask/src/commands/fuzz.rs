//! `fuzz`: runs each fuzz target of `fuzz/` for a while. A target starts from the folder `fuzz/seeds/NAME`, and
//! takes the words of `fuzz/NAME.dict`, where those are there.

use anyhow::{Result, bail};
use toml::{Table, Value};

use crate::context::Context;
use crate::process;

/// The package, which is a workspace of its own.
const PACKAGE: &str = "fuzz";

/// Runs all targets, so many seconds each, also after one has found something.
pub(super) fn command(seconds: u32) -> Result<bool> {
    let context = Context::new()?;
    if !context.has_subcommand("fuzz") {
        bail!("cargo-fuzz is not installed: `cargo install cargo-fuzz --locked` does it");
    }
    let manifest: Table = context.toml(&format!("{PACKAGE}/Cargo.toml"))?;
    let targets = manifest.get("bin").and_then(Value::as_array);
    let targets = targets.into_iter().flatten();
    let mut problems = Vec::new();
    for target in targets.filter_map(|target| target.get("name")?.as_str()) {
        println!("{target}: {seconds} s");
        problems.extend(run(&context, target, seconds)?);
    }
    for problem in &problems {
        println!("{problem}");
    }
    Ok(problems.is_empty())
}

/// Runs a target, and names the folder of the input that breaks it.
fn run(context: &Context, target: &str, seconds: u32) -> Result<Option<String>> {
    // What is kept from run to run is below the target directory: it is not part of the repository.
    let kept = context.scratch()?.join(PACKAGE);
    let [corpus, findings] = ["corpus", "findings"].map(|kind| kept.join(kind).join(target));
    for path in [&corpus, &findings] {
        fs_err::create_dir_all(path)?;
    }
    let folder = context.root.join(PACKAGE);
    let seeds = folder.join("seeds").join(target);
    let dictionary = folder.join(format!("{target}.dict"));
    // Nothing here has unsafe code, so nothing needs the sanitizer that a stable compiler lacks.
    let mut fuzz = context.cargo(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", PACKAGE]);
    fuzz.arg("--target-dir").arg(context.target().join("fuzz"));
    fuzz.arg(target).arg(corpus);
    fuzz.args(seeds.is_dir().then_some(seeds));
    fuzz.arg("--").arg(format!("-max_total_time={seconds}"));
    // An input of a few lines takes less than a millisecond.
    fuzz.args(["-timeout=10", "-verbosity=0", "-print_final_stats=1"]);
    fuzz.arg(format!("-artifact_prefix={}/", findings.display()));
    if dictionary.is_file() {
        fuzz.arg(format!("-dict={}", dictionary.display()));
    }
    let problem = process::passes(fuzz)?;
    Ok(problem.map(|problem| {
        let findings = findings.display();
        format!(
            "{problem}: the input that breaks `{target}` is in {findings}, and what it breaks \
             is shown above; `cargo fuzz tmin` makes it shorter"
        )
    }))
}
