//! `handover demo`, and the server it supervises.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;

/// Watch hand-overs under load; nothing needs to be installed.
///
/// This program itself is the server: it is supervised as `handover exec` would do it, while
/// clients send requests over new connections, over kept connections and slow ones. Between good
/// configurations comes one that does not start. At the end stands a table, and the exit code says
/// whether a request was lost. Everything stays on the loopback interface.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
    0  no request was lost
    1  a request was lost; the first ones are listed
  130  it was interrupted")]
pub(crate) struct DemoArgs {
    /// How many hand-overs to a good configuration.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_DEMO_HAND_OVERS",
        default_value_t = 5
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) hand_overs: u32,

    /// The time between two hand-overs.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_DEMO_INTERVAL",
        default_value = "800ms"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) interval: Duration,

    /// Hand over a real Envoy, this one, by hot restart instead.
    #[arg(long, value_name = "FILE", env = "HANDOVER_DEMO_ENVOY")]
    pub(crate) envoy: Option<PathBuf>,

    /// Print what happens and no moving line, as without a terminal.
    #[arg(long, env = "HANDOVER_DEMO_NO_PROGRESS")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_progress: bool,
}

/// The server of `demo`: serves HTTP on the passed socket until TERM.
#[derive(Args, Clone, Debug)]
#[command(hide = true)]
pub(crate) struct DemoServerArgs {
    /// The file with its configuration: the text to answer with; one that begins with `broken`
    /// makes it fail.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
