//! `handover demo`, and the server it supervises.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;

/// Show hand-overs under load. Nothing needs to be installed.
///
/// The command supervises a small server of its own, as `handover exec` does. Clients send fast and
/// slow requests, over new and over kept connections. One of the configurations does not start, on
/// purpose. At the end a table shows how many requests were lost. All traffic stays on the loopback
/// interface.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Exit codes:
    0  no request was lost
    1  requests were lost; the first ones are listed
  130  the demo was interrupted")]
pub(crate) struct DemoArgs {
    /// The number of hand-overs to a good configuration, 1 to 1000.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_DEMO_HAND_OVERS",
        default_value_t = 5
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) hand_overs: u32,

    /// The pause between two hand-overs.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_DEMO_INTERVAL",
        default_value = "800ms"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) interval: Duration,

    /// Supervise this Envoy binary instead of the demo's own server, by hot restart.
    #[arg(long, value_name = "FILE", env = "HANDOVER_DEMO_ENVOY")]
    pub(crate) envoy: Option<PathBuf>,

    /// Supervise a fake Envoy instead, by hot restart.
    ///
    /// It is part of a program that cargo has built. The released one runs `handover-fake-envoy`, from beside it or
    /// from the search path.
    #[arg(long, env = "HANDOVER_DEMO_FAKE_ENVOY", conflicts_with = "envoy")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) fake_envoy: bool,

    /// Do not draw the line with live figures. Without a terminal it is never drawn.
    #[arg(long, env = "HANDOVER_DEMO_NO_PROGRESS")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_progress: bool,
}

/// Serve HTTP on the passed socket until TERM: the server of `demo`.
#[derive(Args, Clone, Debug)]
#[command(hide = true)]
pub(crate) struct DemoServerArgs {
    /// The file with the text to answer with. A text that begins with `broken` makes the server fail.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
