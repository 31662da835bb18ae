//! A certificate that Envoy has refused comes again, and Envoy takes it for one that has not changed: its source looks
//! as well as any other.

use std::thread;

use handover_test_support::control_plane::fetching::Mistake;
use handover_test_support::control_plane::{ControlPlane, Kind, Transport};
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::supervisor::Signal;
use handover_test_support::{http, require_envoy};

use super::{BEYOND, Case, Setup, side_by_side};
use crate::world::{LIMIT, Site};

/// The listener stands in the configuration, or is fetched as well.
fn setups() -> [Setup; 3] {
    [
        Setup::new(Transport::Rest, &[Kind::Secret]),
        Setup::new(Transport::Grpc, &[Kind::Secret]),
        Setup::new(Transport::Rest, &[Kind::Listener, Kind::Secret]),
    ]
}

fn is_held(case: &Case) {
    let held =
        "epoch 1 does not take over without what the epoch before has: secret certificate (SDS)";
    let held = case.supervisor.wait_for_line(held, LIMIT);
    println!("=== {}: {}", case.title, held.text);
}

/// Over REST it comes again by itself, and over gRPC with each new version of anything.
#[test]
fn one_that_is_refused_and_sent_again_is_held_until_a_good_one_comes() {
    let envoy = require_envoy!();
    side_by_side(setups(), |setup| {
        let case = Case::start(&envoy, setup);
        let before = case.counted();
        case.change_wrongly("v1", Mistake::Key);
        is_held(&case);
        case.publish_wrongly("v1", Mistake::Key);
        thread::sleep(BEYOND);
        case.served_by("v0");
        assert!(!case.is_live(1), "{}", case.title);
        case.change("v1");
        case.wait_live(1);
        case.served_by("v1");
        let lost = case.row(before, "another key, sent again", "held, then live");
        assert_eq!(lost, 0, "{}", case.title);
        case.end();
    });
}

/// A renewal with a wrong key reaches both epochs. The older one serves with the certificate that it has, and a new
/// one would have none. Once a good one has come, the refusals of the past hold nothing.
#[test]
fn one_that_is_refused_by_both_epochs_is_held_while_the_older_one_serves_with_the_one_before() {
    let envoy = require_envoy!();
    side_by_side(setups(), |setup| {
        let case = Case::start(&envoy, setup);
        let before = case.counted();
        case.publish_wrongly("v0", Mistake::Key);
        let refused = "/stats?filter=sds.certificate.update_rejected";
        eventually(LIMIT, "the older epoch refuses it", || {
            let answer = http::get(case.site.admin.addr(), refused, BEYOND).ok()?;
            answer.text().contains(": 1").then_some(())
        });
        case.supervisor.signal(Signal::HUP);
        is_held(&case);
        thread::sleep(BEYOND);
        case.served_by("v0");
        assert!(!case.is_live(1), "{}", case.title);
        case.change("v0");
        case.wait_live(1);
        case.served_by("v0");
        case.change("v1");
        case.wait_live(2);
        case.served_by("v1");
        let of_the_past = case.supervisor.count_lines("epoch 2 does not take over");
        assert_eq!(of_the_past, 0, "{}", case.title);
        let lost = case.row(before, "another key for both", "held, then live");
        assert_eq!(lost, 0, "{}", case.title);
        case.end();
    });
}

/// The older epoch has never had a certificate. If that held the next one, nothing could be changed until the
/// certificate is good.
#[test]
fn one_that_was_refused_from_the_start_holds_nothing() {
    let envoy = require_envoy!();
    for setup in setups() {
        let (site, secured, plane) = (Site::new(), Port::free(), ControlPlane::start());
        let setup = setup.with(Mistake::Key);
        setup.write(&site, &secured, &plane, "v0");
        let mut supervisor = site.launch(&envoy).arg("--probation=0").start();
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        let _same = setup.publish(&site, &secured, &plane, "v0");
        let version = "/stats?filter=sds.certificate.version_text";
        eventually(LIMIT, "it comes again and looks unchanged", || {
            let answer = http::get(site.admin.addr(), version, BEYOND).ok()?;
            let text = answer.text();
            (text.contains("version_text") && !text.contains("\"\"")).then_some(())
        });
        setup.write(&site, &secured, &plane, "v1");
        supervisor.wait_for_line("epoch 1 is live", LIMIT);
        assert_eq!(supervisor.count_lines("does not take over"), 0);
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
        site.assert_nothing_left();
    }
}
