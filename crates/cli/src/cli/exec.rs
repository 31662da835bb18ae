//! `handover exec`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::control::ControlArgs;
use super::duration;
use super::global::{LoggingArgs, WatchArgs};
use super::hooks::HookArgs;
use super::listen::ListenArgs;
use super::order::OrderArgs;
use super::policy::PolicyArgs;
use super::program::{ProgramArgs, StopArgs};
use super::record::RecordArgs;
use super::run_as::RunAsArgs;
use super::settings::SettingsArgs;
use super::status_server::StatusServerArgs;

/// Supervise any server: the next process takes over on the same sockets.
///
/// Handover binds the sockets once and passes them to each epoch of the program. They are descriptors
/// 3, 4 and so on, as systemd passes them (`LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID`). Connections
/// wait in the socket during a hand-over, so none is refused. `RESTART_EPOCH` is the number of the
/// epoch.
///
/// The next epoch starts on HUP and when a watched file changes. Once it is live, the old epoch gets
/// the stop signal. It must finish its requests and end. After --drain-time it is killed. An epoch that
/// does not go live never ends the one that serves.
#[derive(Args, Clone, Debug)]
#[command(
    after_long_help = super::AFTER_HELP,
    override_usage = "handover exec [OPTIONS] -- CMD [ARGS]..."
)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) watched: WatchArgs,

    /// Keep a recording in this directory; see --record.
    #[arg(long, value_name = "DIR", env = "HANDOVER_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) recorded: RecordArgs,

    #[command(flatten)]
    pub(crate) sockets: ListenArgs,

    #[command(flatten)]
    pub(crate) program: ProgramArgs,

    /// The soft limit of open files of the program: a number, or `max` for the hard limit.
    ///
    /// Without it, the program has the limits of handover, which systemd and shells often set to 1024. A
    /// number above the hard limit is refused. Envoy raises its own limit, so `run` needs no such flag.
    #[arg(long, value_name = "N|max", env = "HANDOVER_NOFILE", value_parser = parse_nofile)]
    #[arg(help_heading = "Program")]
    pub(crate) nofile: Option<OpenFiles>,

    #[command(flatten)]
    pub(crate) ready: ReadyArgs,

    #[command(flatten)]
    pub(crate) ending: StopArgs,

    #[command(flatten)]
    pub(crate) control: ControlArgs,

    #[command(flatten)]
    pub(crate) status_server: StatusServerArgs,

    #[command(flatten)]
    pub(crate) order: OrderArgs,

    #[command(flatten)]
    pub(crate) run_as: RunAsArgs,

    #[command(flatten)]
    pub(crate) hooks: HookArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) logging: LoggingArgs,

    #[command(flatten)]
    pub(crate) settings: SettingsArgs,

    /// The program to run, and its arguments.
    #[arg(
        last = true,
        required = true,
        value_name = "CMD",
        help_heading = "Arguments"
    )]
    pub(crate) command: Vec<OsString>,
}

/// The sign by which an epoch counts as live.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "When an epoch is live")]
pub(crate) struct ReadyArgs {
    /// Live when the program sends `READY=1` to the socket in `NOTIFY_SOCKET`, as under systemd.
    #[arg(long, env = "HANDOVER_NOTIFY", value_parser = clap::builder::FalseyValueParser::new())]
    #[arg(conflicts_with_all = ["ready_fd", "probe_tcp", "probe_http"])]
    pub(crate) notify: bool,

    /// Live when the program writes a line to the descriptor in `READY_FD`.
    ///
    /// Without a number it is the first descriptor after the sockets.
    #[arg(long, value_name = "FD", env = "HANDOVER_READY_FD", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "auto", value_parser = parse_ready_fd)]
    #[arg(conflicts_with_all = ["probe_tcp", "probe_http"])]
    pub(crate) ready_fd: Option<ReadyFd>,

    /// Live when a connection to HOST:PORT is accepted.
    ///
    /// Handover asks from --live-after on. An address of --listen is refused, because older epochs
    /// answer there as well.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HANDOVER_PROBE_TCP",
        conflicts_with = "probe_http"
    )]
    pub(crate) probe_tcp: Option<String>,

    /// Live when a GET of http://HOST:PORT/PATH is answered with a status from 200 to 399.
    ///
    /// Handover asks from --live-after on. An address of --listen is refused.
    #[arg(long, value_name = "URL", env = "HANDOVER_PROBE_HTTP")]
    pub(crate) probe_http: Option<String>,

    /// Without --notify and --ready-fd: the time that the program must run before it counts as live.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_LIVE_AFTER",
        default_value = "500ms"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) live_after: Duration,
}

/// The number of the readiness descriptor in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadyFd {
    /// The first descriptor after the passed sockets.
    AfterSockets,
    /// The descriptor with this number.
    Number(i32),
}

fn parse_ready_fd(text: &str) -> Result<ReadyFd, String> {
    if text == "auto" {
        return Ok(ReadyFd::AfterSockets);
    }
    match text.parse() {
        Ok(number @ 3..) => Ok(ReadyFd::Number(number)),
        Ok(_) | Err(_) => {
            Err("give the number of a descriptor, 3 or more, or no number at all".to_owned())
        }
    }
}

/// A limit of open files. The highest number stands for the hard limit. It is no plain number, because it may
/// be written as a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenFiles(pub(crate) u64);

fn parse_nofile(text: &str) -> Result<OpenFiles, String> {
    if text == "max" {
        return Ok(OpenFiles(u64::MAX));
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number
        .map(OpenFiles)
        .ok_or_else(|| "give a number from 1 on, or `max` for the hard limit".to_owned())
}
