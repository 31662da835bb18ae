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
    /// Returns a user that can run `program`. Reports a skip of `test` and returns `None` if this process is not
    /// root, or another user cannot reach the program.
    #[must_use]
    pub fn new(test: &str, program: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            report_skip(test, "only root can become another user");
            return None;
        }
        let user = 2_000_000 + std::process::id();
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        let flags = ids.into_iter().chain(["--clear-groups".to_owned()]);
        let flags = flags.collect();
        let stranger = Self { user, flags };
        let tried = stranger.run([program, Path::new("--version")]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            report_skip(test, "another user cannot run the program");
            return None;
        }
        Some(stranger)
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
