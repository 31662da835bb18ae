//! Whether an epoch that is live can do its work, from what its admin endpoint answers.
//!
//! What was there before must be known before the next epoch is started, because that takes the
//! admin endpoint over. So the epoch that serves is looked at before each start:
//!
//! ```text
//!   the epoch that serves           what is remembered
//!   has passed its probation   ──>  this look at it; nothing, if it was not seen
//!   is on probation itself     ──>  what was remembered of the one before; this look, if that was not seen lately
//!   there is none              ──>  nothing
//! ```
//!
//! So an epoch that lacks something is never the measure for the next one, and one that has followed
//! a failed start is compared with what served before that. If nobody could see that, one on probation is a
//! better measure than none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::Epoch;
use handover_runtime::Shortage;
use handover_tokio::error_chain;

use super::absence::{Listeners, missing};
use super::cluster_absence::{self, Comparison, Look, Missing};
use super::gate::{self, Had, Has};
use crate::adapter::EnvoyConfig;
use crate::adapter::examination::{ClusterCounts, Examination, MissingCluster, RequestTotals};
use crate::admin::{ActiveListener, AdminError, Certificates, Fetched, Kept, RequestCounter};
use crate::text::one_line;

/// How old a look at an epoch may be that has lost its admin endpoint to a start that has failed.
const OLDEST: Duration = Duration::from_secs(60);

/// What is waited for while the older epoch may still tell that a cluster was removed.
const OF_THE_OLDER_ONE: &str = "the statistics of the epoch before, which tell of removed clusters";

/// What was seen of the running epochs.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Evidence {
    before: Option<Before>,
    clusters: Comparison,
    counted: Counted,
}

/// The process of an epoch, which is live.
#[derive(Clone, Debug)]
pub(in crate::adapter) struct Subject {
    pub(in crate::adapter) epoch: Epoch,
    pub(in crate::adapter) pid: u32,
    pub(in crate::adapter) config: Arc<EnvoyConfig>,
    /// Whether it was started with a gate, whose cluster counts as none.
    pub(in crate::adapter) is_gated: bool,
}

/// The epoch with which newer ones are compared.
#[derive(Debug)]
struct Before {
    subject: Subject,
    is_proven: bool,
    seen: Option<Seen>,
    at: Instant,
    /// The look is older than [`OLDEST`] when the next epoch is started.
    is_old: bool,
}

impl Before {
    /// What was seen of it, if that is not too long ago to find a live epoch unfit by it. To hold one that
    /// waits for its control plane costs nothing, so there it counts however old it is.
    fn seen_lately(&self) -> Option<&Seen> {
        self.seen.as_ref().filter(|_| !self.is_old)
    }
}

/// What was seen of it.
#[derive(Clone, Debug)]
struct Seen {
    listeners: Option<Vec<ActiveListener>>,
    waits_for: Option<Vec<String>>,
    received: Option<Vec<String>>,
    /// The same, but for what the statistics may leave out, and without certificates that were never of use.
    received_at_least: Vec<String>,
    /// The active clusters that were fetched.
    clusters: Option<BTreeSet<String>>,
    /// Whether it is known which certificates were of use.
    knows_certificates: bool,
}

/// What an admin endpoint answers.
#[derive(Debug)]
pub(in crate::adapter) struct Answers {
    pub(in crate::adapter) listeners: Result<Vec<ActiveListener>, AdminError>,
    /// The listeners that are warming, in words. `None` where this was not asked.
    pub(in crate::adapter) warming: Option<Result<Vec<String>, AdminError>>,
    /// What is fetched.
    pub(in crate::adapter) fetched: Option<Result<Fetched, AdminError>>,
    /// The fetched certificates that are in no use.
    pub(in crate::adapter) certificates: Option<Result<Certificates, AdminError>>,
    /// The counters of requests and of removed clusters that are not zero.
    pub(in crate::adapter) requests: Option<Result<Vec<(String, u64)>, AdminError>>,
    /// When it was asked.
    pub(in crate::adapter) at: Instant,
}

