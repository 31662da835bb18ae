//! A configuration that Envoy takes, and with which nothing can be served, is taken back by itself.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use handover_test_support::control_plane::fetching::Mistake;
use handover_test_support::control_plane::{Kind, Transport};
use handover_test_support::require_envoy;

use super::{BEYOND, Case, PROBATION, Probation, Setup, side_by_side};
use crate::world::LIMIT;

/// How long the judgement may come after the probation. What the start of the older one takes is up to the
/// machine.
pub(super) const JUDGED: Duration = Duration::from_secs(1);

/// The older configuration serves again without being asked for, as the next epoch, and the evidence is told.
fn is_taken_back(envoy: &Path, setup: Setup, mistake: Mistake, what: &str) {
    let case = Case::start(envoy, setup);
    // The time before is compared with.
    thread::sleep(BEYOND);
    let before = case.counted();
    case.change_wrongly("v1", mistake);
    case.wait_live(1);
    let live = Instant::now();
    let unfit = case.supervisor.wait_for_line("found unfit", LIMIT);
    let judged = live.elapsed();
    println!("=== {}: {}", case.title, unfit.text);
    case.wait_live(2);
    let back = live.elapsed();
    case.served_by("v0");
    let happened = format!("found unfit after {judged:.1?}, the older one live after {back:.1?}");
    let lost = case.row(before, what, &happened);
    assert!(lost > 0, "{}: {what}", case.title);
    assert!(judged <= PROBATION + JUDGED, "{}: {judged:?}", case.title);
    case.end();
}

#[test]
fn a_valid_configuration_that_is_wrong_is_taken_back_within_its_probation() {
    let envoy = require_envoy!();
    let (asked, counted, seen) = (Probation::Asked, Probation::Counted, Probation::Seen);
    let cases: [(&[Kind], Mistake, Probation, &str); 6] = [
        (
            &[Kind::Endpoints],
            Mistake::Upstream,
            asked,
            "the upstream refuses, --verify-http",
        ),
        (
            &[Kind::Endpoints],
            Mistake::Upstream,
            counted,
            "the upstream refuses, --max-error-rise",
        ),
        (
            &[Kind::Routes],
            Mistake::Route,
            asked,
            "the route is gone, --verify-http",
        ),
        (
            &[Kind::Secret],
            Mistake::Certificate,
            asked,
            "another certificate, --verify-http",
        ),
        (
            &[Kind::Listener],
            Mistake::Refused,
            seen,
            "the listener is refused",
        ),
        (
            &[Kind::Listener, Kind::Routes],
            Mistake::Missing,
            seen,
            "the route never comes",
        ),
    ];
    side_by_side(cases, |(fetched, mistake, probation, what)| {
        let setup = Setup {
            probation,
            ..Setup::new(Transport::Grpc, fetched)
        };
        is_taken_back(&envoy, setup, mistake, what);
    });
}
