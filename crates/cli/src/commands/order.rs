//! What the start waits for, and what else ends an instance, from the flags.

use anyhow::Context as _;
use handover_process::WatchProcessError;
use handover_supervisor::{AwaitedFiles, Job, JobError};
use handover_watch::Rescan;

use crate::cli::order::OrderArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::supervised::Builder;

/// What the start waits for, and the job of the instance.
pub(super) struct Order {
    awaited: AwaitedFiles,
    job: Job,
}

impl Order {
    /// Begins to watch. Files are checked as `rescan` says where the system reports no change.
    ///
    /// # Errors
    ///
    /// When there is no such process, or the file of the end is there already.
    pub(super) fn open(args: &OrderArgs, rescan: Rescan) -> Result<Self, Fatal> {
        let mut job = Job::default();
        if let Some(pid) = args.exit_with_pid {
            let opened = job.with_process(pid);
            job = opened.map_err(|error| refused(error, "--exit-with-pid"))?;
            tracing::info!(pid, "ends when process {pid}{} ends", name_of(pid));
        }
        if let Some(path) = &args.exit_with_file {
            let opened = job.with_file(path, rescan);
            job = opened.map_err(|error| refused(error, "--exit-with-file"))?;
        }
        let limit = args.wait_for_file_timeout.0;
        let awaited = AwaitedFiles::watch(&args.wait_for_file, limit, rescan);
        Ok(Self {
            awaited: awaited.context("--wait-for-file").or_exit(ExitCode::OS)?,
            job,
        })
    }

    /// Lets a supervisor start and end so.
    pub(super) fn of(self, supervisor: Builder) -> Builder {
        supervisor.await_files(self.awaited).job(self.job)
    }
}

fn refused(error: JobError, flag: &'static str) -> Fatal {
    let code = match &error {
        JobError::Process(WatchProcessError::Refused { .. })
        | JobError::FileNotSeen(_)
        | JobError::Watch(_) => ExitCode::OS,
        JobError::Process(_) | JobError::FileIsThere(_) | _ => ExitCode::USAGE,
    };
    Fatal::new(code, anyhow::Error::new(error).context(flag))
}

/// What a process is called, for people: a number alone may have been taken by another one.
fn name_of(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.map_or_else(
        |_| String::new(),
        |name| format!(" (`{}`)", crate::escape::escaped(name.trim_end(), &[])),
    )
}
