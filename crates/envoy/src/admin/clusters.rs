//! The clusters of an epoch, as its statistics tell them.
//!
//! Envoy has one gauge for each cluster, `warming_state`, which tells an active cluster from one that waits for
//! its first endpoints or certificates. It costs far less than a dump of the configuration: with 10,000
//! clusters, Envoy 1.40 needs 23 ms more for a question that it is asked anyway, and 1,580 ms for the dump.

use std::collections::{BTreeMap, BTreeSet};

use crate::gate;

/// The clusters of an epoch, by their names in the statistics.
///
/// A colon has become an underscore there. A cluster that is active and has an update that is warming is among
/// the warming ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterStates {
    /// Those that requests can be sent to.
    pub(crate) active: BTreeSet<String>,
    /// Those that wait for something.
    pub(crate) warming: BTreeSet<String>,
}

impl ClusterStates {
    /// Takes the gauges that tell the states of clusters out of `gauges`. The cluster of a gate is none.
    pub(super) fn take_from(gauges: &mut BTreeMap<String, u64>) -> Self {
        let mut states = Self::default();
        gauges.retain(|gauge, value| {
            let Some(name) = cluster_of(gauge) else {
                return true;
            };
            if name == gate::NAME {
                return false;
            }
            match value {
                0 => states.active.insert(name.to_owned()),
                _ => states.warming.insert(name.to_owned()),
            };
            false
        });
        states
    }
}

fn cluster_of(gauge: &str) -> Option<&str> {
    gauge
        .strip_prefix("cluster.")?
        .strip_suffix(".warming_state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_clusters_are_told_from_warming_ones_and_other_gauges_are_left() {
        let gauges = [
            ("cluster.a.b.warming_state", 0),
            ("cluster.outbound|80||api_1.warming_state", 1),
            ("cluster.warming_state", 0),
            ("cluster.handover_gate.warming_state", 0),
            ("cluster_manager.active_clusters", 3),
            ("server.uptime", 5),
        ];
        let mut gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
        let states = ClusterStates::take_from(&mut gauges);
        assert_eq!(states.active, ["a.b".to_owned()].into());
        assert_eq!(states.warming, ["outbound|80||api_1".to_owned()].into());
        let left: Vec<_> = gauges.keys().map(String::as_str).collect();
        assert_eq!(
            left,
            [
                "cluster.warming_state",
                "cluster_manager.active_clusters",
                "server.uptime"
            ]
        );
    }
}
