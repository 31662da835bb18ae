//! A configuration that Envoy takes, and with which nothing can be served.

use std::path::Path;
use std::thread;

use handover_test_support::control_plane::fetching::Mistake;
use handover_test_support::control_plane::{Kind, Transport};
use handover_test_support::require_envoy;

use super::{Case, GIVEN_UP, Setup, side_by_side};

/// Nothing in the control plane or in Envoy says that it is wrong: its requests are lost until it is changed
/// back, and the change back loses none.
fn is_served_until_it_is_changed_back(envoy: &Path, setup: Setup, mistake: Mistake, what: &str) {
    let case = Case::start(envoy, setup);
    let before = case.counted();
    case.change_wrongly("v1", mistake);
    case.wait_live(1);
    thread::sleep(GIVEN_UP);
    case.change("v2");
    case.wait_live(2);
    case.served_by("v2");
    let lost = case.row(before, what, "live until it is changed back");
    assert!(lost > 0, "{}: {what}", case.title);
    case.end();
}

#[test]
fn a_valid_configuration_that_is_wrong_is_served_until_it_is_changed_back() {
    let envoy = require_envoy!();
    let cases = [
        (Kind::Endpoints, Mistake::Upstream, "the upstream refuses"),
        (Kind::Routes, Mistake::Route, "the route is gone"),
        (Kind::Secret, Mistake::Certificate, "another certificate"),
    ];
    side_by_side(cases, |(kind, mistake, what)| {
        let setup = Setup::new(Transport::Grpc, &[kind]);
        is_served_until_it_is_changed_back(&envoy, setup, mistake, what);
    });
}
