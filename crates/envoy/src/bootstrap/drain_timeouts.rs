//! How long the HTTP connections of a configuration stay open after they were told to end.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::scan::{duration, fields};
use super::{BootstrapError, Format};

/// A `drain_timeout` of an HTTP connection manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainTimeout {
    /// The time, or `None` where the text is no duration.
    pub time: Option<Duration>,
    /// The line, from 1.
    pub line: usize,
}

/// Returns each `drain_timeout` of a configuration, in the order of the text. Envoy uses 5 s where
/// there is none.
///
/// Envoy leaves a connection that it wants to end open for this time, so that its client can close
/// it. Resources that are fetched are not seen.
///
/// It blocks for as long as reading the configuration takes, and stops soon after another thread has
/// set `cancelled`.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use std::time::Duration;
///
/// use handover_envoy::bootstrap::{Format, drain_timeouts};
///
/// let text = b"typed_config:\n  drain_timeout: 0.2s\n";
/// let found = drain_timeouts(text, Format::Yaml, &AtomicBool::new(false))?;
/// assert_eq!(found[0].time, Some(Duration::from_millis(200)));
/// assert_eq!(found[0].line, 2);
/// # Ok::<(), handover_envoy::bootstrap::BootstrapError>(())
/// ```
///
/// # Errors
///
/// [`BootstrapError`] where the text cannot be read.
pub fn drain_timeouts(
    content: &[u8],
    format: Format,
    cancelled: &AtomicBool,
) -> Result<Vec<DrainTimeout>, BootstrapError> {
    let mut found = Vec::new();
    fields(content, format, cancelled, |field| {
        if matches!(field.key, "drain_timeout" | "drainTimeout") {
            found.push(DrainTimeout {
                time: field.text.and_then(duration),
                line: field.line,
            });
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Option<u64>, usize)> {
        let never = AtomicBool::new(false);
        let found = drain_timeouts(text.as_bytes(), Format::Yaml, &never).unwrap();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        found
            .into_iter()
            .map(|found| (found.time.map(millis), found.line))
            .collect()
    }

    #[test]
    fn each_drain_timeout_is_found_wherever_it_is() {
        assert_eq!(
            found("a:\n- b: {drain_timeout: 3600s}\n- drainTimeout: 0.25s\n"),
            [(Some(3_600_000), 2), (Some(250), 3)]
        );
        assert_eq!(found("x: &t 7s\ndrain_timeout: *t\n"), [(Some(7_000), 2)]);
        assert_eq!(
            found("{\"drain_timeout\": \"1s\", \"drain_timeouts\": \"2s\"}"),
            [(Some(1_000), 1)]
        );
    }

    #[test]
    fn what_is_no_duration_is_unknown_and_a_value_is_no_key() {
        assert_eq!(
            found("drain_timeout: {seconds: 1}\nname: drain_timeout\n"),
            [(None, 1)]
        );
        for bad in ["-1s", "1", "1e400s", "NaNs", "s", "5m"] {
            assert_eq!(
                found(&format!("drain_timeout: {bad}")),
                [(None, 1)],
                "{bad}"
            );
        }
        assert_eq!(found("- drain_timeout\n- 5s\n"), []);
        assert_eq!(found("? [drain_timeout]\n: 5s\n"), []);
    }
}
