//! A run of all measures, one after the other, each in a process of its own that is ended with all its children when
//! its time is over.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use handover_test_support::ports::BaseId;
use handover_test_support::process_tag::ProcessTag;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::facts;
use crate::figures::{FORMAT, Failure, Figure, Figures, Value};
use crate::measures::{ALL, Measure};

/// For killed processes to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// The child that every supervisor starts, as the build script has compiled it.
const CHILD: &[u8] = include_bytes!(env!("BENCH_CHILD"));

/// What is to be measured.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The binary under test.
    #[arg(long)]
    handover: PathBuf,
    /// The binary without Envoy, whose memory is measured beside that of the other.
    #[arg(long)]
    handover_exec: PathBuf,
    /// How the binaries were built, for the page.
    #[arg(long)]
    built: String,
    /// A real Envoy. Without one, what needs it is unknown.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// The file for the figures.
    #[arg(long)]
    figures: PathBuf,
    /// Few repetitions and small counts, to see that everything can be measured.
    #[arg(long)]
    quick: bool,
    /// Only these measures, with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
}

/// Measures, and writes the figures. Returns whether every measure has come to its end with a figure.
///
/// # Errors
///
/// When nothing can be measured at all, or the figures cannot be written.
pub(crate) fn measure(request: &Request) -> Result<bool> {
    for name in &request.only {
        ensure!(
            ALL.iter().any(|measure| measure.name == name),
            "there is no measure `{name}`; there are {}",
            ALL.map(|measure| measure.name).join(", ")
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    let figures = runtime.block_on(all(request))?;
    if let Some(parent) = request.figures.parent() {
        fs_err::create_dir_all(parent)?;
    }
    figures.write(&request.figures)?;
    tell(&figures);
    Ok(figures.failures.is_empty())
}

async fn all(request: &Request) -> Result<Figures> {
    let begun = Instant::now();
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let directory = tempfile::Builder::new().prefix("hb-").tempdir();
    let directory = directory.context("making a directory for the measures")?;
    let root = fs_err::canonicalize(directory.path())?;
    let child = root.join("child");
    fs_err::write(&child, CHILD)?;
    fs_err::set_permissions(&child, std::fs::Permissions::from_mode(0o755))?;
    // Here, so that their shared memory is removed also when a measure is ended.
    let base_ids = [BaseId::free(), BaseId::free()];
    // A copy, because another build may replace the binary during the run.
    let handover = root.join("handover");
    fs_err::copy(&request.handover, &handover)?;
    let handover_exec = root.join("handover-exec");
    fs_err::copy(&request.handover_exec, &handover_exec)?;
    let envoy = request.envoy.as_deref().map(found).transpose()?;
    let mut facts = facts::before(&handover, &request.built, envoy.as_deref());

    let (mut figures, mut failures) = (Vec::new(), Vec::new());
    let chosen = |measure: &&Measure| {
        request.only.is_empty() || request.only.iter().any(|name| name == measure.name)
    };
    for measure in ALL.iter().filter(chosen) {
        let own = root.join(measure.name);
        fs_err::create_dir(&own)?;
        let part = root.join(format!("{}.json", measure.name));
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command
            .args(["one", measure.name, "--handover"])
            .arg(&handover);
        command.arg("--handover-exec").arg(&handover_exec);
        command.arg("--child").arg(&child);
        command.arg("--directory").arg(&own);
        command.arg("--part").arg(&part);
        for base_id in &base_ids {
            command.args(["--base-id", &base_id.number().to_string()]);
        }
        if let Some(envoy) = &envoy {
            command.arg("--envoy").arg(envoy);
        }
        if request.quick {
            command.arg("--quick");
        }
        crate::say(&format!("measuring: {}", measure.name));
        let started = Instant::now();
        let problem = within(command, measure.limit).await?;
        let (measured, problem) = match parts(&part) {
            Ok(measured) => {
                let problem = problem.or_else(|| nothing(&measured));
                (measured, problem)
            }
            Err(error) => (Vec::new(), problem.or_else(|| Some(format!("{error:#}")))),
        };
        crate::say(&format!(
            "{}: {:.1} s",
            measure.name,
            started.elapsed().as_secs_f64()
        ));
        figures.extend(measured);
        if let Some(reason) = problem {
            crate::say(&format!("{} has failed: {reason}", measure.name));
            failures.push(Failure {
                measure: measure.name.to_owned(),
                reason,
            });
        }
    }
    facts.push(facts::load("load average after the run"));
    Ok(Figures {
        format: FORMAT,
        date,
        command: command_line(request),
        quick: request.quick,
        seconds: begun.elapsed().as_secs_f64().round(),
        facts,
        figures,
        failures,
    })
}

/// Runs a process to its end or to the limit, and ends what it leaves behind. Returns what went wrong.
///
/// # Errors
///
/// When it cannot be started, or this program was asked to end.
async fn within(mut command: Command, limit: Duration) -> Result<Option<String>> {
    let tag = ProcessTag::new();
    tag.mark(command.as_std_mut());
    command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for INT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for TERM")?;
    let mut child = command.spawn().context("starting a measure")?;
    let pipe = child.stderr.take();
    let reader = tokio::spawn(async move {
        let mut errors = String::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is worth as much.
            let _read = pipe.read_to_string(&mut errors).await;
        }
        errors
    });
    let ended = tokio::select! {
        ended = timeout(limit, child.wait()) => Some(ended),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    // What the measure has left behind may hold the pipe, so the reader ends after this.
    let left = tag.kill_all(KILL_LIMIT);
    ensure!(
        left.is_empty(),
        "processes of a measure cannot be killed: {left:?}"
    );
    let errors = timeout(KILL_LIMIT, reader).await;
    let errors = errors.context("reading what a measure has printed")??;
    // Beside the reason for a failure, it may name requests that were lost.
    let told = errors.trim();
    if !told.is_empty() {
        crate::say(told);
    }
    match ended {
        None => bail!("a signal has ended the run"),
        Some(Err(_)) => Ok(Some(format!(
            "it took more than {} s and was ended",
            limit.as_secs()
        ))),
        Some(Ok(status)) => {
            let status = status.context("waiting for a measure")?;
            let last = told.lines().last().unwrap_or("it has given no reason");
            Ok((!status.success()).then(|| last.to_owned()))
        }
    }
}

/// What the process of a measure has written, if it came that far.
fn parts(file: &Path) -> Result<Vec<Figure>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&fs_err::read_to_string(file)?).context("reading the figures of a measure")
}

