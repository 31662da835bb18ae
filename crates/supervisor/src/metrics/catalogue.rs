//! Every metric family: its name, type, help text and labels. What is exported, documented and asked for by
//! the shipped rules and dashboard is compared with this list.

use std::fmt;

use crate::statistics::NotScraped;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A number that only grows while the process lives.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
    /// Text in labels; the value is always 1.
    Info,
}

/// The unit of a family, which its name ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A label of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name of the label.
    pub name: &'static str,
    /// All values, where the list is short and closed. Otherwise it is empty.
    pub values: &'static [&'static str],
    /// What bounds the number of values, where there is no list.
    pub bound: &'static str,
}

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name without its unit and its suffix.
    pub(super) base: &'static str,
    /// The unit, if the family has one.
    pub unit: Option<Unit>,
    /// The type.
    pub kind: Kind,
    /// The help text: one sentence.
    pub help: &'static str,
    /// The labels.
    pub labels: &'static [Label],
}

impl Family {
    /// Returns the name of the samples, as a query writes it. A histogram has `_bucket`, `_sum` and `_count` after
    /// it.
    #[must_use]
    pub fn name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{suffix}", self.base)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        })
    }
}

const fn closed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label {
        name,
        values,
        bound: "",
    }
}

const fn bounded(name: &'static str, bound: &'static str) -> Label {
    Label {
        name,
        values: &[],
        bound,
    }
}

/// The states of an epoch.
pub(super) const STATES: &[&str] = &["starting", "live", "draining", "aborting"];
/// Why a desired configuration is not started.
pub(super) const HELD: &[&str] = &[
    "starting",
    "aborting",
    "cap",
    "retry",
    "interval",
    "given_up",
    "not_restarted",
    "numbers_used_up",
];
/// How a start ends. The first of these that is true counts.
pub(super) const RESULTS: &[&str] = &[
    "live",
    "start_failed",
    "timed_out",
    "gave_way",
    "withdrawn",
    "exited",
];
/// Why a configuration is given up.
pub(super) const REASONS: &[&str] = &["budget_spent", "permanent", "unfit"];
/// What follows from evidence against an epoch.
pub(super) const VERDICTS: &[&str] = &["replaced", "left"];
/// The stages of a hand-over.
pub(super) const STAGES: &[&str] = &["validate", "start", "probation", "drain"];
/// Classes of exit codes.
pub(super) const CODES: &[&str] = &["0", "1", "2_to_125", "126_to_255"];

pub(super) const NOT_SCRAPED_FOR: &[&str] = NotScraped::LABELS;

const RESULT: &[Label] = &[closed("result", RESULTS)];
const NONE: &[Label] = &[];

const fn family(
    base: &'static str,
    kind: Kind,
    labels: &'static [Label],
    help: &'static str,
) -> Family {
    Family {
        base,
        unit: None,
        kind,
        help,
        labels,
    }
}

const fn in_unit(unit: Unit, family: Family) -> Family {
    Family {
        unit: Some(unit),
        ..family
    }
}

