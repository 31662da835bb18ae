//! `handover report`: what explains an incident, in one archive.

pub(super) mod archive;
pub(super) mod process;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use handover_files::below;
use handover_supervisor::control::wire::{self, Status};
use handover_supervisor::control::{Answered, Client};
use handover_supervisor::events::{KEPT_EVENTS, OLD_EVENTS};
use handover_supervisor::recorder::{LAST_LINES, Note, OLD_LINES, Record, Recording};
use serde_json::{Value, json};

use super::control::socket_of;
use super::print;
use crate::cli::report::ReportArgs;
use crate::escape::escaped;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use archive::{Archive, small_file};
use process::Process;

/// How many crash reports are packed.
const CRASHES: usize = 10;

pub(super) async fn run(args: &ReportArgs) -> Result<ExitCode, Fatal> {
    let mut parts = Parts::default();
    let asked = ask(args).await;
    let process = match &asked {
        Ok((status, body)) => {
            parts.add("status.json", body.clone());
            let process = Process::of(status.pid);
            parts.note_missing("the arguments of the process", &process);
            process.ok()
        }
        Err(reason) => {
            parts.missing(format!("the instance was not asked: {reason}"));
            None
        }
    };
    let from_process = || process.as_ref().and_then(Process::state_dir);
    let state_dir = args.state_dir.clone().or_else(from_process);
    if asked.is_err() && state_dir.is_none() {
        let reason = asked.err().unwrap_or_default();
        return Err(Fatal::new(
            ExitCode::UNAVAILABLE,
            anyhow::anyhow!(
                "{reason}; name the state directory of one that has ended with --state-dir"
            ),
        ));
    }
    match &process {
        Some(process) => match process.doctor().await {
            Ok(found) => parts.add("doctor.json", found),
            Err(reason) => parts.missing(format!("`handover doctor` was not asked: {reason}")),
        },
        None => parts.missing("`handover doctor` was not asked: no instance runs".to_owned()),
    }
    let mut arguments = process.as_ref().map(Process::arguments);
    match &state_dir {
        Some(dir) => {
            let begun = parts.add_state(dir);
            arguments = arguments.or(begun);
        }
        None => {
            parts.missing("the instance has no state directory, so nothing is recorded".to_owned());
        }
    }
    let status = asked.as_ref().ok().map(|(status, _)| status);
    let runs_envoy = process.as_ref().is_some_and(Process::runs_envoy);
    let proxies = match status {
        Some(status) => process::proxies(status, runs_envoy).await,
        None => Vec::new(),
    };
    let summary = json!({
        "made": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "handover": env!("CARGO_PKG_VERSION"),
        "instance": status.map(|status| json!({
            "name": status.name,
            "pid": status.pid,
            "handover": status.version,
        })),
        "proxies": proxies,
        "kernel": kernel(),
        "state_dir": state_dir,
        "arguments": arguments,
        "missing": parts.missing,
    });
    let output = args.output.clone().unwrap_or_else(default_name);
    let missing = parts.missing.clone();
    parts.write(&output, args.force, &summary)?;
    for missing in missing {
        print(escaped(&format!("missing: {missing}"), &[]))?;
    }
    print(escaped(&format!("wrote {}", output.display()), &[]))?;
    Ok(ExitCode::CLEAN)
}

/// The status of the instance, read and as it came.
async fn ask(args: &ReportArgs) -> Result<(Status, Vec<u8>), String> {
    let socket = socket_of(&args.target).map_err(|error| error.to_string())?;
    let answered = Client::new(&socket).get(wire::STATUS).await;
    let chain = |error: &dyn std::error::Error| handover_tokio::error_chain(error);
    match answered.map_err(|error| chain(&error))? {
        Answered::Done(body) => {
            let status = serde_json::from_slice(&body).map_err(|error| chain(&error))?;
            Ok((status, body.to_vec()))
        }
        Answered::Refused(refusal) => Err(refusal.message),
    }
}

fn kernel() -> Value {
    let system = rustix::system::uname();
    json!({
        "system": system.sysname().to_string_lossy(),
        "release": system.release().to_string_lossy(),
        "version": system.version().to_string_lossy(),
        "machine": system.machine().to_string_lossy(),
    })
}

fn default_name() -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    // Some file systems have no colons in their names.
    PathBuf::from(format!("handover-report-{}.tar.gz", now.replace(':', "")))
}

/// What is packed.
#[derive(Default)]
struct Parts {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
}

impl Parts {
    fn add(&mut self, name: &str, content: Vec<u8>) {
        self.files.push((name.to_owned(), content));
    }

    fn missing(&mut self, what: String) {
        self.missing.push(what);
    }

    fn note_missing<T>(&mut self, what: &str, found: &Result<T, String>) {
        if let Err(reason) = found {
            self.missing(format!("{what}: {reason}"));
        }
    }

    /// Adds what a state directory has, but no configuration. Returns the arguments that the recording knows.
    fn add_state(&mut self, dir: &Path) -> Option<Value> {
        let mut arguments = None;
        let recorded = Recording::files_in(dir);
        if recorded.is_empty() {
            self.missing(format!("there is no recording in {}", dir.display()));
        }
        for path in recorded {
            let read = self.add_file("", &path);
            let mut recording = Recording::default();
            if let Some(content) = read.filter(|content| recording.add(&path, content).is_ok()) {
                drop(content);
                arguments = begun(&recording).or(arguments);
            }
        }
        for dir in [dir.to_owned(), below(dir)] {
            let texts = [OLD_LINES, LAST_LINES, OLD_EVENTS, KEPT_EVENTS];
            for name in texts.map(|name| dir.join(name)) {
                if name.is_file() {
                    self.add_file("", &name);
                }
            }
            for path in crashes(&dir) {
                self.add_file("crashes/", &path);
            }
        }
        arguments
    }

    fn add_file(&mut self, folder: &str, path: &Path) -> Option<Vec<u8>> {
        let name = path.file_name()?.to_string_lossy();
        let content = small_file(path);
        self.note_missing(&path.display().to_string(), &content);
        let content = content.ok()?;
        self.files
            .push((format!("{folder}{name}"), content.clone()));
        Some(content)
    }

    fn write(self, path: &Path, replace: bool, summary: &Value) -> Result<(), Fatal> {
        let mut archive = Archive::create(path, replace).or_exit(ExitCode::OS)?;
        let summary = format!("{summary:#}\n");
        let files = [("report.json".to_owned(), summary.into_bytes())];
        for (name, content) in files.into_iter().chain(self.files) {
            archive.add(&name, &content).or_exit(ExitCode::OS)?;
        }
        archive.finish().or_exit(ExitCode::OS)
    }
}

/// What the last run said of itself.
fn begun(recording: &Recording) -> Option<Value> {
    let records = recording.parts.iter().flat_map(|part| &part.records);
    let mut begins = records.rev().filter_map(|record| match record {
        Some(Record::Note(Note::Begin(begin))) => Some(begin.about.get("arguments")?.clone()),
        _ => None,
    });
    begins.next()
}

/// The newest crash reports in a directory, oldest first.
fn crashes(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("crash-") && name.ends_with(".json")
    };
    let mut crashes: Vec<_> = entries.map(|entry| entry.path()).filter(is_one).collect();
    // Their names begin with the time.
    crashes.sort_unstable();
    let older = crashes.len().saturating_sub(CRASHES);
    crashes.split_off(older)
}
