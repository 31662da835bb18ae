//! Writes a resource, given in JSON as a configuration has it, in the protobuf wire format.
//!
//! A test describes a resource once. It stands in the configuration itself, is served over REST as it is, and
//! over gRPC as these bytes. The tables below have the fields that the tests use, with their tags.

use prost::Message as _;
use prost::bytes::BufMut as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

use super::TYPES;
use super::discovery::Any;

/// How the value of a field is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    /// A boolean or an unsigned integer.
    Number,
    /// A name; its place in the list is the value.
    Name(&'static [&'static str]),
    /// Seconds as text: `0.5s`.
    Duration,
    /// A message of this name.
    Message(&'static str),
    /// A message that says by `@type` which one it is.
    Any,
}

type Field = (&'static str, u32, Form);

/// The fields of a message; its name without the package.
fn fields(message: &str) -> Option<&'static [Field]> {
    use Form::{Any, Duration, Message, Name, Number, Text};
    Some(match message {
        "Listener" => &[
            ("name", 1, Text),
            ("address", 2, Message("Address")),
            ("filter_chains", 3, Message("FilterChain")),
        ],
        "Address" => &[("socket_address", 1, Message("SocketAddress"))],
        "SocketAddress" => &[("address", 2, Text), ("port_value", 3, Number)],
        "FilterChain" => &[
            ("filters", 3, Message("Filter")),
            ("transport_socket", 6, Message("TransportSocket")),
        ],
        "Filter" | "HttpFilter" => &[("name", 1, Text), ("typed_config", 4, Any)],
        "TransportSocket" => &[("name", 1, Text), ("typed_config", 3, Any)],
        "HttpConnectionManager" => &[
            ("stat_prefix", 2, Text),
            ("rds", 3, Message("Rds")),
            ("route_config", 4, Message("RouteConfiguration")),
            ("http_filters", 5, Message("HttpFilter")),
        ],
        "Rds" => &[
            ("config_source", 1, Message("ConfigSource")),
            ("route_config_name", 2, Text),
        ],
        "ConfigSource" => &[
            ("api_config_source", 2, Message("ApiConfigSource")),
            ("ads", 3, Message("Empty")),
            ("initial_fetch_timeout", 4, Duration),
            ("resource_api_version", 6, Name(&["AUTO", "V2", "V3"])),
        ],
        "ApiConfigSource" => &[
            ("api_type", 1, Name(&["", "REST", "GRPC"])),
            ("cluster_names", 2, Text),
            ("refresh_delay", 3, Duration),
            ("request_timeout", 5, Duration),
            ("transport_api_version", 8, Name(&["AUTO", "V2", "V3"])),
        ],
        "Empty" | "Router" => &[],
        "RouteConfiguration" => &[
            ("name", 1, Text),
            ("virtual_hosts", 2, Message("VirtualHost")),
            ("response_headers_to_add", 4, Message("HeaderValueOption")),
        ],
        "HeaderValueOption" => &[("header", 1, Message("HeaderValue"))],
        "HeaderValue" => &[("key", 1, Text), ("value", 2, Text)],
        "VirtualHost" => &[
            ("name", 1, Text),
            ("domains", 2, Text),
            ("routes", 3, Message("Route")),
        ],
        "Route" => &[
            ("match", 1, Message("RouteMatch")),
            ("route", 2, Message("RouteAction")),
            ("direct_response", 7, Message("DirectResponse")),
        ],
        "RouteMatch" => &[("prefix", 1, Text)],
        "RouteAction" => &[("cluster", 1, Text), ("timeout", 8, Duration)],
        "DirectResponse" => &[("status", 1, Number)],
        "Cluster" => &[
            ("name", 1, Text),
            (
                "type",
                2,
                Name(&["STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS"]),
            ),
            ("eds_cluster_config", 3, Message("EdsClusterConfig")),
            ("connect_timeout", 4, Duration),
            ("load_assignment", 33, Message("ClusterLoadAssignment")),
        ],
        "EdsClusterConfig" => &[("eds_config", 1, Message("ConfigSource"))],
        "ClusterLoadAssignment" => &[
            ("cluster_name", 1, Text),
            ("endpoints", 2, Message("LocalityLbEndpoints")),
        ],
        "LocalityLbEndpoints" => &[
            ("lb_endpoints", 2, Message("LbEndpoint")),
            ("priority", 5, Number),
        ],
        "LbEndpoint" => &[("endpoint", 1, Message("Endpoint"))],
        "Endpoint" => &[("address", 1, Message("Address"))],
        "Secret" => &[
            ("name", 1, Text),
            ("tls_certificate", 2, Message("TlsCertificate")),
            (
                "validation_context",
                4,
                Message("CertificateValidationContext"),
            ),
        ],
        "TlsCertificate" => &[
            ("certificate_chain", 1, Message("DataSource")),
            ("private_key", 2, Message("DataSource")),
        ],
        "CertificateValidationContext" => &[("trusted_ca", 1, Message("DataSource"))],
        "DataSource" => &[("inline_string", 3, Text)],
        "DownstreamTlsContext" => &[("common_tls_context", 1, Message("CommonTlsContext"))],
        "CommonTlsContext" => &[(
            "tls_certificate_sds_secret_configs",
            6,
            Message("SdsSecretConfig"),
        )],
        "SdsSecretConfig" => &[
            ("name", 1, Text),
            ("sds_config", 2, Message("ConfigSource")),
        ],
        _ => return None,
    })
}

