//! Listeners whose connections do not count.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::bootstrap::Listener;

/// Listeners whose connections do not count, because no request of a client is on them: probes,
/// metrics, an admin port that is proxied.
///
/// A listener is meant by its port, by its name in the statistics (its `stat_prefix`, or its address
/// with `_` for each colon, `0.0.0.0_8080`), or, where the configuration tells it
/// ([`with_listeners`](Self::with_listeners)), by the name that it has there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    /// Ports.
    pub ports: BTreeSet<u16>,
    /// Names.
    pub listeners: BTreeSet<NamePattern>,
    /// Whether every listener is meant whose traffic direction is not `INBOUND`. Then a drain leaves those
    /// open. The direction is known of static listeners. Of others a drain sees it, as Envoy closes the inbound
    /// ones.
    pub inbound_only: bool,
}

/// The name of a listener, or how the names of several begin.
///
/// ```
/// use handover_envoy::admin::NamePattern;
///
/// let pattern: NamePattern = "probes-*".parse()?;
/// assert!(pattern.matches("probes-http") && !pattern.matches("web"));
/// assert_eq!(pattern.to_string(), "probes-*");
/// # Ok::<(), handover_envoy::admin::BadNamePattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamePattern {
    /// This name.
    Exact(String),
    /// Every name that begins so.
    Prefix(String),
}

/// A text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadNamePattern {
    /// It would mean every listener, or none.
    #[error(
        "the name is empty; write the name of a listener, or the beginning of names and a `*`, such as `metrics-*`"
    )]
    NoName,
    /// There is a `*` within it.
    #[error("a `*` stands for the rest of a name, so nothing can follow it")]
    StarWithin,
}

impl NamePattern {
    /// Returns whether the pattern means this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// `name`, or `begin*`.
impl FromStr for NamePattern {
    type Err = BadNamePattern;

