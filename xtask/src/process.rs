//! How a program is started, watched and, when its time is up, ended.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::context::RUN_VARIABLE;

/// How often a running program is looked at while it writes nothing.
const LOOK: Duration = Duration::from_millis(100);

/// How long the output of a program that has ended is still waited for: something it started may hold
/// the pipe open for ever.
const AFTER_END: Duration = Duration::from_secs(1);

/// How a program ended.
pub(crate) struct Ended {
    /// `None` when it was ended because its time was up.
    pub(crate) status: Option<ExitStatus>,
}

impl Ended {
    /// The problem to report, unless the program succeeded.
    pub(crate) fn problem(&self, what: &str) -> Option<String> {
        match self.status {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("`{what}` ended with {status}")),
            None => Some(format!("`{what}` took too long and was ended")),
        }
    }
}

/// Runs a program with its output going straight through, and says what is wrong with its end.
///
/// # Errors
///
/// When it cannot be started.
pub(crate) fn passes(mut command: Command) -> Result<Option<String>> {
    let what = describe(&command);
    let status = command
        .status()
        .with_context(|| format!("starting `{what}`"))?;
    Ok(Ended {
        status: Some(status),
    }
    .problem(&what))
}

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
///
/// When it cannot be started or does not succeed; the message has its standard error.
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

/// Runs a program that carries the mark of this run, gives each line of its standard output and error to
/// `line` as it comes, and ends all that carries the mark when `limit` is over.
///
/// # Errors
///
/// When it cannot be started or waited for.
pub(crate) fn stream(
    run_id: &str,
    mut command: Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result<Ended> {
    let what = describe(&command);
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{what}`"))?;
    let (sender, lines) = mpsc::channel();
    forward(child.stdout.take(), sender.clone());
    forward(child.stderr.take(), sender);

    let mut ended: Option<(ExitStatus, Instant)> = None;
    let mut timed_out = false;
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(text) => {
                line(&text);
                // What it had written is read to its end, however long that takes.
                if let Some((_, at)) = &mut ended {
                    *at = Instant::now();
                }
            }
            Err(RecvTimeoutError::Disconnected) if ended.is_some() => break,
            // The output is closed, the program runs on: only its end is left to wait for.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if ended.is_none() {
            ended = child
                .try_wait()
                .with_context(|| format!("waiting for `{what}`"))?
                .map(|status| (status, Instant::now()));
        }
        let is_over = |at: Instant| at.elapsed() > AFTER_END || Instant::now() >= deadline;
        if ended.is_some_and(|(_, at)| is_over(at)) {
            break;
        }
        if !timed_out && ended.is_none() && Instant::now() >= deadline {
            timed_out = true;
            end_all(run_id);
        }
    }
    Ok(Ended {
        status: ended.filter(|_| !timed_out).map(|(status, _)| status),
    })
}

/// The processes that carry this run's mark, with their command lines.
pub(crate) fn marked(run_id: &str) -> Vec<(Pid, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(std::result::Result::ok)
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .parse()
                .ok()
                .and_then(Pid::from_raw)
        })
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
    std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
        .map(|bytes| {
            String::from_utf8_lossy(&bytes)
                .replace('\0', " ")
                .trim()
                .to_owned()
        })
        .unwrap_or_default()
}

fn forward(from: Option<impl Read + Send + 'static>, to: Sender<String>) {
    let Some(from) = from else { return };
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while reader
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&bytes);
            if to
                .send(text.trim_end_matches(['\n', '\r']).to_owned())
                .is_err()
            {
                break;
            }
            bytes.clear();
        }
    });
}

/// The command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let mut words = vec![name.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
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
    fn lines_of_both_streams_arrive_and_the_status_tells_the_end() {
        let mut lines = Vec::new();
        let script = "echo out; echo err >&2; printf last; exit 3";
        let ended = stream("both", shell("both", script), PLENTY, |line| {
            lines.push(line.to_owned());
        })
        .unwrap();
        lines.sort();
        assert_eq!(lines, ["err", "last", "out"]);
        assert_eq!(
            ended.problem("it"),
            Some("`it` ended with exit status: 3".to_owned())
        );
    }

    #[test]
    fn when_the_time_is_up_all_descendants_are_ended() {
        let run_id = format!("limit-{}", std::process::id());
        let script = "setsid sleep 1000 & sleep 1000";
        let begun = Instant::now();
        let ended = stream(&run_id, shell(&run_id, script), LOOK, |_| {}).unwrap();
        assert_eq!(
            ended.problem("it"),
            Some("`it` took too long and was ended".to_owned())
        );
        assert!(begun.elapsed() < PLENTY);
        while !marked(&run_id).is_empty() {
            assert!(begun.elapsed() < PLENTY, "{:?} still runs", marked(&run_id));
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_slow_reader_gets_the_last_line_too() {
        let mut last = String::new();
        let script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i; done";
        let ended = stream("slow", shell("slow", script), PLENTY, |line| {
            std::thread::sleep(Duration::from_millis(3));
            last = line.to_owned();
        });
        assert!(ended.unwrap().status.is_some_and(|status| status.success()));
        assert_eq!(last, "600");
    }

    #[test]
    fn a_descendant_that_keeps_the_output_open_does_not_hold_up_the_end() {
        let run_id = format!("open-{}", std::process::id());
        let begun = Instant::now();
        let ended = stream(
            &run_id,
            shell(&run_id, "sleep 1000 & exit 0"),
            PLENTY,
            |_| {},
        )
        .unwrap();
        assert_eq!(ended.problem("it"), None);
        assert!(begun.elapsed() < PLENTY);
        assert_eq!(marked(&run_id).len(), 1);
        end_all(&run_id);
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