/// The resource with its type.
///
/// # Panics
///
/// When it has a message, a field or a value that the tables do not have.
pub(super) fn any(resource: &Value) -> Any {
    let object = resource.as_object().expect("a resource is a JSON object");
    let url = object.get("@type").and_then(Value::as_str);
    let url = url.expect("a resource has an @type");
    let name = url
        .strip_prefix(TYPES)
        .and_then(|url| url.rsplit('.').next());
    Any {
        type_url: url.to_owned(),
        value: message(name.unwrap_or_default(), object),
    }
}

fn message(name: &str, object: &Map<String, Value>) -> Vec<u8> {
    let fields = fields(name).unwrap_or_else(|| panic!("no table for the message {name:?}"));
    let mut bytes = Vec::new();
    for (key, value) in object.iter().filter(|(key, _)| *key != "@type") {
        let (_, tag, form) = fields
            .iter()
            .find(|(field, ..)| field == key)
            .unwrap_or_else(|| panic!("the table of {name} has no field {key:?}"));
        match value {
            Value::Array(values) => {
                for value in values {
                    field(*tag, *form, value, &mut bytes);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => field(*tag, *form, value, &mut bytes),
        }
    }
    bytes
}

fn field(tag: u32, form: Form, value: &Value, bytes: &mut Vec<u8>) {
    match written(form, value) {
        Some(Written::Varint(number)) => {
            encode_key(tag, WireType::Varint, bytes);
            encode_varint(number, bytes);
        }
        Some(Written::Bytes(content)) => {
            encode_key(tag, WireType::LengthDelimited, bytes);
            encode_varint(u64::try_from(content.len()).unwrap_or_default(), bytes);
            bytes.put_slice(&content);
        }
        None => panic!("the value does not fit its field: {value}"),
    }
}

enum Written {
    Varint(u64),
    Bytes(Vec<u8>),
}

fn written(form: Form, value: &Value) -> Option<Written> {
    Some(match form {
        Form::Text => Written::Bytes(value.as_str()?.as_bytes().to_vec()),
        Form::Number => {
            let number = value.as_u64().or_else(|| value.as_bool().map(u64::from));
            Written::Varint(number?)
        }
        Form::Name(names) => {
            let name = value.as_str()?;
            let place = names.iter().position(|one| *one == name)?;
            Written::Varint(u64::try_from(place).ok()?)
        }
        Form::Duration => Written::Bytes(duration(value.as_str()?)?),
        Form::Message(name) => Written::Bytes(message(name, value.as_object()?)),
        Form::Any => Written::Bytes(any(value).encode_to_vec()),
    })
}

/// `google.protobuf.Duration`: seconds and nanoseconds.
fn duration(text: &str) -> Option<Vec<u8>> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let time = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    let mut bytes = Vec::new();
    for (tag, value) in [(1, time.as_secs()), (2, u64::from(time.subsec_nanos()))] {
        if value > 0 {
            encode_key(tag, WireType::Varint, &mut bytes);
            encode_varint(value, &mut bytes);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_is_written_with_its_tags_and_without_its_type() {
        let cluster = json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": "b", "type": "EDS", "connect_timeout": "1.5s",
        });
        let written = any(&cluster);
        assert_eq!(written.type_url, cluster["@type"]);
        let name = [0x0a, 1, b'b'];
        let kind = [0x10, 3];
        let time = [0x22, 8, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
        for part in [&name[..], &kind, &time] {
            let mut windows = written.value.windows(part.len());
            assert!(windows.any(|bytes| bytes == part), "{written:?}");
        }
        assert_eq!(written.value.len(), name.len() + kind.len() + time.len());
    }

    #[test]
    #[should_panic(expected = "the table of Cluster has no field \"nam\"")]
    fn a_field_without_a_tag_is_refused() {
        message("Cluster", json!({"nam": "b"}).as_object().unwrap());
    }
}
