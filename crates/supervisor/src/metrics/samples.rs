//! From numbers to samples: which family each number belongs to, and with which labels.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::histogram::Histogram;

use super::catalogue::{self as list, Family};
use super::count::{End, Seen};
use super::own::Figures;

/// The labels of a sample, as far as they have values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The samples of a family, of which there is at least one.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) family: &'static Family,
    pub(super) samples: Vec<(Labels, Value)>,
}

/// The value of a sample.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Whole(u64),
    Fraction(f64),
    Buckets(Histogram),
    /// The labels are the value.
    Text,
}

impl Seen<'_> {
    /// Returns all that is known, in the order of the catalogue. A family of which nothing is known is not
    /// there.
    pub(super) fn samples(&self, own: &Figures) -> Vec<Samples> {
        let (metrics, state) = (self.metrics, &self.state);
        let gauges = metrics.gauges;
        let counters = metrics.counters;
        let version = |version: &str| vec![(vec![("version", version.to_owned())], Value::Text)];
        let reload = metrics.reload;
        let families = [
            (&list::BUILD, version(env!("CARGO_PKG_VERSION"))),
            (&list::READY, flag(gauges.ready)),
            (&list::CURRENT, flag(gauges.current)),
            (&list::DEGRADED, flag(state.degraded)),
            (&list::ENDING, flag(gauges.ending)),
            (&list::EPOCHS, each("state", list::STATES, state.epochs)),
            (
                &list::LIVE_EPOCH,
                known(state.live.map(|epoch| u64::from(epoch.number()))),
            ),
            (&list::HELD_FOR, reasons(state.held)),
            (
                &list::RETRIES_LEFT,
                known(state.retries_left.map(u64::from)),
            ),
            (&list::ON_PROBATION, flag(state.on_probation)),
            (&list::UNFIT, flag(gauges.unfit)),
            (
                &list::RELOAD_SUCCESSFUL,
                known(reload.successful.map(u64::from)),
            ),
            (&list::RELOAD_TIMESTAMP, time(reload.succeeded_at)),
            (&list::FAILED_READS, whole(metrics.failed_reads)),
            (&list::FAILED_HOOKS, whole(metrics.failed_hooks)),
            (
                &list::NOT_SCRAPED,
                counted("reason", list::NOT_SCRAPED_FOR, &metrics.not_scraped),
            ),
            (&list::STARTED, whole(counters.started)),
            (&list::FAILED, whole(counters.failed)),
            (&list::RETRIES, whole(counters.retries)),
            (
                &list::HAND_OVERS,
                counted("result", list::RESULTS, &metrics.hand_overs),
            ),
            (
                &list::FIRST_STARTS,
                counted("result", list::RESULTS, &metrics.first_starts),
            ),
            (
                &list::GAVE_UP,
                counted("reason", list::REASONS, &metrics.gave_up),
            ),
            (
                &list::UNFIT_VERDICTS,
                counted("outcome", list::VERDICTS, &metrics.verdicts),
            ),
            (&list::EXITS, exits(&metrics.exits)),
            (&list::CUT_CONNECTIONS, known(metrics.cut_connections)),
            (&list::UNCOUNTED_ENDS, whole(metrics.uncounted_ends)),
            (&list::STAGE, stages(&metrics.stages)),
            (
                &list::ENVOY,
                metrics.envoy.as_deref().map(version).unwrap_or_default(),
            ),
            (&list::BASE_ID, known(metrics.base_id.map(u64::from))),
            (&list::CPU, fraction(own.cpu_seconds)),
            (&list::RESIDENT, known(own.resident_bytes)),
            (&list::VIRTUAL, known(own.virtual_bytes)),
            (&list::OPEN_FDS, known(own.open_fds)),
            (&list::MAX_FDS, known(own.max_fds)),
            (&list::START_TIME, fraction(own.start_seconds)),
        ];
        let families = families.into_iter();
        let families = families.filter(|(_, samples)| !samples.is_empty());
        families
            .map(|(family, samples)| Samples { family, samples })
            .collect()
    }
}

fn whole(number: u64) -> Vec<(Labels, Value)> {
    vec![(Vec::new(), Value::Whole(number))]
}

fn known(number: Option<u64>) -> Vec<(Labels, Value)> {
    number.map(whole).unwrap_or_default()
}

fn flag(is_so: bool) -> Vec<(Labels, Value)> {
    whole(u64::from(is_so))
}

fn fraction(number: Option<f64>) -> Vec<(Labels, Value)> {
    let number = number.map(|number| (Vec::new(), Value::Fraction(number)));
    number.into_iter().collect()
}

fn time(at: Option<SystemTime>) -> Vec<(Labels, Value)> {
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    fraction(since.map(|since| since.as_secs_f64()))
}

/// A sample for each value of a label.
fn each<const N: usize>(
    label: &'static str,
    values: &[&'static str],
    numbers: [u64; N],
) -> Vec<(Labels, Value)> {
    let samples = values.iter().zip(numbers);
    samples
        .map(|(value, number)| (vec![(label, (*value).to_owned())], Value::Whole(number)))
        .collect()
}

/// A counter for each value of a label. It begins with zero: a counter that appears with its first event
/// would hide that event from `increase()`.
fn counted(
    label: &'static str,
    values: &[&'static str],
    counts: &BTreeMap<&'static str, u64>,
) -> Vec<(Labels, Value)> {
    let count = |value: &&'static str| {
        let number = counts.get(value).copied().unwrap_or_default();
        (vec![(label, (*value).to_owned())], Value::Whole(number))
    };
    values.iter().map(count).collect()
}

fn reasons(held: Option<&'static str>) -> Vec<(Labels, Value)> {
    let reason = |reason: &&'static str| {
        let is_so = held == Some(*reason);
        (
            vec![("reason", (*reason).to_owned())],
            Value::Whole(u64::from(is_so)),
        )
    };
    list::HELD.iter().map(reason).collect()
}

fn exits(exits: &BTreeMap<End, u64>) -> Vec<(Labels, Value)> {
    let exit = |(end, count): (&End, &u64)| {
        let mut labels = vec![("cause", end.cause.to_owned())];
        labels.extend(end.signal.clone().map(|signal| ("signal", signal)));
        labels.extend(end.code.map(|code| ("code", code.to_owned())));
        (labels, Value::Whole(*count))
    };
    exits.iter().map(exit).collect()
}

fn stages(stages: &BTreeMap<&'static str, Histogram>) -> Vec<(Labels, Value)> {
    let stages = stages.iter();
    stages
        .map(|(stage, histogram)| {
            let labels = vec![("stage", (*stage).to_owned())];
            (labels, Value::Buckets(histogram.clone()))
        })
        .collect()
}
