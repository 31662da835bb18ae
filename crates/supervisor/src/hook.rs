//! The commands of the user at moments of an epoch's life, as processes.

use std::ffi::OsString;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use handover_process::{Command, ExitCause, Line};
use handover_runtime::Shortage;
use handover_runtime::time_limit::timeout;
use handover_tokio::error_chain;
use serde::Serialize;

use crate::control::wire::LastExit;
use crate::operator::{HookCall, HookFailure, HookSettings, Moment};
use crate::verify::LastLines;
use crate::{Facts, Operate};

/// So many bytes of a reason are passed on. With them, the JSON fits into the smallest pipe, so that writing it
/// never blocks.
const LONGEST_REASON: usize = 400;
/// What a pipe holds at least, in bytes. An exit is left out whose sentence does not fit: the log has it.
const SMALLEST_PIPE: usize = 4096;
/// The descriptor on which the shell finds the JSON, before it becomes the standard input.
const INPUT: i32 = 3;
/// Makes the descriptor the standard input of the command.
const SHELL: &str = "exec 0<&3 3<&-; exec /bin/sh -c \"$0\"";

/// The commands of the user at [moments](Moment) of an epoch's life.
///
/// A command is run by `/bin/sh -c`, one at a time. It has a process group of its own, which is killed once the
/// command has ended or the time limit has passed. It finds one JSON object on its standard input: `event`,
/// `epoch`, `reason`, `time`, `instance`, `configuration` (its SHA-256) and `exit`. What is not known is null.
#[derive(Clone, Debug)]
pub struct Hooks {
    commands: Vec<(Moment, OsString)>,
    limit: Duration,
}

impl Default for Hooks {
    /// Returns no hooks.
    fn default() -> Self {
        Self::new(Self::TIME_LIMIT)
    }
}

impl Hooks {
    /// The time that a hook may take by default: enough for a call over the network with some retries, and
    /// little of the time that a drain has.
    pub const TIME_LIMIT: Duration = Duration::from_secs(10);

    /// Returns no hooks; each that is added may take this long.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self {
            commands: Vec::new(),
            limit,
        }
    }

    /// Runs this command at this moment, in place of any before.
    #[must_use]
    pub fn at(mut self, moment: Moment, command: impl Into<OsString>) -> Self {
        self.commands.retain(|(before, _)| *before != moment);
        self.commands.push((moment, command.into()));
        self
    }

    pub(crate) fn settings(&self) -> HookSettings {
        HookSettings::new(self.commands.iter().map(|(moment, _)| *moment), self.limit)
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs the hook once. `instance` is what this supervisor is called.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the command with its children.
    pub(crate) async fn run<P: Operate>(
        &self,
        call: &HookCall,
        proxy: &P,
        instance: &str,
    ) -> Result<(), HookFailure> {
        let mut commands = self.commands.iter();
        let Some((_, command)) = commands.find(|(moment, _)| *moment == call.moment) else {
            return Ok(());
        };
        let said = LastLines::default();
        let work = async {
            let facts = proxy.facts().await;
            let told = Told::new(call, &facts, instance);
            run(command, &told, &said).await
        };
        // At the limit the child is dropped, which kills its group.
        timeout(self.limit, work).await.unwrap_or_else(|_| {
            Err(HookFailure {
                why: said.after(format_args!("not done within {:?}", self.limit)),
                shortage: false,
            })
        })
    }
}

/// What a hook finds on its standard input.
#[derive(Serialize)]
struct Told<'a> {
    event: &'static str,
    epoch: Option<u32>,
    reason: Option<&'a str>,
    time: String,
    instance: &'a str,
    configuration: Option<&'a str>,
    exit: Option<&'a LastExit>,
}

impl<'a> Told<'a> {
    fn new(call: &'a HookCall, facts: &'a Facts, instance: &'a str) -> Self {
        let running = call.epoch.and_then(|epoch| facts.epochs.get(&epoch));
        let number = call.epoch.map(|epoch| epoch.number());
        let exit = facts.last_exit.as_ref();
        Self {
            event: call.moment.name(),
            epoch: number,
            reason: call.reason.as_deref().map(beginning),
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            instance,
            configuration: running.and_then(|running| running.config.hash.as_deref()),
            exit: exit.filter(|exit| call.moment == Moment::PostExit && Some(exit.epoch) == number),
        }
    }
}

fn beginning(reason: &str) -> &str {
    let end = (0..=LONGEST_REASON.min(reason.len())).rev();
    let mut ends = end.filter(|end| reason.is_char_boundary(*end));
    ends.next().and_then(|end| reason.get(..end)).unwrap_or("")
}