    fn from_str(text: &str) -> Result<Self, BadNamePattern> {
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if name.contains('*') {
            return Err(BadNamePattern::StarWithin);
        }
        if name.trim().is_empty() {
            return Err(BadNamePattern::NoName);
        }
        let name = name.to_owned();
        Ok(if is_prefix {
            Self::Prefix(name)
        } else {
            Self::Exact(name)
        })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Exclude {
    /// Returns the same, and in addition the names in the statistics of those listeners that are
    /// meant by name or port. The statistics lack the name of the configuration, and may lack the
    /// port.
    #[must_use]
    pub fn with_listeners(&self, listeners: &[Listener]) -> Self {
        let mut all = self.clone();
        let meant = listeners.iter().filter(|listener| self.means(listener));
        let names = meant.filter_map(Listener::stat_name);
        all.listeners.extend(names.map(NamePattern::Exact));
        all
    }

    /// Returns whether a listener of the configuration is meant. Its name counts, its name in the
    /// statistics, and the port of its main address. The statistics do not tell its other addresses
    /// apart.
    #[must_use]
    pub fn means(&self, listener: &Listener) -> bool {
        if self.inbound_only && !listener.inbound {
            return true;
        }
        let named = |name: &str| self.listeners.iter().any(|pattern| pattern.matches(name));
        named(&listener.name)
            || listener.stat_name().is_some_and(|name| named(&name))
            || listener
                .port()
                .is_some_and(|port| self.ports.contains(&port))
    }

    /// Returns the same for listeners of any traffic direction.
    pub(crate) fn in_any_direction(&self) -> Self {
        Self {
            inbound_only: false,
            ..self.clone()
        }
    }

    /// Whether a listener of the statistics is meant. A name that is no address tells no port,
    /// however it ends.
    pub(crate) fn means_in_statistics(&self, name: &str) -> bool {
        port_of(name).is_some_and(|port| self.ports.contains(&port))
            || self.listeners.iter().any(|pattern| pattern.matches(name))
    }
}

/// The port in the name that a listener has in the statistics by its address, `[__1]_80` for example.
fn port_of(name: &str) -> Option<u16> {
    let (ip, port) = name.rsplit_once('_')?;
    let ip = ip.replace('_', ":");
    let without_brackets = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let _is_ip: IpAddr = without_brackets.unwrap_or(&ip).parse().ok()?;
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{Bootstrap, Format};

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        for text in ["web", "web*"] {
            assert_eq!(text.parse::<NamePattern>().unwrap().to_string(), text);
        }
    }

    fn listeners() -> Vec<Listener> {
        let text = r#"
admin: {address: {pipe: {path: /a}}}
static_resources:
  listeners:
  - {name: web, address: {socket_address: {address: 0.0.0.0, port_value: 80}}}
  - name: probes
    stat_prefix: "health:check"
    address: {socket_address: {address: 0.0.0.0, port_value: 81}}
    additional_addresses: [{address: {socket_address: {address: "::", port_value: 82}}}]
  - {name: metrics, address: {socket_address: {address: "0:0::1", port_value: 83}}}
  - {name: local, address: {pipe: {path: /run/web.sock}}}
"#;
        Bootstrap::parse(text.as_bytes(), Format::Yaml)
            .unwrap()
            .listeners
    }

    fn exclude(patterns: &[&str], ports: &[u16]) -> Exclude {
        Exclude {
            ports: ports.iter().copied().collect(),
            inbound_only: false,
            listeners: patterns
                .iter()
                .map(|pattern| pattern.parse().unwrap())
                .collect(),
        }
    }

    #[test]
    fn a_listener_is_meant_by_each_of_its_names_and_its_main_port() {
        for (patterns, ports, meant) in [
            (&["probes"][..], &[][..], &["health_check"][..]),
            (&["prob*", "met*"], &[], &["health_check", "[__1]_83"]),
            (&["health_check"], &[], &["health_check"]),
            (&["0.0.0.0_*"], &[], &["0.0.0.0_80"]),
            (&["/run/*"], &[], &["/run/web.sock"]),
            (&[], &[81], &["health_check"]),
            (&[], &[80, 83], &["0.0.0.0_80", "[__1]_83"]),
            // The statistics cannot tell it from the main address.
            (&[], &[82], &[]),
            (&["WEB", "we"], &[], &[]),
        ] {
            let exclude = exclude(patterns, ports);
            let all = exclude.with_listeners(&listeners());
            let names = ["0.0.0.0_80", "health_check", "[__1]_83", "/run/web.sock"];
            let found: Vec<_> = names
                .into_iter()
                .filter(|name| all.means_in_statistics(name))
                .collect();
            assert_eq!(found, meant, "{exclude:?}");
        }
    }

    #[test]
    fn without_a_direction_a_listener_is_not_inbound() {
        let text = "
admin: {address: {pipe: {path: /a}}}
static_resources:
  listeners:
  - {traffic_direction: INBOUND, address: {socket_address: {address: 0.0.0.0, port_value: 80}}}
  - {traffic_direction: OUTBOUND, address: {socket_address: {address: 0.0.0.0, port_value: 81}}}
  - {address: {socket_address: {address: 0.0.0.0, port_value: 82}}}
";
        let bootstrap = Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap();
        let inbound_only = Exclude {
            inbound_only: true,
            ..Exclude::default()
        };
        let meant = |exclude: &Exclude| {
            let each = bootstrap.listeners.iter();
            each.map(|listener| exclude.means(listener))
                .collect::<Vec<_>>()
        };
        assert_eq!(meant(&inbound_only), [false, true, true]);
        assert_eq!(meant(&inbound_only.in_any_direction()), [false; 3]);
        let named = inbound_only.with_listeners(&bootstrap.listeners);
        let in_statistics = ["0.0.0.0_80", "0.0.0.0_81", "0.0.0.0_82", "0.0.0.0_83"];
        let meant = in_statistics.map(|name| named.means_in_statistics(name));
        // One of a control plane is not known, so it counts.
        assert_eq!(meant, [false, true, true, false]);
    }

    #[test]
    fn a_name_that_ends_like_an_address_tells_no_port() {
        let exclude = exclude(&[], &[80]);
        for (name, meant) in [
            ("0.0.0.0_80", true),
            ("[__1]_80", true),
            ("[fe80__1]_80", true),
            ("web_80", false),
            ("_80", false),
            ("0.0.0.0_8080", false),
        ] {
            assert_eq!(exclude.means_in_statistics(name), meant, "{name}");
        }
    }

    #[test]
    fn a_pattern_names_something_and_ends_with_its_star() {
        assert_eq!("a*".parse(), Ok(NamePattern::Prefix("a".to_owned())));
        assert_eq!("a".parse(), Ok(NamePattern::Exact("a".to_owned())));
        for bad in ["", " ", "*", " *"] {
            assert_eq!(bad.parse::<NamePattern>(), Err(BadNamePattern::NoName));
        }
        for bad in ["*a", "a*b", "**"] {
            assert_eq!(bad.parse::<NamePattern>(), Err(BadNamePattern::StarWithin));
        }
    }
}
