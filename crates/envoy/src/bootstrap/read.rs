//! The shape of the document, as far as it matters, and the two parsers.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Unexpected, Visitor};
use std::fmt;

use super::BootstrapError;
use crate::text::one_line;

pub(super) fn yaml(text: &str) -> Result<Document, BootstrapError> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary,
        // Envoy knows no underscores in numbers.
        underscored_numbers_as_strings: true,
        // An excerpt of the document could hold a secret.
        with_snippet: false,
        budget: serde_saphyr::budget! {
            // A generated configuration can be large, so the limits follow its size: each byte can
            // be a node of its own, aliases may triple it, and no more.
            max_events: text.len().saturating_mul(3).saturating_add(1_000),
            max_nodes: text.len().saturating_mul(3).saturating_add(1_000),
            max_total_scalar_bytes: text.len().saturating_mul(3).saturating_add(1_000),
            max_anchors: 100_000,
            max_aliases: 100_000,
            max_depth: 200,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: text.len().saturating_mul(3).saturating_add(1_000),
        },
    };
    // Of several documents Envoy reads the first, and so does the deserializer of a stream.
    let mut reader = text.as_bytes();
    let mut documents =
        serde_saphyr::read_with_options::<_, Option<Document>>(&mut reader, options);
    match documents.next() {
        Some(Ok(Some(document))) => Ok(document),
        Some(Ok(None)) | None => Err(BootstrapError::Empty),
        Some(Err(error)) => Err(BootstrapError::Yaml(one_line(&error.to_string()))),
    }
}

pub(super) fn json(text: &str) -> Result<Document, BootstrapError> {
    serde_json::from_str(text).map_err(|error| BootstrapError::Json(one_line(&error.to_string())))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    pub(super) admin: Option<Admin>,
    #[serde(alias = "staticResources")]
    pub(super) static_resources: Option<StaticResources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Admin {
    pub(super) address: Option<Address>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StaticResources {
    pub(super) listeners: Option<Vec<Option<Listener>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listener {
    pub(super) name: Option<String>,
    #[serde(alias = "statPrefix")]
    pub(super) stat_prefix: Option<String>,
    pub(super) address: Option<Address>,
    #[serde(alias = "additionalAddresses")]
    pub(super) additional_addresses: Option<Vec<Option<AdditionalAddress>>>,
    #[serde(alias = "enableReusePort")]
    pub(super) enable_reuse_port: Option<Flag>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AdditionalAddress {
    pub(super) address: Option<Address>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Address {
    #[serde(alias = "socketAddress")]
    pub(super) socket_address: Option<SocketAddress>,
    pub(super) pipe: Option<Pipe>,
    #[serde(alias = "envoyInternalAddress", rename = "envoy_internal_address")]
    _internal: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SocketAddress {
    pub(super) address: Option<String>,
    #[serde(alias = "portValue")]
    pub(super) port_value: Option<Port>,
    pub(super) protocol: Option<Protocol>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pipe {
    pub(super) path: Option<String>,
}

/// A port as Protobuf's JSON mapping takes it: a number, a whole floating-point number, or either
/// as a string; YAML adds hexadecimal.
#[derive(Debug)]
pub(super) struct Port(pub(super) u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Scalar("a port from 0 to 65535"))
            .and_then(|scalar| {
                let text = scalar.trim();
                let whole = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                    Some(digits) => u16::from_str_radix(digits, 16).ok(),
                    None => text.parse().ok().or_else(|| whole_number(text)),
                };
                whole.map(Self).ok_or_else(|| {
                    Error::invalid_value(Unexpected::Str(&scalar), &"a port from 0 to 65535")
                })
            })
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

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let scalar = deserializer.deserialize_any(Scalar("true or false"))?;
        match &*scalar.to_ascii_lowercase() {
            "true" | "yes" | "on" | "y" | "1" => Ok(Self(true)),
            "false" | "no" | "off" | "n" | "0" => Ok(Self(false)),
            _ => Err(Error::invalid_value(
                Unexpected::Str(&scalar),
                &"true or false",
            )),
        }
    }
}

/// The transport protocol: `TCP`, `UDP`, or the number of the enum value.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) udp: bool,
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let scalar = deserializer.deserialize_any(Scalar("TCP or UDP"))?;
        Ok(Self {
            udp: matches!(&*scalar, "UDP" | "1"),
        })
    }
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
