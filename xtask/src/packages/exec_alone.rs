//! The binary without Envoy, tried as its user would: it supervises a program, answers its clients, and names what it
//! does not have.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Build;
use crate::checks::Findings;
use crate::context::Context;
use crate::process;

/// How long the trial may take. It is reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(120);

/// What `handover -h` prints: the commands that the binary has.
const HELP: &str = include_str!("exec_alone/help.txt");

/// What a user tries. Each part prints its name first.
const TRIAL: &str = r#"
set -eu
cd "$WORK"
instance=
trap '[ -z "$instance" ] || kill -KILL "$instance"' EXIT
refused() { "$HANDOVER" "$@" 2>&1 || echo "exit $?"; }

echo "-- help"
"$HANDOVER" -h
echo "-- run"
refused run --config-path envoy.yaml
echo "-- watch"
refused status --watch
echo "-- settings"
echo 'envoy-path = "/usr/bin/envoy"' > settings.toml
refused exec --settings settings.toml -- sleep 600
echo "-- hand-over"
echo 0 > file
"$HANDOVER" exec --socket "$WORK/socket" --watch file --listen 127.0.0.1:0 --live-after 50ms \
    -- sleep 600 > log 2>&1 &
instance=$!
ask() { command=$1; shift; "$HANDOVER" "$command" --socket "$WORK/socket" "$@"; }
ask wait --timeout 60s
echo 1 > file
ask reload --if-changed --wait
ask status --check current
ask stop --wait
instance=
echo "-- end"
"#;

/// Tries the binary, in a directory of its own.
pub(super) fn try_out(context: &Context, build: &Build, findings: &mut Findings) -> Result<()> {
    let work = tempfile::Builder::new()
        .prefix("try-")
        .tempdir_in(context.temp())
        .context("making a directory for the trial")?;
    let mut trial = context.command("sh");
    trial
        .args(["-c", TRIAL])
        .env("WORK", work.path())
        .env("HANDOVER", &build.binary)
        // Help is wrapped at the width of the terminal.
        .env("COLUMNS", "100");
    let log = context.scratch()?.join("exec-alone.txt");
    let (problem, said) = process::logged_within(&context.run_id, trial, &log, LIMIT)?;
    findings.problems.extend(problem);
    findings.problems.extend(judge(&said));
    Ok(())
}

/// What is wrong with what the trial has printed.
fn judge(said: &str) -> Vec<String> {
    let part = |name: &str| {
        let head = format!("-- {name}");
        let lines = said.lines().skip_while(|line| *line != head).skip(1);
        let lines = lines.take_while(|line| !line.starts_with("-- "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let mut problems = Vec::new();
    let help = part("help");
    if help != HELP.trim_end() {
        problems.push(format!(
            "the help of `handover-exec` is not that of {}:\n{help}",
            Path::new(file!())
                .with_extension("")
                .join("help.txt")
                .display()
        ));
    }
    for (name, code, wanted) in [
        ("run", Some("exit 64"), "without the feature `envoy`"),
        ("watch", Some("exit 64"), "without the feature `tools`"),
        (
            "settings",
            Some("exit 64"),
            "builds with the feature `envoy`",
        ),
        ("hand-over", None, "current: epoch 1"),
    ] {
        let said = part(name);
        let has_code = code.is_none_or(|code| said.lines().last() == Some(code));
        if !has_code || !said.contains(wanted) {
            problems.push(format!(
                "`handover-exec`, {name}: `{wanted}` is wanted, but it printed {said:?}"
            ));
        }
    }
    if !said.lines().any(|line| line == "-- end") {
        problems.push("`handover-exec` was not tried to the end".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_printed_something_else_is_no_success() {
        let good = format!(
            "-- help\n{HELP}-- run\nerror: without the feature `envoy`\nexit 64\n-- watch\nwithout the feature `tools`\n\
             exit 64\n-- settings\nthe settings of `run` are in builds with the feature `envoy`\nexit 64\n\
             -- hand-over\ncurrent: epoch 1\n-- end\n"
        );
        assert_eq!(judge(&good), Vec::<String>::new());
        assert_eq!(judge("").len(), 6);
        for (from, to) in [
            ("  exec ", "  run  "),
            (
                "feature `envoy`\nexit 64\n-- watch",
                "feature `envoy`\n-- watch",
            ),
            ("feature `tools`\nexit 64", "feature `tools`\nexit 2"),
            ("current: epoch 1", "not current"),
            ("-- end\n", ""),
        ] {
            assert!(good.contains(from), "{from}");
            let problems = judge(&good.replace(from, to));
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
    }
}
