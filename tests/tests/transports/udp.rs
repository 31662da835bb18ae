//! Plain UDP: sessions of `udp_proxy`.

use std::path::Path;
use std::time::{Duration, Instant};

use handover_test_support::envoy_bin::envoys;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;

use crate::clients::{End, Habit};
use crate::wires::{DatagramBackend, OTHER_SESSION, datagrams};
use crate::world::{Plan, SHUTDOWN, Site, Version, measure, versions};

/// The first version that hands UDP over.
pub(crate) const HAND_OVER: Version = (1, 40, 0);

/// How long the answer to a datagram may take. Nobody repeats one.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);

const KEPT: &str = "UDP, a kept session";
const NEW: &str = "UDP, a session for each datagram";

#[test]
fn datagrams_are_answered_over_a_hand_over_since_1_40() {
    for envoy in versions(require_envoy!()) {
        try_with(&envoy, true);
        // The guard of the feature, where there is time for it.
        if !envoys().is_empty() {
            try_with(&envoy, false);
        }
    }
}

fn try_with(envoy: &Path, guard: bool) {
    let (site, port, backend) = (Site::new(), Port::free(), DatagramBackend::start());
    let mut bootstrap = site
        .bootstrap()
        .datagrams("dns", port.number(), "backend")
        .datagram_cluster("backend", backend.addr);
    if !guard {
        let flag = "envoy.reloadable_features.udp_hot_restart_session_handoff";
        bootstrap = bootstrap.runtime(flag, false);
    }
    site.write(&bootstrap);
    let open = || datagrams(port.addr(), ANSWER);
    let plans = [
        Plan::new(KEPT, Habit::Keep(4), open()),
        Plan::new(NEW, Habit::Each, open()),
    ];
    let seen = measure(&site, envoy, &plans);
    println!("=== the guard of UDP is {guard}");
    seen.print();
    // Nobody counts sessions, so they do not hold a stop.
    assert_eq!(seen.code, Some(0));
    let new = seen.of(NEW).remove(0);
    if seen.version < HAND_OVER {
        // Nothing is answered from the hand-over to the end of the old epoch.
        let dark = new.longest_gap(seen.began, seen.stop);
        assert!(dark >= SHUTDOWN - ANSWER, "{:?}: {dark:?}", seen.version);
        assert!(new.exchanged(seen.gone, seen.stop) > 0);
        return;
    }
    // The old epoch takes along what is under way when it ends: at most one datagram of each client.
    let over = |at: Instant| at >= seen.asked + SHUTDOWN;
    for (at, end) in new.ends(seen.began, seen.stop) {
        assert!(
            end == End::Silent && over(at),
            "{end} {:?}",
            at - seen.asked
        );
    }
    assert!(new.ends(seen.began, seen.stop).len() <= 2);
    // Where none was, the backend sees another port from then on.
    let kept = seen.of(KEPT).remove(0);
    for (at, end) in kept.ends(seen.began, seen.stop) {
        let other = End::Other(OTHER_SESSION.to_owned());
        assert!([other, End::Silent].contains(&end), "{end}");
        assert!(at >= seen.asked + SHUTDOWN, "{:?}", at - seen.asked);
    }
}