impl Answers {
    /// Makes those of an endpoint that was not asked for anything else.
    pub(in crate::adapter) fn only(
        listeners: Result<Vec<ActiveListener>, AdminError>,
        at: Instant,
    ) -> Self {
        Self {
            listeners,
            warming: None,
            fetched: None,
            certificates: None,
            requests: None,
            at,
        }
    }

    /// Returns the active clusters that were fetched, if they are known.
    fn clusters(&self, config: &EnvoyConfig) -> Option<BTreeSet<String>> {
        let fetched = self.fetched(config)?;
        let are_known = cluster_absence::are_known(config, fetched);
        (are_known && !fetched.clusters.some_are_removed)
            .then(|| cluster_absence::fetched_ones(config, &fetched.clusters))
    }

    /// Returns why a question of these has no answer, if it may have one next time: nothing came, or too
    /// late, or it was not asked for a shortage here.
    pub(in crate::adapter) fn unanswered(&self) -> Option<String> {
        let fetched = self.fetched.as_ref().and_then(|it| it.as_ref().err());
        let certificates = self.certificates.as_ref().and_then(|it| it.as_ref().err());
        let listeners = self.listeners.as_ref().err().into_iter();
        let mut errors = listeners.chain(fetched).chain(certificates);
        let unanswered = errors.find(|error| !error.is_refusal());
        unanswered.map(|error| error_chain(error))
    }

    /// Returns the fetched certificates that are in no use, as far as they are known.
    fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()?.as_ref().ok()
    }

    /// Returns what has come and was of use, as far as it is known.
    fn received_at_least(&self) -> Vec<String> {
        let received = self.fetched_at_least().map(|it| it.received.as_slice());
        let never_used = self.certificates().map(|it| it.never_used.as_slice());
        let never_used = never_used.unwrap_or_default();
        let received = received.unwrap_or_default().iter();
        received
            .filter(|name| !never_used.contains(name))
            .cloned()
            .collect()
    }

    /// Returns what is fetched, as far as it is known.
    fn fetched_at_least(&self) -> Option<&Fetched> {
        self.fetched.as_ref()?.as_ref().ok()
    }

    /// Returns what is fetched, if all of it is known.
    fn fetched(&self, config: &EnvoyConfig) -> Option<&Fetched> {
        let fetched = self.fetched.as_ref()?.as_ref().ok()?;
        let is_whole = Kept::by(&config.bootstrap().stats).versions;
        is_whole.then_some(fetched)
    }

    /// Returns why the endpoint is silent, if it is. Whatever comes back shows that somebody is awake, and
    /// a shortage here that it was not asked.
    pub(in crate::adapter) fn silence(&self) -> Option<String> {
        match &self.listeners {
            Err(error) if Shortage::of(error).is_some() => None,
            Err(
                error @ (AdminError::Connect { .. }
                | AdminError::Http { .. }
                | AdminError::TimedOut { .. }),
            ) => Some(error_chain(error)),
            Err(
                AdminError::TooLarge { .. }
                | AdminError::Status { .. }
                | AdminError::Unexpected { .. }
                | AdminError::NoGauge { .. },
            )
            | Ok(_) => None,
        }
    }
}

impl Evidence {
    /// Returns whether the epoch that serves must be looked at before another one is started.
    pub(in crate::adapter) fn must_look(&self, is_proven: bool) -> bool {
        let is_better = |before: &Before| before.is_proven && before.seen_lately().is_some();
        is_proven || !self.before.as_ref().is_some_and(is_better)
    }

    /// Takes in that an epoch is about to be started beside none.
    pub(in crate::adapter) fn forget(&mut self) {
        self.before = None;
    }

