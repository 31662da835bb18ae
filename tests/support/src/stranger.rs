//! A user without privileges, whose processes no other program counts. Root has no limit of processes.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::envoy_bin::report_skip;

/// A user that no other program on this machine has.
#[derive(Debug)]
pub struct Stranger {
    /// The number of the user and of its group.
    pub user: u32,
    flags: Vec<String>,
}

impl Stranger {
    /// Returns a user that can run these programs. Reports a skip of `test` and returns `None` if this process is
    /// not root, or another user cannot reach one of them.
    #[must_use]
    pub fn new(test: &str, programs: &[&Path]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            report_skip(test, "only root can become another user");
            return None;
        }
        let user = 2_000_000 + std::process::id();
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        let flags = ids.into_iter().chain(["--clear-groups".to_owned()]);
        let flags = flags.collect();
        let stranger = Self { user, flags };
        may_run(test, &stranger.flags(), programs).then_some(stranger)
    }

    /// Returns the flags of `setpriv` with which a program runs as this user.
    #[must_use]
    pub fn flags(&self) -> Vec<&str> {
        self.flags.iter().map(String::as_str).collect()
    }

    /// Returns the command that runs a program as this user, with its arguments after it.
    pub fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(&self.flags).args(words);
        command.env("HANDOVER_SOCKET", "none");
        command
    }

    /// Returns the processes of this user, those included that have ended and were collected by nobody.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let is_its_own = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            let status = status.unwrap_or_default();
            let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            let user = users.and_then(|users| users.split_whitespace().next());
            user == Some(&self.user.to_string())
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_its_own).collect()
    }

    /// Sets a limit of one of this user's processes, in the words of `prlimit`.
    ///
    /// # Panics
    ///
    /// When it cannot be set.
    #[track_caller]
    pub fn limit(&self, pid: u32, words: &str) {
        let pid = pid.to_string();
        let status = self.run(["prlimit", "--pid", &pid, words]).status();
        assert!(status.is_ok_and(|status| status.success()), "{words}");
    }
}

/// Returns whether each of these programs can be run as the user that `setpriv` becomes with these flags. Reports
/// a skip of `test` if not: the directory of the build may be closed to others.
#[must_use]
pub fn may_run(test: &str, flags: &[&str], programs: &[&Path]) -> bool {
    let may = |program: &&Path| {
        // The rights of root go with the first program that is executed, which is the shell.
        let shell = ["sh", "-c", "exec \"$0\" --version"];
        let mut command = Command::new("setpriv");
        let command = command.args(flags).args(shell).arg(program);
        command.output().is_ok_and(|output| output.status.success())
    };
    let closed = programs.iter().find(|program| !may(program));
    if let Some(program) = closed {
        let why = format!("another user cannot run {}", program.display());
        report_skip(test, &why);
    }
    closed.is_none()
}
