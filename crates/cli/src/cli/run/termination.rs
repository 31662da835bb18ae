//! Flags about the drain after TERM.

use std::ffi::OsStr;
use std::time::Duration;

use clap::Args;
use handover_envoy::admin::NamePattern;

use crate::cli::duration;

/// The variable of Istio's agent for the longest drain, in whole seconds.
pub(crate) const ISTIO_VARIABLE: &str = "TERMINATION_DRAIN_DURATION_SECONDS";

/// The longest drain by default, as in Istio's agent.
const TERMINATION_DRAIN: Duration = Duration::from_secs(5);

/// The drain of Envoy after TERM.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Stopping")]
pub(crate) struct TerminationArgs {
    /// The longest drain after TERM, 5s by default. Then open connections are cut.
    ///
    /// Without it, the variable `TERMINATION_DRAIN_DURATION_SECONDS` of Istio's agent counts, in whole
    /// seconds.
    #[arg(long, value_name = "TIME", env = "HANDOVER_TERMINATION_DRAIN")]
    #[arg(value_parser = duration::parse)]
    termination_drain: Option<Duration>,

    /// The time after TERM in which Envoy still accepts while its health checks fail.
    ///
    /// Use it if load balancers need this time to notice. It is part of --termination-drain.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PRE_DRAIN_DELAY",
        default_value = "0s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) pre_drain_delay: Duration,

    /// The shortest drain after TERM, even if no connection is open.
    ///
    /// It is part of --termination-drain.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_MIN_DRAIN",
        default_value = "0s"
    )]
    #[arg(value_parser = duration::parse)]
    pub(crate) min_drain: Duration,

    /// Do not wait for connections on this listener, such as probes or metrics. Repeat it for more.
    ///
    /// Neither a stop nor a change that waits for an old epoch counts them. The name is that of the
    /// configuration or of Envoy's statistics. `NAME*` matches every name that begins so.
    #[arg(
        long,
        value_name = "NAME",
        env = "HANDOVER_DRAIN_EXCLUDE_LISTENER",
        value_delimiter = ','
    )]
    pub(crate) drain_exclude_listener: Vec<NamePattern>,

    /// Do not wait for connections on the listener with this port. Repeat it for more.
    #[arg(
        long,
        value_name = "PORT",
        env = "HANDOVER_DRAIN_EXCLUDE_PORT",
        value_delimiter = ','
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) drain_exclude_port: Vec<u16>,
}

impl TerminationArgs {
    /// Returns whether the flag for the longest drain, or its own variable, is set.
    pub(crate) fn is_given(&self) -> bool {
        self.termination_drain.is_some()
    }

    /// Returns the longest drain. `istio` is the value of [`ISTIO_VARIABLE`], if it is set.
    ///
    /// # Errors
    ///
    /// Returns a message if that value counts and is no number of seconds.
    pub(crate) fn termination_drain(&self, istio: Option<&OsStr>) -> Result<Duration, String> {
        let Some(text) = istio.filter(|_| self.termination_drain.is_none()) else {
            return Ok(self.termination_drain.unwrap_or(TERMINATION_DRAIN));
        };
        let seconds = text.to_str().and_then(|text| text.parse::<u32>().ok());
        seconds
            .map(|seconds| Duration::from_secs(seconds.into()))
            .ok_or_else(|| {
                format!(
                    "{ISTIO_VARIABLE} is {text:?}, which is no number of whole seconds: set it to a \
                     number such as 5, or unset it and use --termination-drain"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        stop: TerminationArgs,
    }

    fn drain(flags: &[&str], istio: Option<&str>) -> Result<Duration, String> {
        let only = Only::try_parse_from(["x"].iter().chain(flags)).unwrap();
        only.stop.termination_drain(istio.map(OsStr::new))
    }

    #[test]
    fn the_flag_comes_before_the_variable_of_istio_and_that_before_the_default() {
        let seconds = |seconds| Ok(Duration::from_secs(seconds));
        assert_eq!(drain(&[], None), seconds(5));
        assert_eq!(drain(&[], Some("45")), seconds(45));
        assert_eq!(drain(&[], Some("0")), seconds(0));
        assert_eq!(
            drain(&["--termination-drain", "7s"], Some("45")),
            seconds(7)
        );
        // What does not count does no harm.
        assert_eq!(drain(&["--termination-drain", "7s"], Some("x")), seconds(7));
    }

    #[test]
    fn what_is_no_number_of_seconds_is_named() {
        for bad in ["", "5s", "-1", "1.5", " 5", "4294967296"] {
            let error = drain(&[], Some(bad)).unwrap_err();
            assert!(error.starts_with(ISTIO_VARIABLE), "{error}");
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