    /// Takes in a look at the epoch that serves, before another one is started. `None` stands for a look
    /// that was not over in time.
    pub(in crate::adapter) fn remember(
        &mut self,
        subject: Subject,
        is_proven: bool,
        answers: Option<&Answers>,
        now: Instant,
    ) {
        let seen = answers.and_then(|answers| {
            // Each may be refused by itself. Without both there is nothing to compare with.
            if answers.listeners.is_err() && answers.fetched_at_least().is_none() {
                return None;
            }
            let (waits_for, is_whole) = waits_for(answers, &subject.config);
            let fetched = answers.fetched(&subject.config);
            Some(Seen {
                listeners: answers.listeners.as_ref().ok().cloned(),
                waits_for: is_whole.then_some(waits_for),
                received: fetched.map(|fetched| fetched.received.clone()),
                received_at_least: answers.received_at_least(),
                knows_certificates: !matches!(answers.certificates, Some(Err(_))),
                clusters: answers.clusters(&subject.config),
            })
        });
        if seen.is_none()
            && let Some(before) = &mut self.before
            && before.subject.pid == subject.pid
        {
            // A start that has failed has taken its admin endpoint away, and no better look can come.
            before.is_proven = is_proven;
            before.is_old = now.saturating_duration_since(before.at) > OLDEST;
            return;
        }
        self.before = Some(Before {
            subject,
            is_proven,
            seen,
            at: now,
            is_old: false,
        });
    }

    /// Takes in what an epoch has answered, and returns what that shows: `None` if it was not certain
    /// that this epoch has the endpoint. A child waits for its parent, so where an older epoch of its
    /// lineage is stopped, its silence is not its own.
    pub(in crate::adapter) fn examine(
        &mut self,
        subject: &Subject,
        answers: Option<&Answers>,
        older_is_stopped: bool,
    ) -> Examination {
        let nothing = |why: &str| Examination {
            not_seen: vec![why.to_owned()],
            ..Examination::default()
        };
        let Some(answers) = answers else {
            return nothing("a newer epoch has the admin endpoint, or is about to take it over");
        };
        let silent = answers.silence();
        if silent.is_some() {
            return match older_is_stopped {
                true => nothing("the epoch waits for an older one, which is stopped"),
                false => Examination {
                    silent,
                    ..Examination::default()
                },
            };
        }
        let mut examination = Examination {
            not_seen: not_seen(answers, &subject.config),
            ..Examination::default()
        };
        let before = before_of(self.before.as_ref(), subject);
        if let Ok(listeners) = &answers.listeners {
            examination.missing = before.and_then(|before| {
                let seen = before.seen_lately()?;
                let older = listeners_of(&before.subject.config, seen.listeners.as_deref()?);
                Some(missing(older, listeners_of(&subject.config, listeners)))
            });
            examination.listeners = Some(listeners.clone());
        }
        let (mut waits, is_whole) = waits_for(answers, &subject.config);
        let waited = before.map(|before| before.seen_lately()?.waits_for.as_ref());
        match waited {
            // What the older one has waited for says nothing against the newer one.
            Some(Some(waited)) => waits.retain(|name| !waited.contains(name)),
            Some(None) => waits.clear(),
            None => {}
        }
        let is_known = is_whole && waited != Some(None);
        examination.waits_for = (is_known || !waits.is_empty()).then_some(waits);
        examination.lost = before.and_then(|before| {
            let received = before.seen_lately()?.received.as_ref()?;
            let awaited = answers.fetched(&subject.config)?.awaited.iter();
            Some(
                awaited
                    .filter(|name| received.contains(name))
                    .cloned()
                    .collect(),
            )
        });
        examination.clusters = clusters(answers, subject.is_gated);
        if let Some(clusters) = self.missing_clusters(subject, answers) {
            let lacks_listeners = (examination.missing.as_ref()).is_some_and(|it| !it.is_empty());
            match (clusters.is_awaited, lacks_listeners) {
                // To wait would hold up what is certain of the listeners.
                (true, true) => {}
                (is_awaited, _) => {
                    if is_awaited {
                        let waits = examination.waits_for.get_or_insert_default();
                        waits.push(OF_THE_OLDER_ONE.to_owned());
                    }
                    let names = clusters.names.into_iter();
                    examination.missing_clusters =
                        Some(names.map(|name| MissingCluster { name }).collect());
                }
            }
        }
        if let Some(Ok(counters)) = &answers.requests
            && Kept::by(&subject.config.bootstrap().stats).requests
        {
            examination.requests = self.counted.handle_counters(subject.pid, counters);
        }
        examination
    }

    /// Returns whether anything is known with which this epoch, which has a gate, can be compared.
    pub(in crate::adapter) fn can_hold(&self, subject: &Subject) -> bool {
        let before = before_of(self.before.as_ref(), subject);
        before.is_some_and(|before| before.seen.is_some())
    }

