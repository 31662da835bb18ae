//! Flags for the time after an epoch is live, in which it must prove itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use handover_supervisor::operator::{ErrorRise, EvidenceRules};

use super::duration;

/// The probation flags of `run` and `exec`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Probation")]
pub(crate) struct ProbationArgs {
    /// The time after live in which an epoch must prove itself. With 0 there is none.
    ///
    /// If it is found unfit, the configuration that served before is started again as the next epoch.
    /// The unfit configuration is given up. See docs/probation.md.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_PROBATION",
        default_value = "10s"
    )]
    pub(crate) probation: Probation,

    /// On probation: a GET of http://HOST:PORT/PATH must be answered with a status from 200 to 399.
    ///
    /// Like all --verify flags it is tried once a second, and may be repeated. The variable takes one
    /// URL. For https, use --verify 'curl -fsS URL'.
    #[arg(long, value_name = "URL", env = "HANDOVER_VERIFY_HTTP")]
    pub(crate) verify_http: Vec<String>,

    /// On probation: a connection to HOST:PORT must be accepted. Repeat it for more.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HANDOVER_VERIFY_TCP",
        value_delimiter = ','
    )]
    pub(crate) verify_tcp: Vec<String>,

    /// On probation: this command must end with 0. It is run by /bin/sh -c. Repeat it for more.
    ///
    /// It finds the number of the epoch in `HANDOVER_EPOCH`. What is left of it after its end or after
    /// --verify-timeout is killed. The codes 126 and 127 mean that it could not be run, and prove
    /// nothing. The variable takes one command.
    #[arg(long, value_name = "CMD", env = "HANDOVER_VERIFY")]
    pub(crate) verify: Vec<String>,

    /// The longest time that a --verify check may take. Then it counts as failed.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_VERIFY_TIMEOUT",
        default_value = "2s"
    )]
    #[arg(value_parser = parse_time_limit)]
    pub(crate) verify_timeout: Duration,

    /// The number of failures in a row of one --verify check by which an epoch is unfit.
    ///
    /// It holds for the answers of the admin endpoint as well.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_VERIFY_FAILURES",
        default_value_t = 3
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) verify_failures: u32,
}

/// The length of a probation, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probation(pub(crate) Option<Duration>);

impl FromStr for Probation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["0", "none"].contains(&text.trim()) {
            return Ok(Self(None));
        }
        let span = duration::parse(text).map_err(|error| format!("{error}, or 0 for none"))?;
        Ok(Self((!span.is_zero()).then_some(span)))
    }
}

impl fmt::Display for Probation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => humantime::format_duration(span).fmt(f),
            None => f.write_str("0"),
        }
    }
}

impl ProbationArgs {
    /// Returns what counts as evidence.
    pub(crate) fn rules(&self, max_error_rise: Option<ErrorRise>) -> EvidenceRules {
        EvidenceRules {
            failures: self.verify_failures,
            time_limit: self.verify_timeout,
            max_error_rise,
        }
    }

    /// Returns a flag that has no effect without a probation, if one is given.
    pub(crate) fn needs_probation(&self) -> Option<&'static str> {
        let flags = [
            ("--verify-http", !self.verify_http.is_empty()),
            ("--verify-tcp", !self.verify_tcp.is_empty()),
            ("--verify", !self.verify.is_empty()),
        ];
        let mut given = flags.into_iter().filter(|(_, given)| *given);
        given.next().map(|(flag, _)| flag)
    }
}

fn parse_time_limit(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("nothing can be seen in no time: write 2s, for example".to_owned()),
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_no_probation() {
        for off in ["0", "0s", " none "] {
            assert_eq!(off.parse(), Ok(Probation(None)), "{off}");
        }
        let on = Probation(Some(Duration::from_secs(30)));
        assert_eq!("30s".parse(), Ok(on));
        assert_eq!(on.to_string().parse(), Ok(on));
        assert_eq!(Probation(None).to_string().parse(), Ok(Probation(None)));
        assert!(
            "30".parse::<Probation>()
                .unwrap_err()
                .ends_with("or 0 for none")
        );
    }

    #[test]
    fn a_check_needs_time() {
        assert!(parse_time_limit("0s").is_err());
        assert_eq!(parse_time_limit("1s"), Ok(Duration::from_secs(1)));
    }
}
