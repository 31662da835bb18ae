//! Shell scripts in namespaces of their own, in which a package or an image is tried.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::context::Context;
use crate::process;

/// Namespaces that end, with all mounts and processes, when their first process ends.
const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--ipc", "--fork", "--kill-child"];

/// How long one script may take. It is reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(120);

/// Before each script: a directory in memory, `$WORK`, that ends with the namespaces.
const PRELUDE: &str = r#"
set -eu
mount -t tmpfs -o mode=0755 tmpfs "$WORK"
"#;

/// The mounts that trials make: a copy of the machine's file system, in which whatever is written is lost.
pub(super) const COPY_OF_THE_MACHINE: &str = r#"
mkdir "$WORK/upper" "$WORK/scratch" "$WORK/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/upper,workdir=$WORK/scratch" "$WORK/merged"
mount -t tmpfs tmpfs "$WORK/merged/run"
mount -t proc proc "$WORK/merged/proc"
"#;

/// A place for trials, or the reason why there is none.
pub(super) struct Sandbox<'a> {
    context: &'a Context,
    work: TempDir,
}

impl<'a> Sandbox<'a> {
    /// Tries whether this machine allows what the trials need.
    ///
    /// # Errors
    ///
    /// When no directory can be made. A machine that allows no namespaces is the inner error, with the reason.
    pub(super) fn open(context: &'a Context) -> Result<Result<Self, String>> {
        let work = tempfile::Builder::new()
            .prefix("try-")
            .tempdir_in(context.temp())
            .context("making a directory for trials")?;
        let sandbox = Self { context, work };
        if !rustix::process::geteuid().is_root() {
            return Ok(Err("it needs the rights of root".to_owned()));
        }
        let probe = format!("{COPY_OF_THE_MACHINE}\nchroot \"$WORK/merged\" true");
        let probed = sandbox.command(&probe).stdout(Stdio::null()).output();
        Ok(match probed {
            Err(error) => Err(format!("`unshare` cannot be started: {error}")),
            Ok(output) if !output.status.success() => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().next().unwrap_or("without a message");
                Err(format!(
                    "this machine allows no namespaces with mounts: {said}"
                ))
            }
            Ok(_) => Ok(sandbox),
        })
    }

    /// Runs a script in new namespaces. `$WORK` is an empty directory there, and `variables` are set. Returns
    /// what the script has printed, and the problem with its end.
    ///
    /// # Errors
    ///
    /// When `unshare` cannot be started.
    pub(super) fn run(
        &self,
        name: &str,
        script: &str,
        variables: &[(&str, &Path)],
    ) -> Result<(Option<String>, String)> {
        let log = self.context.scratch()?.join(format!("{name}.txt"));
        let mut command = self.command(script);
        command.envs(variables.iter().copied());
        let (problem, said) = process::logged_within(&self.context.run_id, command, &log, LIMIT)?;
        let problem = problem.map(|problem| {
            let end = problem.rsplit(" ended with ").next().unwrap_or(&problem);
            format!("trying {name} ended with {end}; its output is above")
        });
        Ok((problem, said))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = self.context.command("unshare");
        command
            .args(NAMESPACES)
            .args(["--", "sh", "-c", &format!("{PRELUDE}{script}")])
            .env("WORK", self.work.path())
            .env("LC_ALL", "C.UTF-8");
        command
    }
}