    /// Takes in what an epoch behind its gate has answered, and returns what keeps the gate closed, in
    /// words.
    pub(in crate::adapter) fn holds(&self, subject: &Subject, answers: &Answers) -> Vec<String> {
        let before = before_of(self.before.as_ref(), subject);
        let Some((before, seen)) = before.and_then(|it| Some((it, it.seen.as_ref()?))) else {
            return Vec::new();
        };
        let had = Had {
            listeners: (seen.listeners.as_deref())
                .map(|active| listeners_of(&before.subject.config, active)),
            clusters: seen.clusters.as_ref(),
            received: &seen.received_at_least,
            knows_certificates: seen.knows_certificates,
        };
        let active = answers.listeners.as_ref().ok();
        let fetched = answers.fetched_at_least();
        let clusters = answers.clusters(&subject.config);
        let has = Has {
            listeners: active.map(|active| listeners_of(&subject.config, active)),
            clusters: clusters.as_ref(),
            warming: fetched.map(|fetched| &fetched.clusters.warming),
            fetches_clusters: subject.config.fetches().clusters,
            awaited: fetched.map_or(&[], |fetched| &fetched.awaited),
            refused: answers.certificates().map_or(&[], |it| &it.refused),
        };
        gate::holds(had, has)
    }

    /// The fetched clusters that the epoch lacks, as far as that is known.
    fn missing_clusters(&mut self, subject: &Subject, answers: &Answers) -> Option<Missing> {
        let before = before_of(self.before.as_ref(), subject)?;
        let older = before.seen_lately()?.clusters.as_ref()?;
        if older.is_empty() || !subject.config.fetches().clusters {
            return Some(Missing {
                names: Vec::new(),
                is_awaited: false,
            });
        }
        let fetched = answers.fetched(&subject.config)?;
        if !cluster_absence::are_known(&subject.config, fetched) {
            return None;
        }
        let removed = answers.requests.as_ref()?.as_ref().ok()?.iter();
        let mut removed = removed.filter(|(name, _)| name == "cluster_manager.cluster_removed");
        let look = Look {
            states: &fetched.clusters,
            // A counter that was never set is not in the answer.
            removed: removed.next().map_or(0, |(_, count)| *count),
            flush: fetched.gauges.get("server.uptime").copied(),
            at: answers.at,
        };
        let pids = (before.subject.pid, subject.pid);
        Some(self.clusters.missing(pids, older, look))
    }
}

/// The epoch with which this one is compared. An epoch is not compared with itself.
fn before_of<'a>(before: Option<&'a Before>, subject: &Subject) -> Option<&'a Before> {
    before.filter(|before| before.subject.epoch < subject.epoch)
}

fn listeners_of<'a>(config: &'a EnvoyConfig, active: &'a [ActiveListener]) -> Listeners<'a> {
    Listeners {
        active,
        configured: &config.bootstrap().listeners,
        fetches: config.fetches().listeners,
    }
}

/// What an epoch waits for, and whether that is all of it.
fn waits_for(answers: &Answers, config: &EnvoyConfig) -> (Vec<String>, bool) {
    let mut waits = Vec::new();
    let mut is_whole = Kept::by(&config.bootstrap().stats).versions;
    match &answers.warming {
        Some(Ok(warming)) => waits.extend(warming.iter().cloned()),
        Some(Err(_)) | None => is_whole = false,
    }
    match &answers.fetched {
        Some(Ok(Fetched {
            awaited,
            gauges,
            clusters,
            ..
        })) => {
            waits.extend(awaited.iter().cloned());
            let warming = clusters.warming.iter();
            waits.extend(warming.map(|name| one_line(&format!("cluster {name}"))));
            let unnamed = |gauge: &str, named: usize| {
                let all = gauges.get(gauge).copied().unwrap_or_default();
                all.saturating_sub(u64::try_from(named).unwrap_or(u64::MAX))
            };
            let named = waits
                .iter()
                .filter(|name| name.starts_with("listener "))
                .count();
            match unnamed("listener_manager.total_listeners_warming", named) {
                0 => {}
                1 => waits.push("a warming listener".to_owned()),
                more => waits.push(format!("{more} warming listeners")),
            }
            match unnamed("cluster_manager.warming_clusters", clusters.warming.len()) {
                0 => {}
                1 => waits.push("a warming cluster".to_owned()),
                more => waits.push(format!("{more} warming clusters")),
            }
        }
        Some(Err(_)) | None => is_whole = false,
    }
    (waits, is_whole)
}

