//! `handover exec`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use handover_process::Signal;

use super::control::ControlArgs;
use super::duration;
use super::global::{LoggingArgs, WatchArgs};
use super::hooks::HookArgs;
use super::order::OrderArgs;
use super::policy::PolicyArgs;
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
    /// Listen on this TCP address, HOST:PORT, and pass the socket to the program. Repeat it for more.
    ///
    /// With port 0 the system chooses a free port, which is logged. Sockets that a service manager passes
    /// (`LISTEN_FDS`) are passed on as well, before these; they may be Unix sockets too. UDP sockets are
    /// not supported.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HANDOVER_LISTEN",
        value_delimiter = ','
    )]
    pub(crate) listen: Vec<String>,

    /// The name of a socket in `LISTEN_FDNAMES`. Repeat it in the order of --listen.
    ///
    /// A socket without a name is called by its place among all sockets: listen0, listen1 and so on.
    #[arg(
        long,
        value_name = "NAME",
        env = "HANDOVER_FD_NAME",
        value_delimiter = ','
    )]
    pub(crate) fd_name: Vec<String>,

    /// Pass nonblocking sockets. Otherwise they block, as those of systemd do.
    ///
    /// A server with an event loop sets this itself, and the setting holds for all epochs. Few servers
    /// need the flag.
    #[arg(long, env = "HANDOVER_NONBLOCKING")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) nonblocking: bool,

    /// The soft limit of open files of the program: a number, or `max` for the hard limit.
    ///
    /// Without it, the program has the limits of handover, which systemd and shells often set to 1024. A
    /// number above the hard limit is refused. Envoy raises its own limit, so `run` needs no such flag.
    #[arg(long, value_name = "N|max", env = "HANDOVER_NOFILE", value_parser = parse_nofile)]
    pub(crate) nofile: Option<OpenFiles>,

    #[command(flatten)]
    pub(crate) watched: WatchArgs,

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

    /// The signal that asks the program to finish its requests and end.
    ///
    /// Only the program itself gets it, not its children. So a shell script must start the server with
    /// `exec`.
    #[arg(
        long,
        value_name = "SIGNAL",
        env = "HANDOVER_STOP_SIGNAL",
        default_value = "TERM"
    )]
    pub(crate) stop_signal: Signal,

    /// Keep a recording in this directory; see --record.
    #[arg(long, value_name = "DIR", env = "HANDOVER_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) recorded: RecordArgs,

    #[command(flatten)]
    pub(crate) ready: ReadyArgs,

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