async fn run(command: &OsString, told: &Told<'_>, said: &LastLines) -> Result<(), HookFailure> {
    let not_run = |error: &(dyn std::error::Error + 'static)| HookFailure {
        why: format!("not run: {}", error_chain(error)),
        shortage: Shortage::of(error).is_some(),
    };
    let mut json = serde_json::to_vec(told).map_err(|error| not_run(&error))?;
    if json.len() > SMALLEST_PIPE {
        let told = Told {
            exit: None,
            time: told.time.clone(),
            ..*told
        };
        json = serde_json::to_vec(&told).map_err(|error| not_run(&error))?;
    }
    let (input, mut writer) = std::io::pipe().map_err(|error| not_run(&error))?;
    writer.write_all(&json).map_err(|error| not_run(&error))?;
    drop(writer);
    let lines = said.clone();
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(SHELL)
        .arg(command)
        .descriptor(INPUT, input)
        .kill_group_at_end(true)
        .output(move |line: &Line<'_>| lines.take(line))
        .spawn()
        .await
        .map_err(|error| not_run(&error))?;
    let cause = child.wait().await.map_err(|error| not_run(&error))?;
    if cause == ExitCause::Code(0) {
        return Ok(());
    }
    Err(HookFailure {
        why: said.after(cause),
        shortage: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than any of these takes on a busy machine.
    const LIMIT: Duration = Duration::from_secs(60);

    fn told<'a>(reason: Option<&'a str>) -> Told<'a> {
        Told {
            event: "live",
            epoch: Some(7),
            reason,
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            instance: "one",
            configuration: None,
            exit: None,
        }
    }

    async fn made(command: &str) -> Result<(), String> {
        let said = LastLines::default();
        let (command, told) = (command.into(), told(Some("because")));
        let work = run(&command, &told, &said);
        let result = tokio::time::timeout(LIMIT, work).await.unwrap();
        result.map_err(|failure| failure.why)
    }

    #[tokio::test]
    async fn a_hook_finds_one_json_object_and_then_the_end_of_its_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told");
        assert_eq!(made(&format!("cat > {}", file.display())).await, Ok(()));
        insta::assert_snapshot!(
            std::fs::read_to_string(file).unwrap(),
            @r#"{"event":"live","epoch":7,"reason":"because","time":"2026-01-02T03:04:05.678Z","instance":"one","configuration":null,"exit":null}"#
        );
    }

    #[tokio::test]
    async fn a_hook_that_reads_nothing_is_as_good() {
        assert_eq!(made("exit 0").await, Ok(()));
    }

    #[tokio::test]
    async fn a_hook_fails_with_its_last_lines() {
        let expected = Err("exited with code 3: no | never".to_owned());
        assert_eq!(made("echo no; echo never; exit 3").await, expected);
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let long = "ä".repeat(LONGEST_REASON);
        assert_eq!(beginning(&long).len(), LONGEST_REASON);
        assert_eq!(beginning(&format!("a{long}")).len(), LONGEST_REASON - 1);
        assert_eq!(beginning("short"), "short");
        assert_eq!(beginning(""), "");
    }

    #[test]
    fn a_moment_has_the_last_command_that_was_given_for_it() {
        let hooks = Hooks::default()
            .at(Moment::Live, "one")
            .at(Moment::PostExit, "two")
            .at(Moment::Live, "three");
        let commands: Vec<_> = hooks.commands.iter().collect();
        let expected = [
            (Moment::PostExit, "two".into()),
            (Moment::Live, "three".into()),
        ];
        assert_eq!(commands, expected.iter().collect::<Vec<_>>());
        let settings = hooks.settings();
        let has = Moment::ALL
            .into_iter()
            .filter(|moment| settings.has(*moment));
        assert_eq!(has.collect::<Vec<_>>(), [Moment::Live, Moment::PostExit]);
        assert_eq!(
            settings,
            HookSettings::new([Moment::PostExit, Moment::Live], hooks.limit())
        );
    }

    struct Nothing;

    #[async_trait::async_trait]
    impl handover_tokio::Proxy for Nothing {
        type Config = ();

        async fn run(
            &self,
            _: handover_core::Target<()>,
            _: handover_core::Epoch,
            _: handover_tokio::RunControl,
        ) -> Result<(), handover_tokio::RunError> {
            Ok(())
        }

        fn cleanup(&self, _: handover_core::Epoch) {}

        fn panic(&self, (): &()) {}
    }

    impl Operate for Nothing {}

    #[tokio::test]
    async fn the_command_of_the_moment_is_run_and_has_its_time() {
        let hooks = Hooks::new(LIMIT)
            .at(Moment::PreStart, "echo wrong; exit 1")
            .at(Moment::Live, "exit 0");
        let call = |moment| HookCall {
            moment,
            epoch: None,
            reason: None,
        };
        let why = async |hooks: &Hooks, moment| {
            let call = call(moment);
            let run = hooks.run(&call, &Nothing, "one").await;
            run.map_err(|failure| failure.why)
        };
        assert_eq!(why(&hooks, Moment::Live).await, Ok(()));
        assert_eq!(why(&hooks, Moment::Unfit).await, Ok(()), "there is none");
        let failed = why(&hooks, Moment::PreStart).await.unwrap_err();
        assert_eq!(failed, "exited with code 1: wrong");
        let short = Hooks::new(Duration::from_millis(50)).at(Moment::Live, "exec sleep 60");
        let late = why(&short, Moment::Live).await.unwrap_err();
        assert_eq!(late, "not done within 50ms");
    }

    /// The command may not read anything, and the pipe must hold all of it.
    #[tokio::test]
    async fn the_last_exit_is_left_out_if_its_sentence_does_not_fit_into_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told");
        let command = format!("cat > {}", file.display()).into();
        let mut exit = LastExit {
            epoch: 7,
            pid: 4711,
            cause: "exit".to_owned(),
            sentence: String::new(),
            at: "2026-01-02T03:04:05Z".to_owned(),
            uptime_seconds: 1,
        };
        let length = |exit: &LastExit| {
            let exit = Some(exit);
            let told = Told { exit, ..told(None) };
            serde_json::to_vec(&told).unwrap().len()
        };
        let room = SMALLEST_PIPE - length(&exit);
        for (letters, is_told) in [(1, true), (room, true), (room + 1, false), (9_000, false)] {
            exit.sentence = "x".repeat(letters);
            let exit = Some(&exit);
            let told = Told { exit, ..told(None) };
            run(&command, &told, &LastLines::default()).await.unwrap();
            let found = std::fs::read_to_string(&file).unwrap();
            assert!(found.len() <= SMALLEST_PIPE);
            assert_eq!(!found.contains(r#""exit":null"#), is_told, "{letters}");
        }
    }
}
