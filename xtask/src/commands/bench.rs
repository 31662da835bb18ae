//! `bench`: measures. The measuring is done by the member `handover-bench`; here its programs are built and run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::envoy;
use crate::checks::Findings;
use crate::checks::leftovers;
use crate::context::Context;
use crate::packages::Variant;
use crate::packages::binary::{has_std, static_triple};
use crate::process;

/// The member that measures, and its program.
const BENCH: &str = "handover-bench";

/// How long a run may take. Each measure has a limit of its own; this one is for a run that hangs nevertheless.
const LIMIT: Duration = Duration::from_secs(35 * 60);
const QUICK_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A step of the state machine, and a million hand-overs on one machine.
pub(super) fn core() -> Result<bool> {
    let context = Context::new()?;
    process::all_pass([
        context.cargo_words("bench --package handover-core --bench step"),
        context.cargo_words("run --release --package handover-core --example million"),
    ])
}

/// Measures, and writes the page after a full run. Returns whether every measure has come to its end.
///
/// # Errors
///
/// When something cannot be built or started.
pub(super) fn command(quick: bool, only: &[String], binary: Option<PathBuf>) -> Result<bool> {
    let context = Context::new()?;
    let is_whole = !quick && only.is_empty() && binary.is_none();
    let mut run = if quick {
        quick_run(&context, binary)?
    } else {
        full_run(&context, binary)?
    };
    if !only.is_empty() {
        run.command.arg("--only").arg(only.join(","));
    }
    let mut problems = run.problems(&context)?;
    if is_whole && problems.is_empty() {
        problems.extend(make_page(
            &context,
            &run.bench,
            &run.figures,
            Path::new("docs"),
        )?);
    }
    problems.extend(leftovers::check(&context)?.problems);
    for problem in &problems {
        println!("- {problem}");
    }
    println!("the figures are in {}", context.relative(&run.figures));
    Ok(problems.is_empty())
}

/// Makes the page again from the figures beside it.
///
/// # Errors
///
/// When the program cannot be built or started.
pub(super) fn page() -> Result<bool> {
    let context = Context::new()?;
    let bench = context.build(BENCH, &[])?;
    let figures = context.root.join("docs/performance/figures.json");
    let problem = make_page(&context, &bench, &figures, Path::new("docs"))?;
    if let Some(problem) = &problem {
        println!("- {problem}");
    }
    Ok(problem.is_none())
}

/// Everything can be measured. No time is judged.
pub(crate) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut run = quick_run(context, None)?;
    findings.problems.extend(run.problems(context)?);
    let out = directory(context);
    let problem = make_page(context, &run.bench, &run.figures, &out)?;
    findings.problems.extend(problem);
    Ok(findings)
}

/// The binaries that are measured.
struct Binaries {
    whole: PathBuf,
    /// The one without Envoy.
    exec: PathBuf,
    /// How they were built, for the page.
    built: String,
}

impl Binaries {
    /// One binary in the place of both.
    fn of_one(binary: PathBuf, built: &str) -> Self {
        Self {
            exec: binary.clone(),
            whole: binary,
            built: built.to_owned(),
        }
    }
}

/// A run of the program that measures.
struct Run {
    bench: PathBuf,
    command: Command,
    figures: PathBuf,
    limit: Duration,
}

impl Run {
    fn new(context: &Context, bench: PathBuf, binaries: &Binaries) -> Result<Self> {
        let figures = directory(context).join("figures.json");
        if figures.exists() {
            // Those of an earlier run must not pass for those of one that fails early.
            fs_err::remove_file(&figures)?;
        }
        let mut command = context.command(&bench);
        command.arg("measure").env("TMPDIR", context.temp());
        command.arg("--handover").arg(&binaries.whole);
        command.arg("--handover-exec").arg(&binaries.exec);
        command.arg("--built").arg(&binaries.built);
        command.arg("--figures").arg(&figures);
        let envoy = envoy::install(context.target(), envoy::DEFAULT_VERSION)?;
        command.arg("--envoy").arg(envoy);
        Ok(Self {
            bench,
            command,
            figures,
            limit: LIMIT,
        })
    }

    /// Runs it to its end, and returns what went wrong with that.
    fn problems(&mut self, context: &Context) -> Result<Vec<String>> {
        let empty = Command::new(&self.bench);
        let command = std::mem::replace(&mut self.command, empty);
        let problem = process::passes_within(&context.run_id, command, self.limit)?;
        Ok(problem.into_iter().collect())
    }
}

/// A run with the binary as it is released, if this toolchain can build it.
fn full_run(context: &Context, binary: Option<PathBuf>) -> Result<Run> {
    let bench = context.build(BENCH, &["--release"])?;
    let binaries = match binary {
        Some(binary) => Binaries::of_one(binary, "named by --binary"),
        None => released(context)?,
    };
    Run::new(context, bench, &binaries)
}

/// A run with the binary that the tests use.
fn quick_run(context: &Context, binary: Option<PathBuf>) -> Result<Run> {
    let bench = context.build(BENCH, &[])?;
    let binaries = match binary {
        Some(binary) => Binaries::of_one(binary, "named by --binary"),
        None => Binaries::of_one(context.handover()?.to_owned(), "profile dev"),
    };
    let mut run = Run::new(context, bench, &binaries)?;
    run.command.arg("--quick");
    run.limit = QUICK_LIMIT;
    Ok(run)
}

/// Both binaries as they are released, static if this toolchain can do that.
fn released(context: &Context) -> Result<Binaries> {
    let triple = static_triple();
    let mut flags = vec!["--profile", "dist"];
    let built = if has_std(context, &triple) {
        flags.extend(["--target", &triple]);
        format!("profile dist, static, for {triple}")
    } else {
        println!(
            "`rustup target add {triple}` was not run, so the binary is not static as the released one is"
        );
        "profile dist, linked dynamically".to_owned()
    };
    let build = |variant: Variant| {
        let flags = [&flags, variant.features()].concat();
        context.build("handover", &flags)
    };
    // The next build would replace it.
    let exec = context.scratch()?.join("handover-exec");
    fs_err::copy(build(Variant::Exec)?, &exec)?;
    Ok(Binaries {
        whole: build(Variant::Whole)?,
        exec,
        built,
    })
}

/// Where figures are written.
fn directory(context: &Context) -> PathBuf {
    context.target().join("bench")
}

fn make_page(
    context: &Context,
    bench: &Path,
    figures: &Path,
    out: &Path,
) -> Result<Option<String>> {
    let mut page = context.command(bench);
    page.arg("page").arg("--figures").arg(figures);
    page.arg("--out").arg(out);
    process::passes(page)
}
