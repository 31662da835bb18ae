//! Which fetched clusters of an older epoch a newer one lacks, although its configuration and the control plane
//! have not taken them away.
//!
//! | the older epoch had it | the newer configuration | it is missing |
//! | --- | --- | --- |
//! | static | whatever it has | never: Envoy does not start without its static clusters |
//! | fetched (CDS) | fetches none | never |
//! | fetched (CDS) | fetches clusters | while it is warming, and where it is absent without a reason |
//!
//! The older epoch has no admin endpoint any more, so what the control plane takes away from both is seen
//! nowhere by name. But Envoy adds what its parent counts to its own counters, with each flush of its
//! statistics. So absent clusters have no reason if fewer clusters were removed than are absent. Until a flush
//! has passed, the older epoch may still tell of a removal, and that is something to wait for.
//!
//! A cluster that the newer epoch was seen with once is never missing from then on. If it goes, the control plane
//! has removed it, or an update of it is warming while the earlier one serves.
//!
//! What Envoy makes for a request is no part of this: the newer epoch makes it for the next one. So clusters of
//! a dynamic forward proxy do not count, and with clusters on demand (ODCDS) nothing is known.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::adapter::EnvoyConfig;
use crate::admin::{ClusterStates, Fetched, Kept};

/// How the names of clusters begin that a dynamic forward proxy makes for a host.
const FORWARD_PROXY: &str = "DFPCluster_";

/// After this time an absent cluster has no reason, even if no flush was seen. Envoy flushes every 5 s
/// unless its configuration says otherwise.
const LONGEST_FLUSH: Duration = Duration::from_secs(6);

/// Returns whether the clusters of an epoch with this configuration can be compared, if this is what it
/// fetches.
pub(super) fn are_known(config: &EnvoyConfig, fetched: &Fetched) -> bool {
    let kept = Kept::by(&config.bootstrap().stats);
    kept.clusters && kept.versions && !fetched.on_demand
}

/// Returns the active clusters that were fetched, by their names in the statistics.
pub(super) fn fetched_ones(config: &EnvoyConfig, states: &ClusterStates) -> BTreeSet<String> {
    let mut configured = BTreeSet::new();
    let clusters = config.bootstrap().clusters.iter();
    configured.extend(clusters.map(|cluster| cluster.stat_name()));
    let active = states.active.iter();
    let fetched =
        active.filter(|name| !name.starts_with(FORWARD_PROXY) && !configured.contains(*name));
    let mut names = BTreeSet::new();
    names.extend(fetched.cloned());
    names
}

/// A look at the clusters of the newer epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    /// What it has.
    pub(super) states: &'a ClusterStates,
    /// How many clusters it and its parent have removed.
    pub(super) removed: u64,
    /// What tells one flush of its statistics from the next.
    pub(super) flush: Option<u64>,
    /// When it was made.
    pub(super) at: Instant,
}

/// What the looks at the newer epoch have shown.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The processes that are compared, the older one first.
    pids: Option<(u32, u32)>,
    /// The clusters of the older one that the newer one was never seen with.
    unseen: BTreeSet<String>,
    /// The flush and the time of the first look that has not shown all of them.
    since: Option<(Option<u64>, Instant)>,
}

/// The clusters that the newer epoch lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) names: Vec<String>,
    /// Whether the older epoch may still tell that the control plane has removed some of them.
    pub(super) is_awaited: bool,
}