macro_rules! families {
    ($($name:ident = $family:expr;)*) => {
        $(pub(super) static $name: Family = $family;)*
        /// Every family, in the order in which they are exported.
        pub static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

families! {
    BUILD = family("handover_build", Kind::Info, &[bounded("version", "one: that of the process")],
        "The version of handover.");
    READY = family("handover_ready", Kind::Gauge, NONE,
        "Whether an epoch is live and a look has found nothing that keeps clients out, 0 or 1.");
    CURRENT = family("handover_configuration_current", Kind::Gauge, NONE,
        "Whether what serves is what the files ask for, 0 or 1.");
    DEGRADED = family("handover_degraded", Kind::Gauge, NONE,
        "Whether an older configuration serves because the desired one was given up, 0 or 1.");
    ENDING = family("handover_ending", Kind::Gauge, NONE,
        "Whether the end of everything has begun, 0 or 1.");
    EPOCHS = family("handover_epochs", Kind::Gauge, &[closed("state", STATES)],
        "Running epochs by state.");
    LIVE_EPOCH = family("handover_live_epoch", Kind::Gauge, NONE,
        "The number of the newest live epoch; absent while none is live.");
    HELD_FOR = family("handover_held", Kind::Gauge, &[closed("reason", HELD)],
        "Whether the desired configuration is not started for this reason, 0 or 1.");
    RETRIES_LEFT = family("handover_retries_left", Kind::Gauge, NONE,
        "Retries that the desired configuration has left; absent while nothing is desired.");
    ON_PROBATION = family("handover_on_probation", Kind::Gauge, NONE,
        "Whether the live epoch is on probation, 0 or 1.");
    UNFIT = family("handover_unfit", Kind::Gauge, NONE,
        "Whether an epoch was found unfit and no later configuration has passed its probation, 0 or 1.");
    RELOAD_SUCCESSFUL = family("handover_last_reload_successful", Kind::Gauge, NONE,
        "Whether the last reload that came to a result was successful, 0 or 1; absent until the first result.");
    RELOAD_TIMESTAMP = in_unit(Unit::Seconds, family("handover_last_reload_success_timestamp", Kind::Gauge, NONE,
        "When the desired configuration last went live, or was read again and served already, in seconds since 1970; absent until then."));
    FAILED_READS = family("handover_failed_reads", Kind::Counter, NONE,
        "Reads of the configuration that have failed, so that what ran went on.");
    FAILED_HOOKS = family("handover_failed_hooks", Kind::Counter, NONE,
        "Hooks that have failed, were not done in time, or could not be run.");
    NOT_SCRAPED = family("handover_stats_scrape_errors", Kind::Counter, &[closed("reason", NOT_SCRAPED_FOR)],
        "Times that an epoch was asked for its statistics and they are not known.");
    STARTED = family("handover_epochs_started", Kind::Counter, NONE,
        "Epochs that were started to serve.");
    FAILED = family("handover_epochs_failed", Kind::Counter, NONE,
        "Epochs that have failed, in whichever state.");
    RETRIES = family("handover_retries", Kind::Counter, NONE,
        "Starts that were postponed after a failure.");
    HAND_OVERS = family("handover_hand_overs", Kind::Counter, RESULT,
        "Starts beside a live epoch, by their result.");
    FIRST_STARTS = family("handover_first_starts", Kind::Counter, RESULT,
        "Starts while no epoch was live, by their result.");
    GAVE_UP = family("handover_gave_up", Kind::Counter, &[closed("reason", REASONS)],
        "Desired configurations that were given up.");
    UNFIT_VERDICTS = family("handover_unfit_verdicts", Kind::Counter, &[closed("outcome", VERDICTS)],
        "Live epochs that were found unfit: the former configuration has taken over, or there was none.");
    EXITS = family("handover_epoch_exits", Kind::Counter, &[
        bounded("cause", "the words of `last_exit.cause` in the status, about 20"),
        bounded("signal", "the signals of Linux; only if one has ended the process"),
        closed("code", CODES),
    ], "Processes of epochs that have ended, by cause; the signal or the class of the exit code is a label where there is one.");
    CUT_CONNECTIONS = family("handover_cut_connections", Kind::Counter, NONE,
        "Connections that clients had when an epoch was looked at last before its end; absent until such a number was known.");
    UNCOUNTED_ENDS = family("handover_uncounted_ends", Kind::Counter, NONE,
        "Ends of epochs that had served and whose remaining connections were not known.");
    STAGE = in_unit(Unit::Seconds, family("handover_stage_duration", Kind::Histogram, &[closed("stage", STAGES)],
        "How long the stages of a hand-over took."));
    ENVOY = family("handover_envoy", Kind::Info, &[bounded("version", "one: that of the epoch that went live last")],
        "The version of the Envoy that went live last; absent until then and for other servers.");
    BASE_ID = family("handover_envoy_base_id", Kind::Gauge, NONE,
        "The base id of the Envoy that went live last; absent until then and for other servers.");
    CPU = in_unit(Unit::Seconds, family("process_cpu", Kind::Counter, NONE,
        "Processor time that handover itself has used."));
    RESIDENT = in_unit(Unit::Bytes, family("process_resident_memory", Kind::Gauge, NONE,
        "Memory that handover itself has in RAM."));
    VIRTUAL = in_unit(Unit::Bytes, family("process_virtual_memory", Kind::Gauge, NONE,
        "Address space that handover itself has."));
    OPEN_FDS = family("process_open_fds", Kind::Gauge, NONE,
        "Descriptors that handover itself has open.");
    MAX_FDS = family("process_max_fds", Kind::Gauge, NONE,
        "Descriptors that handover itself may have open; absent if there is no limit.");
    START_TIME = in_unit(Unit::Seconds, family("process_start_time", Kind::Gauge, NONE,
        "When handover itself was started, in seconds since 1970."));
}

/// The upper bounds of the buckets, in seconds: from a warm start to a drain of ten minutes.
pub(super) const BUCKETS: [f64; 15] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// Returns the list of all families as a table in Markdown.
#[must_use]
pub fn table() -> String {
    let mut table = "| name | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(describe).collect();
        let row = format!(
            "| `{}` | {} | {} | {} |\n",
            family.name(),
            family.kind,
            labels.join("; "),
            family.help
        );
        table.push_str(&row);
    }
    table
}

fn describe(label: &Label) -> String {
    let name = label.name;
    if label.values.is_empty() {
        return format!("`{name}` ({})", label.bound);
    }
    let values: Vec<String> = label
        .values
        .iter()
        .map(|value| format!("`{value}`"))
        .collect();
    format!("`{name}`: {}", values.join(", "))
}
