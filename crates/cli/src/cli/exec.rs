//! `handover exec`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use handover_process::Signal;

use super::control::ControlArgs;
use super::duration;
use super::global::{LoggingArgs, WatchArgs};
use super::policy::PolicyArgs;

/// Supervise any server: pass it listening sockets, and hand over to the next one without loss.
///
/// The sockets are bound once, by handover, and passed on to each epoch of the program as
/// descriptors 3, 4 and so on by the convention of systemd (`LISTEN_FDS`, `LISTEN_FDNAMES`,
/// `LISTEN_PID`). Connections wait in the socket while one epoch hands over to the next, so none is
/// refused. `RESTART_EPOCH` is the number of the epoch.
///
/// The next epoch is started on HUP and when a watched file has other contents. Once it is live,
/// the old one gets the stop signal, is expected to finish what it is doing and to end, and is
/// killed after the drain time. An epoch that does not go live never takes down the one before.
#[derive(Args, Clone, Debug)]
#[command(
    after_long_help = super::AFTER_HELP,
    override_usage = "handover exec [OPTIONS] -- CMD [ARGS]..."
)]
pub(crate) struct ExecArgs {
    /// Listen on this TCP address, HOST:PORT, and pass the socket on; repeat it for more sockets. With
    /// port 0 a free port is chosen, and logged. Unix and UDP sockets are not supported.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HANDOVER_LISTEN",
        value_delimiter = ','
    )]
    pub(crate) listen: Vec<String>,

    /// The name of the socket in `LISTEN_FDNAMES`, in the order of --listen; listen0, listen1 and so
    /// on where there is none.
    #[arg(
        long,
        value_name = "NAME",
        env = "HANDOVER_FD_NAME",
        value_delimiter = ','
    )]
    pub(crate) fd_name: Vec<String>,

    /// Pass nonblocking sockets. Without it they block, as those of systemd do. A server with an event
    /// loop makes them nonblocking by itself, and that is then so for every epoch.
    #[arg(long, env = "HANDOVER_NONBLOCKING")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) nonblocking: bool,

    #[command(flatten)]
    pub(crate) watched: WatchArgs,

    /// How long an old epoch may take to finish after the stop signal before it is killed, and how
    /// long the drain may take after TERM.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_DRAIN_TIME",
        default_value = "10s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) drain_time: Duration,

    /// The signal that asks the program to finish what it is doing and to end. It goes to the
    /// program alone: a shell script that starts the server does so with `exec`.
    #[arg(
        long,
        value_name = "SIGNAL",
        env = "HANDOVER_STOP_SIGNAL",
        default_value = "TERM"
    )]
    pub(crate) stop_signal: Signal,

    #[command(flatten)]
    pub(crate) ready: ReadyArgs,

    #[command(flatten)]
    pub(crate) control: ControlArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) logging: LoggingArgs,

    /// The program and its arguments.
    #[arg(
        last = true,
        required = true,
        value_name = "CMD",
        help_heading = "Arguments"
    )]
    pub(crate) command: Vec<OsString>,
}

/// How a program is known to serve.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "When an epoch is live")]
pub(crate) struct ReadyArgs {
    /// Live when the program sends `READY=1` to the socket named by `NOTIFY_SOCKET`, as under systemd.
    #[arg(long, env = "HANDOVER_NOTIFY", value_parser = clap::builder::FalseyValueParser::new())]
    #[arg(conflicts_with_all = ["ready_fd", "probe_tcp", "probe_http"])]
    pub(crate) notify: bool,

    /// Live when the program writes a line to this descriptor; without a number, to the first one
    /// after the sockets. The number is in `READY_FD`.
    #[arg(long, value_name = "FD", env = "HANDOVER_READY_FD", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "auto", value_parser = parse_ready_fd)]
    #[arg(conflicts_with_all = ["probe_tcp", "probe_http"])]
    pub(crate) ready_fd: Option<ReadyFd>,

    /// Live when a connection to HOST:PORT is accepted, asked from --live-after on. It must not be
    /// an address of --listen, where the epoch before answers as well.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HANDOVER_PROBE_TCP",
        conflicts_with = "probe_http"
    )]
    pub(crate) probe_tcp: Option<String>,

    /// Live when a GET of http://HOST:PORT/PATH is answered with 200 to 399, asked from --live-after
    /// on. It must not be an address of --listen.
    #[arg(long, value_name = "URL", env = "HANDOVER_PROBE_HTTP")]
    pub(crate) probe_http: Option<String>,

    /// With neither --notify nor --ready-fd: the time for which the program must have run.
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
    /// The first one after the passed sockets.
    AfterSockets,
    /// This one.
    Number(i32),
}

fn parse_ready_fd(text: &str) -> Result<ReadyFd, String> {
    if text == "auto" {
        return Ok(ReadyFd::AfterSockets);
    }
    match text.parse() {
        Ok(number @ 3..) => Ok(ReadyFd::Number(number)),
        Ok(_) | Err(_) => Err("give a descriptor from 3 on, or no number at all".to_owned()),
    }
}