/// The whole path of a program.
fn found(program: &Path) -> Result<PathBuf> {
    fs_err::canonicalize(program).context("a program under test")
}

/// A measure that ends well without a single sample has failed as well, and so has one that knows nothing of Handover.
/// What another supervisor cannot do is unknown, and fails nothing.
fn nothing(figures: &[Figure]) -> Option<String> {
    for figure in figures
        .iter()
        .filter(|figure| figure.subject.starts_with("handover"))
    {
        if let Value::Unknown(reason) = &figure.value {
            return Some(format!(
                "{} of {} is unknown: {reason}",
                figure.what, figure.subject
            ));
        }
    }
    let has_samples =
        |figure: &Figure| matches!(&figure.value, Value::Samples(samples) if !samples.is_empty());
    (!figures.iter().any(has_samples)).then(|| "it has measured nothing".to_owned())
}

/// A program that cargo has put beside this one.
///
/// # Errors
///
/// When it is not there.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let program = own.with_file_name(name);
    ensure!(
        program.is_file(),
        "{} is not there: build it with `cargo build --package handover-bench`",
        program.display()
    );
    Ok(program)
}

fn command_line(request: &Request) -> String {
    let mut command = "cargo xtask bench".to_owned();
    if request.quick {
        command.push_str(" --quick");
    }
    if !request.only.is_empty() {
        command.push_str(" --only ");
        command.push_str(&request.only.join(","));
    }
    command
}

/// Prints what is unknown, each reason once, and what has failed.
fn tell(figures: &Figures) {
    let mut reasons = Vec::new();
    for figure in &figures.figures {
        if let Value::Unknown(reason) = &figure.value {
            let line = format!(
                "unknown: {} of {}: {reason}",
                figure.measure, figure.subject
            );
            if !reasons.contains(&line) {
                reasons.push(line);
            }
        }
    }
    for line in &reasons {
        crate::print(line);
    }
    for failure in &figures.failures {
        crate::print(&format!("FAILED: {}: {}", failure.measure, failure.reason));
    }
    let count = figures.figures.len();
    crate::print(&format!("{count} figures in {} s", figures.seconds));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_measure_that_fails_gives_its_last_line() {
        let limit = Duration::from_secs(30);
        assert_eq!(within(shell("exit 0"), limit).await.unwrap(), None);
        let problem = within(shell("echo one >&2; echo two >&2; exit 1"), limit).await;
        assert_eq!(problem.unwrap().as_deref(), Some("two"));
    }

    /// A reader that waited for the end of the pipe would wait for as long as the last process that holds it.
    #[tokio::test]
    async fn a_process_that_a_measure_leaves_behind_is_ended_and_delays_nothing() {
        let begun = Instant::now();
        let script = "setsid sleep 1000 & echo reason >&2; exit 1";
        let problem = within(shell(script), Duration::from_secs(600))
            .await
            .unwrap();
        assert_eq!(problem.as_deref(), Some("reason"));
        assert!(begun.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn figures_that_cannot_be_read_are_an_error_and_missing_ones_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("part.json");
        assert_eq!(parts(&file).unwrap(), []);
        fs_err::write(&file, "[{\"measure\":").unwrap();
        assert!(parts(&file).is_err());
    }

    #[tokio::test]
    async fn a_measure_that_takes_too_long_is_ended_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!(
            "setsid sleep 1000 & echo $! > {}; sleep 1000",
            file.display()
        );
        let problem = within(shell(&script), Duration::from_secs(1))
            .await
            .unwrap();
        assert_eq!(
            problem.as_deref(),
            Some("it took more than 1 s and was ended")
        );
        let pid = fs_err::read_to_string(file).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
        // What nobody has collected yet is a zombie.
        assert!(status.is_err() || status.is_ok_and(|status| status.contains("zombie")));
    }

    #[test]
    fn figures_without_a_sample_are_none() {
        let mut figure = Figure {
            measure: "latency".to_owned(),
            what: "start".to_owned(),
            subject: "runit".to_owned(),
            unit: crate::figures::Unit::Milliseconds,
            value: Value::Unknown("it is not installed".to_owned()),
        };
        let of_runit = figure.clone();
        assert!(nothing(std::slice::from_ref(&of_runit)).is_some());
        figure.value = Value::Samples(vec![1.0]);
        assert!(nothing(&[of_runit.clone(), figure]).is_none());
        let of_handover = Figure {
            subject: "handover exec".to_owned(),
            ..of_runit
        };
        assert_eq!(
            nothing(&[of_handover]).as_deref(),
            Some("start of handover exec is unknown: it is not installed")
        );
    }
}