/// How many clusters there are. A gauge that was never set is not in the answer.
fn clusters(answers: &Answers, is_gated: bool) -> Option<ClusterCounts> {
    let Some(Ok(fetched)) = &answers.fetched else {
        return None;
    };
    let active = *fetched.gauges.get("cluster_manager.active_clusters")?;
    Some(ClusterCounts {
        active: active.saturating_sub(u64::from(is_gated)),
        warming: fetched.warming_clusters(),
    })
}

/// What could not be looked at, and why.
fn not_seen(answers: &Answers, config: &EnvoyConfig) -> Vec<String> {
    let kept = Kept::by(&config.bootstrap().stats);
    let mut not_seen = Vec::new();
    let mut note = |what: &str, error: Option<&AdminError>| {
        if let Some(error) = error {
            not_seen.push(format!("{what}: {}", error_chain(error)));
        }
    };
    note("listeners", answers.listeners.as_ref().err());
    let warming = answers.warming.as_ref();
    note(
        "warming listeners",
        warming.and_then(|it| it.as_ref().err()),
    );
    let received = answers.fetched.as_ref();
    note(
        "missing resources",
        received.and_then(|it| it.as_ref().err()),
    );
    let requests = answers.requests.as_ref();
    note("requests", requests.and_then(|it| it.as_ref().err()));
    if !kept.versions {
        not_seen.push("missing resources: stats_matcher leaves out their versions".to_owned());
    }
    if !kept.clusters {
        not_seen.push("missing clusters: stats_matcher leaves out their states".to_owned());
    } else if let Some(Ok(fetched)) = &answers.fetched
        && fetched.on_demand
    {
        not_seen.push("missing clusters: some are fetched on demand".to_owned());
    }
    if !kept.requests {
        not_seen.push("requests: stats_matcher leaves out their counters".to_owned());
    } else if let Some(Ok(counters)) = &answers.requests
        && is_mixed(counters)
    {
        let why = "requests: a listener has the stat_prefix `admin`, as the admin endpoint has";
        not_seen.push(why.to_owned());
    }
    not_seen
}

fn is_mixed(counters: &[(String, u64)]) -> bool {
    let mut counters = counters.iter();
    counters
        .any(|(name, value)| *value > 0 && RequestCounter::of(name) == Some(RequestCounter::Mixed))
}

/// The requests of all epochs so far, as far as they were seen.
///
/// The counters of an epoch begin at zero. Those that its parent has not reported yet, of a few seconds
/// at most, are added to them, and so is what the parent counts while it drains. So what each
/// epoch has counted is added up here.
#[derive(Debug, Default)]
struct Counted {
    /// The process that was asked last.
    pid: Option<u32>,
    last: BTreeMap<String, u64>,
    totals: RequestTotals,
}

impl Counted {
    /// Takes in the counters of a process, and returns the totals, or `None` where they count the
    /// questions at the admin endpoint as well.
    fn handle_counters(&mut self, pid: u32, counters: &[(String, u64)]) -> Option<RequestTotals> {
        if self.pid != Some(pid) {
            self.pid = Some(pid);
            self.last.clear();
        }
        let mut last = BTreeMap::new();
        for (name, value) in counters {
            let before = self.last.get(name).copied().unwrap_or_default();
            // A counter that has fallen was reset, and counts from zero again.
            let more = value.checked_sub(before).unwrap_or(*value);
            let total = match RequestCounter::of(name) {
                Some(RequestCounter::All) => &mut self.totals.all,
                Some(RequestCounter::Failed) => &mut self.totals.failed,
                Some(RequestCounter::Mixed) | None => continue,
            };
            *total = total.saturating_add(more);
            last.insert(name.clone(), *value);
        }
        self.last = last;
        (!is_mixed(counters)).then_some(self.totals)
    }
}

#[cfg(test)]
mod tests;
