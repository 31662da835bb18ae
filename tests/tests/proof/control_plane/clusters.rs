//! Clusters that the control plane has for one epoch and not for the other.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use handover_test_support::control_plane::fetching::{Clusters, Mistake};
use handover_test_support::control_plane::{Kind, Manner, Transport};
use handover_test_support::limit::eventually;
use handover_test_support::require_envoy;

use super::probation::JUDGED;
use super::{BEYOND, Case, GIVEN_UP, PROBATION, Probation, Setup, side_by_side};
use crate::world::LIMIT;

fn on_probation(transport: Transport, fetched: &[Kind]) -> Setup {
    Setup {
        probation: Probation::Seen,
        // The older one is there to tell what it has removed.
        parent_shutdown: "12s",
        ..Setup::new(transport, fetched)
    }
}

/// Waits until the older configuration is back, and says when that was.
fn is_back(case: &Case, live: Instant, names: &str) -> String {
    let unfit = case.supervisor.wait_for_line("found unfit", LIMIT);
    let judged = live.elapsed();
    println!("=== {}: {}", case.title, unfit.text);
    assert!(unfit.text.contains(names), "{}: {}", case.title, unfit.text);
    assert!(judged <= PROBATION + JUDGED, "{}: {judged:?}", case.title);
    case.wait_live(2);
    let back = live.elapsed();
    case.served_by("v0");
    format!("found unfit after {judged:.1?}, the older one live after {back:.1?}")
}

fn passes(case: &Case) {
    case.wait_live(1);
    case.served_by("v1");
    thread::sleep(PROBATION + JUDGED);
    assert_eq!(
        case.supervisor.count_lines("found unfit"),
        0,
        "{}",
        case.title
    );
    case.served_by("v1");
}

/// The control plane has forgotten a cluster for the new configuration alone.
fn forgotten(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    case.change_with("v1", Clusters::Needed);
    case.wait_live(1);
    let happened = is_back(&case, Instant::now(), "`cluster spare`");
    let lost = case.row(before, "a cluster is forgotten", &happened);
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

#[test]
fn a_configuration_whose_clusters_do_not_all_come_is_taken_back() {
    let envoy = require_envoy!();
    side_by_side([Transport::Grpc, Transport::Rest], |transport| {
        let setup = Setup {
            clusters: Clusters::WithSpare,
            ..on_probation(transport, &[Kind::Cluster])
        };
        forgotten(&envoy, setup);
    });
}

/// The control plane knows nothing at first. Then it sends a cluster whose endpoints never come, so it goes on
/// warming (envoyproxy/envoy#9934, #46383).
#[test]
fn a_configuration_with_a_cluster_that_never_warms_is_taken_back() {
    let envoy = require_envoy!();
    let setup = Setup {
        given_up: Duration::from_secs(600),
        ..on_probation(Transport::Grpc, &[Kind::Cluster, Kind::Endpoints])
    };
    let missing = Setup {
        mistake: Some(Mistake::Missing),
        ..setup.clone()
    };
    let case = Case::start(&envoy, setup);
    let before = case.counted();
    let at_first = Setup {
        clusters: Clusters::None,
        ..missing.clone()
    };
    case.change_to("v1", &at_first);
    case.wait_live(1);
    let live = Instant::now();
    missing.publish(&case.site, &case.secured, &case.plane, "v1");
    let happened = is_back(&case, live, "`cluster backend`");
    let lost = case.row(before, "a cluster never warms", &happened);
    assert!(lost > 0, "{}", case.title);
    case.end();
}

/// The control plane removes a cluster that is not needed any more, and a change follows.
fn removed_before(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    case.publish("v0", Clusters::Needed);
    eventually(LIMIT, "the cluster to be removed", || {
        let removed = case.site.admin().stat("cluster_manager.cluster_removed");
        (removed == Some(1)).then_some(())
    });
    case.change_with("v1", Clusters::Needed);
    passes(&case);
    let lost = case.row(
        before,
        "a cluster was removed before",
        "passes its probation",
    );
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

/// The same while the new epoch starts, so the older one had it when it was looked at.
fn removed_meanwhile(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    // By the time in which the new one asks, the older one has been looked at.
    let asked = case.seen().asked;
    case.behave(Manner::Slow(GIVEN_UP / 2));
    case.change_with("v1", Clusters::Needed);
    eventually(LIMIT, "the new epoch to ask", || {
        (case.seen().asked > asked).then_some(())
    });
    case.publish("v0", Clusters::Needed);
    passes(&case);
    let lost = case.row(
        before,
        "a cluster is removed meanwhile",
        "passes its probation",
    );
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

#[test]
fn a_cluster_that_the_control_plane_removes_is_not_missing() {
    let envoy = require_envoy!();
    let cases: [fn(&Path, Setup); 2] = [removed_before, removed_meanwhile];
    side_by_side(cases, |case| {
        let setup = Setup {
            clusters: Clusters::WithSpare,
            ..on_probation(Transport::Grpc, &[Kind::Cluster])
        };
        case(&envoy, setup);
    });
}

/// An epoch that lives on for as long as its control plane sends what it needs.
#[test]
fn a_cluster_that_is_removed_on_probation_is_not_missing() {
    let envoy = require_envoy!();
    let setup = Setup {
        clusters: Clusters::WithSpare,
        ..on_probation(Transport::Grpc, &[Kind::Cluster])
    };
    let case = Case::start(&envoy, setup);
    case.change("v1");
    case.wait_live(1);
    thread::sleep(BEYOND);
    case.publish("v1", Clusters::Needed);
    passes(&case);
    case.end();
}
