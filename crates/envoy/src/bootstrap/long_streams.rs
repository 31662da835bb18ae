//! What of a configuration lets a connection or a request last long.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::scan::{duration, fields};
use super::{BootstrapError, Format};
use crate::text::one_line;

/// A place of a configuration by which a connection or a request may last long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongStream {
    /// What may last long.
    pub kind: LongStreamKind,
    /// The line, from 1.
    pub line: usize,
}

/// What may last long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LongStreamKind {
    /// Connections that are upgraded (`upgrade_type`), such as `websocket`.
    Upgrade(String),
    /// Connections whose bytes are passed on as they are (`tcp_proxy`).
    Tcp,
    /// Requests of a route with this limit (`timeout`), or without any.
    Route(Option<Duration>),
}

impl fmt::Display for LongStreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrade(kind) => write!(f, "upgrades to {kind}"),
            Self::Tcp => f.write_str("a TCP proxy"),
            Self::Route(None) => f.write_str("a route without a timeout"),
            Self::Route(Some(limit)) => write!(f, "a route with a timeout of {limit:?}"),
        }
    }
}

const TCP_PROXY: &str =
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// Returns each place of a configuration by which a connection or a request may last long, in the
/// order of the text. A route is one with whatever `timeout` it has, and without one it is none,
/// because Envoy's default is 15 s. Resources that are fetched are not seen.
///
/// It blocks for as long as reading the configuration takes, and stops soon after another thread has
/// set `cancelled`.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use handover_envoy::bootstrap::{Format, LongStreamKind, long_streams};
///
/// let text = b"upgrade_configs:\n- upgrade_type: websocket\n";
/// let found = long_streams(text, Format::Yaml, &AtomicBool::new(false))?;
/// assert_eq!(found[0].kind, LongStreamKind::Upgrade("websocket".to_owned()));
/// assert_eq!(found[0].line, 2);
/// # Ok::<(), handover_envoy::bootstrap::BootstrapError>(())
/// ```
///
/// # Errors
///
/// [`BootstrapError`] where the text cannot be read.
pub fn long_streams(
    content: &[u8],
    format: Format,
    cancelled: &AtomicBool,
) -> Result<Vec<LongStream>, BootstrapError> {
    let mut found = Vec::new();
    fields(content, format, cancelled, |field| {
        let Some(text) = field.text else {
            return;
        };
        let kind = match (field.within, field.key) {
            (_, "@type") if text == TCP_PROXY => Some(LongStreamKind::Tcp),
            ("upgrade_configs" | "upgradeConfigs", "upgrade_type" | "upgradeType") => {
                Some(LongStreamKind::Upgrade(one_line(text)))
            }
            ("route", "timeout") => {
                let limit = |time: Duration| (!time.is_zero()).then_some(time);
                duration(text).map(|time| LongStreamKind::Route(limit(time)))
            }
            _ => None,
        };
        let line = field.line;
        found.extend(kind.map(|kind| LongStream { kind, line }));
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let never = AtomicBool::new(false);
        let found = long_streams(text.as_bytes(), Format::Yaml, &never).unwrap();
        found
            .into_iter()
            .map(|found| format!("{} at {}", found.kind, found.line))
            .collect()
    }

    #[test]
    fn what_may_last_long_is_found() {
        assert_eq!(
            found(
                "a: [{upgrade_configs: [{upgrade_type: websocket}, {upgradeType: CONNECT}]}]\n\
                 b:\n  route: {timeout: 0s}\n  c: {route: {timeout: 61s}}\n"
            ),
            [
                "upgrades to websocket at 1",
                "upgrades to CONNECT at 1",
                "a route without a timeout at 3",
                "a route with a timeout of 61s at 4",
            ]
        );
        assert_eq!(
            found(&format!("typed_config: {{\"@type\": {TCP_PROXY}}}")),
            ["a TCP proxy at 1"]
        );
    }

    #[test]
    fn what_is_something_else_is_not_found() {
        for text in [
            "route: {timeout: soon}",
            "route: {timeout: {seconds: 100}}",
            "health_checks: [{timeout: 0s}]",
            "upgrade_type: websocket",
            "route: [{x: {timeout: 0s}}]",
            "\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }
}