impl Comparison {
    /// Takes in a look, and returns the clusters of the older one that are missing.
    pub(super) fn missing(
        &mut self,
        pids: (u32, u32),
        older: &BTreeSet<String>,
        look: Look<'_>,
    ) -> Missing {
        if self.pids != Some(pids) {
            *self = Self {
                pids: Some(pids),
                unseen: older.clone(),
                since: None,
            };
        }
        self.unseen
            .retain(|name| !look.states.active.contains(name));
        let (warming, absent): (Vec<_>, Vec<_>) =
            (self.unseen.iter().cloned()).partition(|name| look.states.warming.contains(name));
        let count = u64::try_from(absent.len()).unwrap_or(u64::MAX);
        if count <= look.removed {
            return Missing {
                names: warming,
                is_awaited: false,
            };
        }
        let (flush, since) = *self.since.get_or_insert((look.flush, look.at));
        let is_told =
            look.flush != flush || look.at.saturating_duration_since(since) >= LONGEST_FLUSH;
        Missing {
            names: self.unseen.iter().cloned().collect(),
            is_awaited: !is_told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{Bootstrap, Format};

    fn names(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// One look after the other at an epoch that follows on one with these clusters. A look is `SECONDS:
    /// ACTIVE | WARMING`, and then `removed N` or `flush N`. What is missing ends with a question mark as
    /// long as the older epoch may tell more.
    fn looks<const N: usize>(older: &str, looks: [&str; N]) -> [String; N] {
        let (mut comparison, start) = (Comparison::default(), Instant::now());
        looks.map(|look| {
            let (seconds, rest) = look.split_once(':').unwrap();
            let mut parts = rest.split('|');
            let states = ClusterStates {
                active: names(parts.next().unwrap()),
                warming: names(parts.next().unwrap()),
                ..ClusterStates::default()
            };
            let more = parts.next().unwrap_or_default();
            let number = |word: &str| {
                let (_, rest) = more.split_once(word)?;
                rest.split_whitespace().next()?.parse().ok()
            };
            let look = Look {
                states: &states,
                removed: number("removed").unwrap_or_default(),
                flush: number("flush"),
                at: start + Duration::from_secs(seconds.parse().unwrap()),
            };
            let missing = comparison.missing((100, 101), &names(older), look);
            let awaited = if missing.is_awaited { "?" } else { "" };
            format!("{}{awaited}", missing.names.join(" "))
        })
    }

    #[test]
    fn an_absent_cluster_is_missing_for_sure_once_the_parent_could_have_told_of_its_removal() {
        assert_eq!(
            looks(
                "a b",
                [
                    "0: a | | flush 5",
                    "1: a | | flush 5",
                    "2: a | | flush 10",
                    "3: a | | flush 10"
                ]
            ),
            ["b?", "b?", "b", "b"]
        );
        // The parent has told.
        assert_eq!(
            looks("a b", ["0: a | | flush 5", "5: a | | flush 10 removed 1"]),
            ["b?", ""]
        );
        // It had told before the first look.
        assert_eq!(looks("a b", ["0: a | | flush 5 removed 1"]), [""]);
        // One of two was removed, and nobody knows which.
        assert_eq!(
            looks(
                "a b c",
                ["0: a | | removed 1 flush 5", "1: a | | removed 1 flush 6"]
            ),
            ["b c?", "b c"]
        );
        // No flush was seen for longer than Envoy takes by default.
        assert_eq!(
            looks("a b", ["0: a | |", "5: a | |", "6: a | |"]),
            ["b?", "b?", "b"]
        );
    }

    #[test]
    fn a_warming_cluster_is_missing_until_it_is_active_whatever_was_removed() {
        assert_eq!(
            looks(
                "a b",
                [
                    "0: a | b | removed 9",
                    "1: a | b | removed 9",
                    "2: a b | | removed 9"
                ]
            ),
            ["b", "b", ""]
        );
        assert_eq!(
            looks(
                "a b c",
                [
                    "0: a | b | flush 1",
                    "1: a | b | removed 1 flush 1",
                    "2: a | x | flush 2"
                ]
            ),
            ["b c?", "b", "b c"]
        );
    }

    #[test]
    fn a_cluster_that_was_seen_once_is_never_missing_from_then_on() {
        assert_eq!(
            looks(
                "a b",
                [
                    "0: a b c | |",
                    "1: a | |",
                    // An update is warming while the earlier one serves.
                    "2: a | b |",
                    "9: | |",
                ]
            ),
            ["", "", "", ""]
        );
        // What comes late is not missing, and what does not come is.
        assert_eq!(
            looks(
                "a b c",
                ["0: a | | flush 1", "1: a b | | flush 2", "2: a | | flush 2"]
            ),
            ["b c?", "c", "c"]
        );
    }

    #[test]
    fn another_process_is_compared_from_the_beginning() {
        let mut comparison = Comparison::default();
        let (all, at) = (names("a b"), Instant::now());
        let mut look = |pids, active: &str| {
            let states = ClusterStates {
                active: names(active),
                ..ClusterStates::default()
            };
            let look = Look {
                states: &states,
                removed: 0,
                flush: None,
                at,
            };
            comparison.missing(pids, &all, look).names.join(" ")
        };
        assert_eq!(look((1, 2), "a b"), "");
        assert_eq!(look((1, 2), "a"), "");
        assert_eq!(look((1, 3), "a"), "b");
        assert_eq!(look((1, 3), "a b"), "");
        assert_eq!(look((2, 3), "a"), "b");
    }

    #[test]
    fn only_clusters_that_were_fetched_as_a_whole_are_compared() {
        let text = "{admin: {address: {pipe: {path: /a}}}, static_resources: {clusters: [
            {name: 'own:1'}, {name: other, alt_stat_name: alias}, {name: xds}]}}";
        let bootstrap = Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap();
        assert_eq!(bootstrap.clusters.len(), 3);
        let config = EnvoyConfig::parse("envoy.yaml".as_ref(), text.as_bytes().to_vec()).unwrap();
        let states = ClusterStates {
            active: names("own_1 alias xds fetched outbound|80||api other DFPCluster_host_443"),
            warming: names("late"),
            ..ClusterStates::default()
        };
        assert_eq!(
            fetched_ones(&config, &states),
            names("fetched outbound|80||api other")
        );
        let fetched = |on_demand| Fetched {
            on_demand,
            ..Fetched::default()
        };
        assert!(are_known(&config, &fetched(false)));
        assert!(!are_known(&config, &fetched(true)));
    }
}
