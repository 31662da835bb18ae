//! Durations as people type them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Reads a duration with its unit: `45s`, `300ms`, `1m 30s`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; write a number with its unit, such as 45s or 300ms"))
}

/// A duration, or `none` where there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(None));
        }
        match parse(text) {
            Ok(duration) => Ok(Self(Some(duration))),
            Err(error) => Err(format!("{error}, or `none`")),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => humantime::format_duration(duration).fmt(f),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(parse("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse(" 1m 30s "), Ok(Duration::from_secs(90)));
        for text in ["", "45", "s", "-1s", "1 parsec", "99999999999999999999s"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("such as 45s or 300ms"), "{text}: {error}");
        }
    }

    #[test]
    fn none_is_no_limit() {
        assert_eq!("none".parse(), Ok(Limit(None)));
        assert_eq!("0s".parse(), Ok(Limit(Some(Duration::ZERO))));
        assert!("never".parse::<Limit>().unwrap_err().ends_with("or `none`"));
    }
}
