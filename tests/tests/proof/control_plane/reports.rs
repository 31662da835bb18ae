//! Failures of control plane and hot restart that others have reported.

use std::path::Path;
use std::thread;
use std::time::Duration;

use handover_test_support::control_plane::{ControlPlane, Kind, Manner, Transport};
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::supervisor::Signal;
use handover_test_support::{http, require_envoy};

use super::{BEYOND, Case, Setup, side_by_side};
use crate::world::{LIMIT, Site};

/// A hangup while the first epoch waits for an unreachable control plane ended everything
/// (envoyproxy/envoy#4797).
#[test]
fn a_hangup_while_the_first_epoch_waits_for_its_control_plane_ends_nothing() {
    let envoy = require_envoy!();
    for transport in [Transport::Rest, Transport::Grpc] {
        let (site, secured, plane) = (Site::new(), Port::free(), ControlPlane::start());
        plane.go_away();
        let setup = Setup {
            given_up: Duration::ZERO,
            ..Setup::new(transport, &[Kind::Listener])
        };
        setup.write(&site, &secured, &plane, "v0");
        let mut supervisor = site.launch(&envoy).start();
        eventually(LIMIT, "the first Envoy", || site.admin().server_info());
        for _ in 0..3 {
            supervisor.signal(Signal::HUP);
            thread::sleep(Duration::from_millis(300));
        }
        assert!(supervisor.is_running());
        plane.come_back();
        let addr = site.listener.addr();
        eventually(LIMIT, "an answer", || http::get(addr, "/", BEYOND).ok());
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
        site.assert_nothing_left();
    }
}

/// One resource is named by the configuration and by a fetched listener, with the same source. Envoy has one
/// subscription for each source as it is written, and a name that is subscribed already is not sent again
/// (envoyproxy/envoy#47309, #32283). So both sources must stay the same.
fn a_shared_resource(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    case.change("v1");
    case.wait_live(1);
    thread::sleep(BEYOND);
    let lost = case.row(before, "named twice", "live");
    assert_eq!(lost, 0, "{}", case.title);
    case.served_by("v1");
    case.end();
}

/// The control plane goes while the new epoch waits for its answer, and comes back much later
/// (envoyproxy/envoy#9934, #14000).
fn gone_while_asked(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    case.behave(Manner::Silent);
    let asked = case.seen().asked;
    case.change("v1");
    eventually(LIMIT, "the new epoch to ask", || {
        (case.seen().asked > asked).then_some(())
    });
    case.plane.go_away();
    thread::sleep(BEYOND);
    case.served_by("v0");
    case.behave(Manner::Answers);
    case.plane.come_back();
    case.wait_live(1);
    case.served_by("v1");
    let lost = case.row(before, "gone while it is asked", "live");
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

/// It comes and goes (envoyproxy/envoy#5894).
fn unstable(envoy: &Path, setup: Setup) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    case.plane.go_away();
    case.change("v1");
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(200));
        case.plane.come_back();
        thread::sleep(Duration::from_millis(50));
        case.plane.go_away();
    }
    case.plane.come_back();
    case.wait_live(1);
    case.served_by("v1");
    let lost = case.row(before, "comes and goes", "live");
    assert_eq!(lost, 0, "{}", case.title);
    case.end();
}

#[test]
fn a_resource_that_is_also_named_by_what_is_fetched_arrives_for_both() {
    let envoy = require_envoy!();
    let cases = [Kind::Secret, Kind::Routes].map(|kind| Setup {
        in_place: true,
        ..Setup::new(Transport::Grpc, &[Kind::Listener, kind])
    });
    side_by_side(cases, |setup| a_shared_resource(&envoy, setup));
}

#[test]
fn a_control_plane_that_goes_while_it_is_asked_is_waited_for() {
    let envoy = require_envoy!();
    let cases = [Kind::Endpoints, Kind::Secret].map(|kind| Setup::new(Transport::Grpc, &[kind]));
    side_by_side(cases, |setup| gone_while_asked(&envoy, setup));
}

#[test]
fn a_control_plane_that_comes_and_goes_is_waited_for() {
    let envoy = require_envoy!();
    let cases = [
        Setup::new(Transport::Grpc, &[Kind::Listener]),
        Setup::new(Transport::Rest, &[Kind::Routes]),
    ];
    side_by_side(cases, |setup| unstable(&envoy, setup));
}
