//! How a program is started, watched and, when its time is up, ended.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::context::RUN_VARIABLE;

/// Runs a program with its output going straight through. Returns the problem with its end, if any.
///
/// # Errors
///
/// When the program cannot be started.
pub(crate) fn passes(mut command: Command) -> Result<Option<String>> {
    let what = describe(&command);
    let status = command
        .status()
        .with_context(|| format!("starting `{what}`"))?;
    Ok((!status.success()).then(|| format!("`{what}` ended with {status}")))
}

/// Runs programs one after the other, until one does not succeed. Returns whether all did, and prints the
/// problem.
///
/// # Errors
///
/// When a program cannot be started.
pub(crate) fn all_pass(commands: impl IntoIterator<Item = Command>) -> Result<bool> {
    for command in commands {
        if let Some(problem) = passes(command)? {
            eprintln!("{problem}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs a program as [`passes`], and ends every process that carries the mark of this run when `limit` is over.
///
/// # Errors
///
/// When the program cannot be started.
pub(crate) fn passes_within(
    run_id: &str,
    command: Command,
    limit: Duration,
) -> Result<Option<String>> {
    let what = describe(&command);
    let (ended, end) = channel::<()>();
    thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let is_over = end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if is_over {
                end_all(run_id);
            }
            is_over
        });
        let problem = passes(command);
        drop(ended);
        if watchdog.join().unwrap_or(false) {
            let seconds = limit.as_secs();
            return Ok(Some(format!(
                "`{what}` ran for more than {seconds} s and was ended"
            )));
        }
        problem
    })
}

/// Runs a program as [`passes_within`], and returns also what it wrote to standard output, which is printed.
///
/// # Errors
///
/// When the program cannot be started, or its output cannot be kept in the file `log`.
pub(crate) fn logged_within(
    run_id: &str,
    mut command: Command,
    log: &Path,
    limit: Duration,
) -> Result<(Option<String>, String)> {
    let (file, _) = fs_err::File::create(log)?.into_parts();
    command.stdout(file);
    let problem = passes_within(run_id, command, limit)?;
    let output = String::from_utf8_lossy(&fs_err::read(log)?).into_owned();
    print!("{output}");
    Ok((problem, output))
}

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
///
/// When the program cannot be started or does not succeed; the message has its standard error.
pub(crate) fn capture(mut command: Command) -> Result<String> {
    let what = describe(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting `{what}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{what}` ended with {}: {}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{what}` wrote something that is not text"))
}

/// The processes that carry this run's mark, or all others.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub(crate) fn all(run_id: &str, marked: bool) -> Result<Vec<Process>> {
    let all = procfs::process::all_processes().context("listing all processes")?;
    let all = all.filter_map(std::result::Result::ok);
    Ok(all
        .filter(|process| is_marked(process, run_id) == marked)
        .collect())
}

/// Ends every process that carries this run's mark, whatever became of its parent.
pub(crate) fn end_all(run_id: &str) {
    for process in all(run_id, true).into_iter().flatten() {
        // The descriptor pins the process, and the mark is read again after that: a number that went to
        // another process meanwhile is not hit.
        if let Some(pid) = Pid::from_raw(process.pid())
            && let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty())
            && is_marked(&process, run_id)
        {
            // One that has ended by itself by now is what was wanted.
            let _: rustix::io::Result<()> = pidfd_send_signal(&descriptor, Signal::KILL);
        }
    }
}

fn is_marked(process: &Process, run_id: &str) -> bool {
    let environment = process.environ().unwrap_or_default();
    environment
        .get(OsStr::new(RUN_VARIABLE))
        .is_some_and(|id| id == run_id)
}

/// The command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// How long a test waits for what should happen at once.
    const PLENTY: Duration = Duration::from_secs(30);

    fn shell(run_id: &str, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env(RUN_VARIABLE, run_id);
        command
    }

    #[test]
    fn the_status_tells_how_a_program_ended() {
        let within = |script| passes_within("status", shell("status", script), PLENTY).unwrap();
        assert_eq!(within("exit 0"), None);
        assert_eq!(
            within("exit 3"),
            Some("`sh -c exit 3` ended with exit status: 3".to_owned())
        );
    }

    #[test]
    fn when_the_time_is_up_all_descendants_are_ended() {
        let run_id = format!("limit-{}", std::process::id());
        let script = "setsid sleep 1000 & sleep 1000";
        let begun = Instant::now();
        // The shell must have been started as itself before its mark can be seen.
        let ended = passes_within(&run_id, shell(&run_id, script), Duration::from_secs(1)).unwrap();
        assert!(
            ended.is_some_and(|problem| problem.ends_with("ran for more than 1 s and was ended"))
        );
        while !all(&run_id, true).unwrap().is_empty() {
            assert!(begun.elapsed() < PLENTY, "something still runs");
            thread::sleep(Duration::from_millis(100));
        }
    }

    #[test]
    fn the_processes_of_a_run_and_all_others_are_told_apart() {
        let run_id = format!("mark-{}", std::process::id());
        let own = i32::try_from(std::process::id()).unwrap();
        let has = |marked, pid| {
            let all = all(&run_id, marked).unwrap();
            all.iter().any(|process| process.pid() == pid)
        };
        let mut child = shell(&run_id, "read line").stdin(Stdio::piped()).spawn();
        let child = child.as_mut().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let begun = Instant::now();
        while !has(true, pid) {
            assert!(begun.elapsed() < PLENTY, "the mark of {pid} is not seen");
        }
        assert!(!has(false, pid) && has(false, own) && !has(true, own));
        end_all(&run_id);
        child.wait().unwrap();
        assert!(!has(true, pid));
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_what_it_said() {
        let error = capture(shell("capture", "echo reason >&2; exit 4"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "`sh -c echo reason >&2; exit 4` ended with exit status: 4: reason"
        );
    }
}
