//! The shape of the document, as far as it matters: JSON is read into it by derived code, YAML by a
//! walk over its events.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};
use std::fmt;

use super::BootstrapError;
use crate::text::one_line;

pub(super) fn json(text: &str) -> Result<Document, BootstrapError> {
    serde_json::from_str(text).map_err(|error| BootstrapError::Json(without_value(&error)))
}

/// What is wrong, without the value: it could be a secret.
fn without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let expected = error.is_data().then(|| text.rsplit_once(", expected "));
    one_line(&match expected.flatten() {
        Some((_, expected)) => format!("expected {expected}"),
        None => text,
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object")]
pub(super) struct Document {
    pub(super) admin: Option<Admin>,
    #[serde(alias = "staticResources")]
    pub(super) static_resources: Option<StaticResources>,
    #[serde(alias = "statsConfig")]
    pub(super) stats_config: Option<StatsConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (stats_config)")]
pub(super) struct StatsConfig {
    #[serde(alias = "statsMatcher")]
    pub(super) stats_matcher: Option<StatsMatcher>,
}

/// Of the fields one is set; more than one is an error of Envoy's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (stats_matcher)")]
pub(super) struct StatsMatcher {
    #[serde(alias = "rejectAll")]
    pub(super) reject_all: Option<Flag>,
    #[serde(alias = "exclusionList")]
    pub(super) exclusion_list: Option<ListMatcher>,
    #[serde(alias = "inclusionList")]
    pub(super) inclusion_list: Option<ListMatcher>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (a ListStringMatcher)")]
pub(super) struct ListMatcher {
    pub(super) patterns: Option<Vec<Option<StringMatcher>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (admin)")]
pub(super) struct Admin {
    pub(super) address: Option<Address>,
    #[serde(alias = "allowPaths")]
    pub(super) allow_paths: Option<Vec<Option<StringMatcher>>>,
}

/// Of the patterns one is set; more than one is an error of Envoy's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (a StringMatcher)")]
pub(super) struct StringMatcher {
    pub(super) exact: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) contains: Option<String>,
    #[serde(alias = "safeRegex")]
    pub(super) safe_regex: Option<RegexMatcher>,
    #[serde(alias = "ignoreCase")]
    pub(super) ignore_case: Option<Flag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (a RegexMatcher)")]
pub(super) struct RegexMatcher {
    pub(super) regex: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (static_resources)")]
pub(super) struct StaticResources {
    pub(super) clusters: Option<Vec<Option<Cluster>>>,
    pub(super) listeners: Option<Vec<Option<Listener>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (a cluster)")]
pub(super) struct Cluster {
    pub(super) name: Option<String>,
    #[serde(alias = "altStatName")]
    pub(super) alt_stat_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (a listener)")]
pub(super) struct Listener {
    pub(super) name: Option<String>,
    #[serde(alias = "statPrefix")]
    pub(super) stat_prefix: Option<String>,
    pub(super) address: Option<Address>,
    #[serde(alias = "additionalAddresses")]
    pub(super) additional_addresses: Option<Vec<Option<AdditionalAddress>>>,
    #[serde(alias = "enableReusePort")]
    pub(super) enable_reuse_port: Option<Flag>,
    #[serde(alias = "trafficDirection")]
    pub(super) traffic_direction: Option<TrafficDirection>,
    #[serde(alias = "internalListener")]
    pub(super) internal_listener: Option<IgnoredAny>,
    #[serde(alias = "udpListenerConfig")]
    pub(super) udp_listener_config: Option<UdpListenerConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (udp_listener_config)")]
pub(super) struct UdpListenerConfig {
    #[serde(alias = "quicOptions")]
    pub(super) quic_options: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (an additional address)")]
pub(super) struct AdditionalAddress {
    pub(super) address: Option<Address>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (an address)")]
pub(super) struct Address {
    #[serde(alias = "socketAddress")]
    pub(super) socket_address: Option<SocketAddress>,
    pub(super) pipe: Option<Pipe>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (socket_address)")]
pub(super) struct SocketAddress {
    pub(super) address: Option<String>,
    #[serde(alias = "portValue")]
    pub(super) port_value: Option<Port>,
    pub(super) protocol: Option<Protocol>,
    #[serde(alias = "networkNamespaceFilepath")]
    pub(super) network_namespace_filepath: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object (pipe)")]
pub(super) struct Pipe {
    pub(super) path: Option<String>,
}

/// A value that is written as a scalar.
pub(super) trait FromText: Sized {
    /// What is expected, for people.
    const EXPECTED: &str;

    /// The value that the scalar stands for, if it is one.
    fn from_text(text: &str) -> Option<Self>;
}

/// A port as Protobuf's JSON mapping takes it: a number, a whole floating-point number, or either
/// as a string; YAML adds hexadecimal.
#[derive(Debug)]
pub(super) struct Port(pub(super) u16);

impl FromText for Port {
    const EXPECTED: &str = "a port from 0 to 65535";

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let whole = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => u16::from_str_radix(digits, 16).ok(),
            None => text.parse().ok().or_else(|| whole_number(text)),
        };
        whole.map(Self)
    }
}

/// The number that a text such as `8080.0` or `8.08e3` stands for, if it is a port.
fn whole_number(text: &str) -> Option<u16> {
    let number: f64 = text.parse().ok()?;
    // The comparison picks the port out of all ports, so no lossy cast is needed.
    (0..=u16::MAX).find(|&port| (f64::from(port) - number).abs() < f64::EPSILON)
}

/// A Boolean as Envoy takes it: also quoted, and in the words of YAML 1.1.
#[derive(Debug)]
pub(super) struct Flag(pub(super) bool);

impl FromText for Flag {
    const EXPECTED: &str = "true or false";

    fn from_text(text: &str) -> Option<Self> {
        match &*text.to_ascii_lowercase() {
            "true" | "yes" | "on" | "y" | "1" => Some(Self(true)),
            "false" | "no" | "off" | "n" | "0" => Some(Self(false)),
            _ => None,
        }
    }
}

/// The transport protocol: `TCP`, `UDP`, or the number of the enum value.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) udp: bool,
}

impl FromText for Protocol {
    const EXPECTED: &str = "TCP or UDP";

    fn from_text(text: &str) -> Option<Self> {
        Some(Self {
            udp: matches!(text, "UDP" | "1"),
        })
    }
}

/// The direction of the traffic: `UNSPECIFIED`, `INBOUND`, `OUTBOUND`, or the number of the enum value.
#[derive(Debug)]
pub(super) struct TrafficDirection {
    pub(super) inbound: bool,
}

impl FromText for TrafficDirection {
    const EXPECTED: &str = "INBOUND or OUTBOUND";

    fn from_text(text: &str) -> Option<Self> {
        Some(Self {
            inbound: matches!(text, "INBOUND" | "1"),
        })
    }
}

impl FromText for String {
    const EXPECTED: &str = "text";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

impl<'de> Deserialize<'de> for TrafficDirection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

fn scalar<'de, T: FromText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = deserializer.deserialize_any(Scalar(T::EXPECTED))?;
    T::from_text(&text).ok_or_else(|| Error::custom(format_args!("expected {}", T::EXPECTED)))
}

/// Any scalar, as text.
struct Scalar(&'static str);

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_whole_number_however_it_is_written() {
        let port = |text| Port::from_text(text).map(|Port(port)| port);
        for (text, expected) in [
            ("8080.0", Some(8080)),
            ("8.08e3", Some(8080)),
            (" 0X50 ", Some(80)),
            ("80.5", None),
            ("65536.0", None),
            // As far from zero as two numbers beside one.
            ("2.220446049250313e-16", None),
        ] {
            assert_eq!(port(text), expected, "{text}");
        }
    }

    #[test]
    fn each_scalar_of_json_is_read_as_its_text() {
        let text = |json: &str| {
            let mut json = serde_json::Deserializer::from_str(json);
            json.deserialize_any(Scalar("a thing"))
                .map_err(|error| error.to_string())
        };
        for (json, expected) in [
            (r#""a b""#, "a b"),
            ("true", "true"),
            ("80", "80"),
            ("-1", "-1"),
            ("0.5", "0.5"),
        ] {
            assert_eq!(text(json).as_deref(), Ok(expected));
        }
        let error = text("[]").unwrap_err();
        assert!(error.contains("sequence, expected a thing"), "{error}");
    }
}
