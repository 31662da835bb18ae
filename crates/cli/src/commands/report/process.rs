//! The process of a running instance: its command line, its environment and its working directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_process::{Command, ExitCause, Line, Stream};
use handover_runtime::time_limit::timeout;
use handover_supervisor::control::wire::Status;
use serde_json::{Value, json};

use super::archive::small_file;
use crate::cli::absent;
use crate::cli::arguments::{self, described};
use crate::cli::settings;
use crate::supervise::prepare_threads;

/// How long `handover doctor` may take.
const DOCTOR: Duration = Duration::from_secs(60);
/// How much it may say, in bytes.
const MOST_FOUND: usize = 4 << 20;

/// What the kernel knows of the process of an instance.
pub(in crate::commands) struct Process {
    words: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Process {
    /// Reads what the kernel knows.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, for example because the process is another user's.
    pub(in crate::commands) fn of(pid: u32) -> Result<Self, String> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let list = |name: &str| -> Result<Vec<OsString>, String> {
            let content = small_file(&dir.join(name))?;
            let content = content.strip_suffix(b"\0").unwrap_or(&content);
            let words = content.split(|byte| *byte == 0);
            Ok(words
                .map(|word| OsString::from_vec(word.to_vec()))
                .collect())
        };
        let variable = |text: OsString| {
            let bytes = text.as_bytes();
            let at = bytes.iter().position(|byte| *byte == b'=')?;
            let (name, value) = bytes.split_at(at);
            let value = value.strip_prefix(b"=")?;
            Some((
                OsStr::from_bytes(name).to_owned(),
                OsStr::from_bytes(value).to_owned(),
            ))
        };
        let directory = std::fs::read_link(dir.join("cwd"));
        Ok(Self {
            words: list("cmdline")?,
            variables: list("environ")?.into_iter().filter_map(variable).collect(),
            directory: directory.map_err(|error| error.to_string())?,
        })
    }

    /// The words of its command line, without what could be a secret.
    pub(super) fn arguments(&self) -> Value {
        let described = described(&self.words);
        serde_json::to_value(described).unwrap_or_default()
    }

    /// Its state directory, from a flag, a variable or its settings file.
    pub(in crate::commands) fn state_dir(&self) -> Option<PathBuf> {
        let dir = self.path("state_dir", "HANDOVER_STATE_DIR").or_else(|| {
            let file = self.path("settings", "HANDOVER_SETTINGS")?;
            settings::state_dir(&self.directory.join(file))
        })?;
        Some(self.directory.join(dir))
    }

    /// A path that a flag or its variable names.
    fn path(&self, id: &str, variable: &str) -> Option<PathBuf> {
        arguments::path(&self.words, id).or_else(|| {
            let mut variables = self.variables.iter();
            let (_, path) = variables.find(|(name, _)| name == variable)?;
            (!path.is_empty()).then(|| PathBuf::from(path))
        })
    }

    /// Whether it is `handover run`.
    pub(super) fn runs_envoy(&self) -> bool {
        self.words.get(1).is_some_and(|command| command == "run")
    }

    /// Returns what `handover doctor` finds with the flags, the variables and the working directory of the
    /// instance, as JSON.
    ///
    /// # Errors
    ///
    /// Why it finds nothing.
    pub(super) async fn doctor(&self) -> Result<Vec<u8>, String> {
        if !self.runs_envoy() {
            return Err("it examines `handover run` only".to_owned());
        }
        if let Some(why) = absent::command("doctor") {
            return Err(why);
        }
        prepare_threads().map_err(|error| error.to_string())?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let found = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&found);
        let mut command = Command::new(program)
            .args(["doctor", "--json", "--all"])
            .args(self.words.iter().skip(2))
            .env_clear()
            .current_dir(&self.directory)
            .output(move |line: &Line<'_>| {
                let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
                if line.stream == Stream::Stdout && found.len() < MOST_FOUND {
                    found.extend_from_slice(line.bytes);
                    found.extend((!line.continues).then_some(b'\n'));
                }
            });
        for (name, value) in &self.variables {
            command = command.env(name, value);
        }
        let child = command
            .spawn()
            .await
            .map_err(|error| handover_tokio::error_chain(&error))?;
        let Ok(ended) = timeout(DOCTOR, child.wait()).await else {
            // What it has found so far is of no use.
            let _killed = child.kill().await;
            return Err(format!("it took longer than {DOCTOR:?}"));
        };
        // 1 and 2 are findings.
        let ended = ended.map_err(|error| error.to_string())?;
        if !matches!(ended, ExitCause::Code(0..=2)) {
            return Err(format!("it ended with {ended}"));
        }
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        match serde_json::from_slice::<Value>(&found) {
            Ok(_) => Ok(found),
            Err(error) => Err(format!("its answer is no JSON: {error}")),
        }
    }
}

/// The binary of each epoch, and the version of Envoy's. A program of another kind is not started to ask it, nor
/// one that another user chooses by what its process executes.
pub(super) async fn proxies(status: &Status, is_envoy: bool) -> Vec<Value> {
    let mut proxies = Vec::new();
    for epoch in &status.epochs {
        let binary = epoch
            .pid
            .map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")));
        let binary = binary.and_then(Result::ok);
        let is_ours = epoch.pid.is_some_and(is_of_own_user);
        let version = match &binary {
            Some(binary) if is_envoy && is_ours => version_of_envoy(binary).await,
            Some(_) | None => None,
        };
        proxies.push(json!({
            "epoch": epoch.epoch,
            "pid": epoch.pid,
            "binary": binary,
            "version": version,
        }));
    }
    proxies
}

#[cfg(feature = "envoy")]
async fn version_of_envoy(binary: &Path) -> Option<String> {
    let version = handover_envoy::version::version(binary).await;
    version.ok().map(|version| version.text)
}

/// Nothing here knows how to ask an Envoy, so its version is unknown.
#[cfg(not(feature = "envoy"))]
async fn version_of_envoy(_binary: &Path) -> Option<String> {
    None
}

fn is_of_own_user(pid: u32) -> bool {
    let user = std::fs::metadata(format!("/proc/{pid}")).map(|it| it.uid());
    user.is_ok_and(|user| user == rustix::process::geteuid().as_raw())
}
