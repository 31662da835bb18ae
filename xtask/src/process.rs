//! How a program is started, watched and, when its time is up, ended.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::context::RUN_VARIABLE;

/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(100);

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
/// When the program cannot be started or waited for.
pub(crate) fn passes_within(
    run_id: &str,
    mut command: Command,
    limit: Duration,
) -> Result<Option<String>> {
    let what = describe(&command);
    let mut child = command
        .spawn()
        .with_context(|| format!("starting `{what}`"))?;
    let deadline = Instant::now() + limit;
    loop {
        let status = child
            .try_wait()
            .with_context(|| format!("waiting for `{what}`"))?;
        if let Some(status) = status {
            return Ok((!status.success()).then(|| format!("`{what}` ended with {status}")));
        }
        if Instant::now() >= deadline {
            end_all(run_id);
            child
                .wait()
                .with_context(|| format!("waiting for `{what}`"))?;
            let seconds = limit.as_secs();
            return Ok(Some(format!(
                "`{what}` ran for more than {seconds} s and was ended"
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Runs a program as [`passes_within`], and returns also what it wrote to standard output, which is printed.
///
/// # Errors
///
/// When the program cannot be started or waited for, or its output cannot be kept in the file `log`.
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

/// The processes that carry this run's mark, with their command lines.
pub(crate) fn marked(run_id: &str) -> Vec<(Pid, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(|pid| is_marked(*pid, run_id))
        .map(|pid| (pid, command_line(pid)))
        .collect()
}

/// Ends every process that carries this run's mark, whatever became of its parent.
pub(crate) fn end_all(run_id: &str) {
    for (pid, _) in marked(run_id) {
        // The descriptor pins the process, and the mark is read again after that: a number that went to
        // another process meanwhile is not hit.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && is_marked(pid, run_id)
        {
            // One that has ended by itself by now is what was wanted.
            let _: rustix::io::Result<()> = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

fn is_marked(pid: Pid, run_id: &str) -> bool {
    let mark = format!("{RUN_VARIABLE}={run_id}");
    std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).is_ok_and(|environ| {
        environ
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

fn command_line(pid: Pid) -> String {
    let bytes =
        std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim().to_owned()
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
        while !marked(&run_id).is_empty() {
            assert!(begun.elapsed() < PLENTY, "{:?} still runs", marked(&run_id));
            std::thread::sleep(LOOK);
        }
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
