//! What `exec` gives to its program, and how it asks the program to end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use handover_process::Signal;
use handover_supervisor::program::{StopSteps, Template};

use super::duration;

/// The surroundings of the program.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Program")]
pub(crate) struct ProgramArgs {
    /// Set a variable of the program: KEY=VALUE. Repeat it for more.
    ///
    /// In the value, `{epoch}` is the number of the epoch, and `{fd:NAME}` is the descriptor of the socket
    /// NAME, such as 3. Write `{{` and `}}` for braces. The variable `HANDOVER_ENV` takes one KEY=VALUE.
    #[arg(long, value_name = "KEY=VALUE", env = "HANDOVER_ENV")]
    pub(crate) env: Vec<Variable>,

    /// Run the program in this directory. Paths on the command line still count from that of handover.
    #[arg(long, value_name = "DIR", env = "HANDOVER_CWD")]
    pub(crate) cwd: Option<PathBuf>,

    /// Add this argument after all others, such as --restart-epoch={epoch}. Repeat it for more.
    ///
    /// `{epoch}` and `{fd:NAME}` stand for the same as in --env. The variable `HANDOVER_ARG_EPOCH` takes one
    /// argument.
    #[arg(
        long,
        value_name = "ARG",
        env = "HANDOVER_ARG_EPOCH",
        allow_hyphen_values = true
    )]
    pub(crate) arg_epoch: Vec<EpochArgument>,
}

/// How the program is asked to end.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How an epoch ends")]
pub(crate) struct StopArgs {
    /// The longest time from the stop signal to the end of an epoch. Then it is killed.
    ///
    /// It holds for an epoch that was replaced, and for all epochs after TERM to handover.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_DRAIN_TIME",
        default_value = "10s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) drain_time: Duration,

    /// Let a replaced epoch go on after --drain-time while it has connections, for TIME at most.
    ///
    /// The time counts from the stop signal. Connections at the passed sockets of TCP and Unix streams count. If
    /// they cannot be counted, the epoch goes on. A stop of handover does not wait for longer than --drain-time.
    #[arg(long, value_name = "TIME", env = "HANDOVER_DRAIN_WHILE_CONNECTED")]
    #[arg(value_parser = duration::parse)]
    pub(crate) drain_while_connected: Option<Duration>,

    /// The signal that asks the program to finish its requests and end.
    ///
    /// Only the program itself gets it, not its children. So a shell script must start the server with
    /// `exec`.
    #[arg(
        long,
        value_name = "SIGNAL",
        env = "HANDOVER_STOP_SIGNAL",
        default_value = "TERM",
        conflicts_with = "stop"
    )]
    pub(crate) stop_signal: Signal,

    /// Ask the program to end in steps: SIGNAL@TIME, such as QUIT@0s. Repeat it in the order of the times.
    ///
    /// For servers that finish their requests at one signal and end at once at another: `--stop QUIT@0s --stop
    /// TERM@20s`. A stop in a hurry, after a second TERM to handover, begins with the last of them. The
    /// variable takes a list with commas.
    #[arg(
        long,
        value_name = "SIGNAL@TIME",
        env = "HANDOVER_STOP",
        value_delimiter = ','
    )]
    pub(crate) stop: Vec<StopStep>,

    /// Run this command before an epoch gets the stop signal, by `/bin/sh -c`.
    ///
    /// For servers that are drained by a request. It finds the process id in `MAINPID`. The signal follows
    /// once the command has ended, even if it has failed. Its time is part of --drain-time.
    #[arg(long, value_name = "CMD", env = "HANDOVER_DRAIN_CMD")]
    pub(crate) drain_cmd: Option<OsString>,
}

impl StopArgs {
    /// How long a replaced epoch may go on while it has connections, or why it may not.
    pub(crate) fn while_connected(&self) -> Result<Option<Duration>, String> {
        let longest = self.drain_while_connected;
        match longest.filter(|longest| *longest <= self.drain_time) {
            None => Ok(longest),
            Some(longest) => Err(format!(
                "--drain-while-connected {} has no effect, as every epoch gets --drain-time {}: give it more time",
                humantime::format_duration(longest),
                humantime::format_duration(self.drain_time)
            )),
        }
    }

    /// The signals in their order, or why they are none.
    pub(crate) fn steps(&self) -> Result<StopSteps, String> {
        if self.stop.is_empty() {
            return Ok(self.stop_signal.into());
        }
        let (flag, killed) = match self.drain_while_connected {
            Some(longest) => ("--drain-while-connected", longest),
            None => ("--drain-time", self.drain_time),
        };
        if let Some(late) = self.stop.iter().find(|step| step.after >= killed) {
            return Err(format!(
                "--stop {}@{} is never sent, as {flag} {} kills the program before: give it more time",
                late.signal,
                humantime::format_duration(late.after),
                humantime::format_duration(killed)
            ));
        }
        let steps = self.stop.iter().map(|step| (step.signal, step.after));
        StopSteps::new(steps).map_err(|error| format!("--stop: {error}"))
    }
}

/// A variable of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Template,
}

/// What handover tells the program itself.
const RESERVED: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "READY_FD",
    "RESTART_EPOCH",
];

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("give a name, `=` and a value")?;
        if RESERVED.contains(&name) {
            return Err(format!("handover sets {name} itself: use another name"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value
                .parse::<Template>()
                .map_err(|error| error.to_string())?,
        })
    }
}

/// An argument that differs from epoch to epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpochArgument(pub(crate) Template);

impl FromStr for EpochArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let argument: Template = text.parse().map_err(|error| format!("{error}"))?;
        if argument.is_plain() {
            return Err("it is the same for each epoch: give it after the program, or use {epoch} or {fd:NAME}".into());
        }
        Ok(Self(argument))
    }
}

/// A signal and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopStep {
    signal: Signal,
    after: Duration,
}

impl FromStr for StopStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (signal, after) = text
            .split_once('@')
            .ok_or("give a signal, `@` and a time, such as TERM@20s")?;
        Ok(Self {
            signal: signal.parse().map_err(|error| format!("{error}"))?,
            after: duration::parse(after)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_a_value() {
        let parsed: Variable = "NGINX={fd:web};".parse().unwrap();
        assert_eq!(parsed.name, "NGINX");
        assert_eq!(parsed.value.to_string(), "{fd:web};");
        let parsed: Variable = "A=b=c".parse().unwrap();
        assert_eq!(parsed.value.to_string(), "b=c");
        assert!("A=".parse::<Variable>().is_ok());
        for bad in ["A", "=b", "", "LISTEN_FDS=1", "A={b}"] {
            assert!(bad.parse::<Variable>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_argument_of_each_epoch_differs() {
        assert!("--restart-epoch={epoch}".parse::<EpochArgument>().is_ok());
        assert!("--plain".parse::<EpochArgument>().is_err());
    }

    #[test]
    fn a_step_is_a_signal_and_a_time() {
        let step: StopStep = "QUIT@20s".parse().unwrap();
        assert_eq!(step.signal, Signal::QUIT);
        assert_eq!(step.after, Duration::from_secs(20));
        for bad in ["QUIT", "QUIT@", "@1s", "QUIT@1", "NONE@1s"] {
            assert!(bad.parse::<StopStep>().is_err(), "{bad}");
        }
    }
}
