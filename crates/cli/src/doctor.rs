//! What will go wrong on this host: facts go in, findings come out.
//!
//! [`CHECKS`] has every check, each of which is a pure function of the [`Facts`]. `gather` is the only
//! part that looks at the host. A fact that is not there is unknown and never a fault: a container
//! without `/sys`, or a user without rights, gets findings about the rest.

mod base_ids;
mod configuration;
mod facts;
mod gather;
mod host;
mod memory;
mod report;
mod service;
#[cfg(test)]
mod tests;
mod transports;
mod variables;
mod watched;

use serde::Serialize;

pub(crate) use facts::{ConfigurationFacts, Facts, GracePeriod, Known, Settings, Unknown};
pub(crate) use gather::{Places, Scope, config_facts, file_facts, gather, no_answer};
pub(crate) use report::Report;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Nothing is wrong, or it is unknown whether something is.
    Information,
    /// Requests may be lost.
    Warning,
    /// Requests will be lost, or Envoy does not start.
    Error,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    severity: Severity,
    value: String,
    reason: String,
    remedy: Option<String>,
}

impl Verdict {
    fn good(value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            severity: Severity::Information,
            value: value.into(),
            reason: reason.into(),
            remedy: None,
        }
    }

    fn warning(
        value: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            remedy: Some(remedy.into()),
            ..Self::good(value, reason)
        }
    }

    fn error(
        value: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            ..Self::warning(value, reason, remedy)
        }
    }

    /// Nothing is known, for this reason. `how` says how it could be known.
    fn unknown(why: &Unknown, how: impl Into<String>) -> Self {
        Self {
            remedy: Some(how.into()),
            ..Self::good("unknown", why.to_string())
        }
    }
}

/// A check. The table of `docs/doctor.md` has one row for each.
#[derive(Debug)]
pub(crate) struct Check {
    /// The stable name.
    pub(crate) name: &'static str,
    /// What is looked at.
    pub(crate) about: &'static str,
    /// The worst that it can find, by which no finding is worse than the table says.
    pub(crate) worst: Severity,
    /// Whether `run` logs what it finds. The others are about what the start says by itself, or they
    /// are no news beside an Envoy that runs.
    pub(crate) logged: bool,
    judge: fn(&Facts) -> Verdict,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    /// What the check looks at.
    pub(crate) about: &'static str,
    pub(crate) severity: Severity,
    pub(crate) value: String,
    pub(crate) reason: String,
    pub(crate) remedy: Option<String>,
}

/// Every check, in the order in which findings are shown.
pub(crate) const CHECKS: &[Check] = &[
    host::KERNEL_VERSION,
    host::DEV_SHM_ACCESS,
    host::DEV_SHM_SIZE,
    host::INOTIFY_INSTANCES,
    host::INOTIFY_WATCHES,
    host::OPEN_FILES,
    memory::MEMORY_LIMIT,
    memory::MEMORY_PRESSURE,
    service::SERVICE_TYPE,
    service::KILL_MODE,
    service::GRACE_PERIOD,
    service::DRAIN_TIMES,
    base_ids::BASE_ID,
    base_ids::BASE_ID_NEIGHBOURS,
    base_ids::NETWORK_NAMESPACE,
    configuration::ENVOY_BINARY,
    configuration::CONFIGURATION,
    configuration::ADMIN_ADDRESS,
    configuration::ADMIN_REACHABLE,
    configuration::ADMIN_PATHS,
    configuration::STATS_MATCHER,
    configuration::PROBATION_STATISTICS,
    configuration::DRAIN_TIMEOUT,
    transports::CONCURRENCY,
    transports::REUSE_PORT,
    transports::UDP_LISTENERS,
    transports::QUIC_LISTENERS,
    transports::UNIX_LISTENERS,
    transports::LISTENER_NAMESPACES,
    transports::LONG_STREAMS,
    watched::MOUNTED_FILE,
    watched::FILE_SYSTEM,
    watched::WATCHED_PATHS,
    variables::FOREIGN_VARIABLES,
];

/// Asks every check.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    findings(CHECKS.iter(), facts)
}

/// Asks the checks whose findings `run` logs, and returns what is wrong.
pub(crate) fn examine_at_start(facts: &Facts) -> Vec<Finding> {
    let mut found = findings(CHECKS.iter().filter(|check| check.logged), facts);
    found.retain(|finding| finding.severity > Severity::Information);
    found
}

fn findings(checks: impl Iterator<Item = &'static Check>, facts: &Facts) -> Vec<Finding> {
    let finding = |check: &Check| {
        let verdict = (check.judge)(facts);
        Finding {
            name: check.name,
            about: check.about,
            severity: verdict.severity.min(check.worst),
            value: verdict.value,
            reason: verdict.reason,
            remedy: verdict.remedy,
        }
    };
    checks.map(finding).collect()
}
