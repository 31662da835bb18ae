//! The text that Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{self, Registry};

use super::catalogue::{Kind, Unit};
use super::samples::{Labels, Samples, Value};

/// A format in which metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `OpenMetrics` 1.0.
    #[default]
    OpenMetrics,
    /// The text format of Prometheus, for readers that do not know the other one.
    Text,
}

/// All metrics at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exposition {
    /// The value of the header `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

impl Format {
    /// Returns the format for a request with this header `Accept`. Only a reader that takes plain text, and does
    /// not name `OpenMetrics`, gets [`Format::Text`].
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        match accept.contains("text/plain") && !accept.contains("application/openmetrics-text") {
            true => Self::Text,
            false => Self::OpenMetrics,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes samples.
pub(super) fn encode(samples: Vec<Samples>, format: Format) -> Exposition {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All(samples)));
    let mut body = String::new();
    let written = match format {
        Format::OpenMetrics => text::encode(&mut body, &registry),
        Format::Text => prometheus_text::encode(&mut body, &registry),
    };
    if let Err(error) = written {
        // A string takes all that is written, and every family has a type that its samples have.
        tracing::error!("a bug: the metrics were not written: {error}");
        body.clear();
    }
    Exposition {
        content_type: format.content_type(),
        body,
    }
}

/// All samples, written as a registry asks for them.
#[derive(Debug)]
struct All(Vec<Samples>);

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Samples { family, samples } in &self.0 {
            let unit = family.unit.map(|unit| match unit {
                Unit::Seconds => registry::Unit::Seconds,
                Unit::Bytes => registry::Unit::Bytes,
            });
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut encoder =
                encoder.encode_descriptor(family.base, family.help, unit.as_ref(), kind)?;
            for (labels, value) in samples {
                write(&mut encoder, family.kind, labels, value)?;
            }
        }
        Ok(())
    }
}

fn write(
    encoder: &mut MetricEncoder<'_>,
    kind: Kind,
    labels: &Labels,
    value: &Value,
) -> fmt::Result {
    if let Value::Text = value {
        // The labels are the value, so they are written with it.
        return encoder.encode_info(labels);
    }
    let encoder = encoder.encode_family(labels)?;
    match (kind, value) {
        (Kind::Counter, Value::Whole(number)) => ConstCounter::new(*number).encode(encoder),
        (Kind::Counter, Value::Fraction(number)) => ConstCounter::new(*number).encode(encoder),
        (_, Value::Whole(number)) => ConstGauge::new(*number).encode(encoder),
        (_, Value::Fraction(number)) => ConstGauge::new(*number).encode(encoder),
        (_, Value::Buckets(histogram)) => histogram.encode(encoder),
        (_, Value::Text) => Info::new(labels.clone()).encode(encoder),
    }
}
