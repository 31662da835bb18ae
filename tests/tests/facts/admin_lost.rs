//! Fact 9: a failed epoch may have taken the admin endpoint of its parent.

use handover_test_support::envoy_config::Break;

use crate::subject::Subject;
use crate::world::{broken, small_load, stays, taken_port};

/// A missing certificate is noticed after the child has taken the admin endpoint.
pub(crate) fn a_missing_certificate_costs_the_parent_its_admin_endpoint(subject: &Subject) {
    costs_the_admin_endpoint(subject, Break::MissingCertificate);
}

/// So is a listener whose port is taken.
pub(crate) fn a_port_conflict_costs_the_parent_its_admin_endpoint(subject: &Subject) {
    let (_holder, port) = taken_port();
    costs_the_admin_endpoint(subject, Break::PortConflict(port));
}

/// And an admin port that is taken.
pub(crate) fn a_taken_admin_port_costs_the_parent_its_admin_endpoint(subject: &Subject) {
    let (_holder, port) = taken_port();
    costs_the_admin_endpoint(subject, Break::AdminPortTaken(port));
}

fn costs_the_admin_endpoint(subject: &Subject, kind: Break) {
    let host = subject.host();
    let mut epoch_0 = host.live(0);
    let load = small_load(host.web());
    host.start(1, &broken(&host, kind))
        .wait()
        .assert_exit(1, "");
    let without_admin = || host.is_admin_refused() && epoch_0.is_running();
    stays("epoch 0 has no admin endpoint", without_admin);
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    host.write_flags(0);
    let _epoch_1 = host.live(1);
    epoch_0.wait().assert_exit(0, "");
    load.stop_blocking().assert_no_loss();
}

/// What is no YAML, or has an unknown field, is noticed before the admin endpoint is taken.
pub(crate) fn what_cannot_be_read_leaves_the_admin_endpoint(subject: &Subject) {
    let host = subject.host();
    let epoch_0 = host.live(0);
    let load = small_load(host.web());
    for kind in [Break::YamlError, Break::UnknownField] {
        host.start(1, &broken(&host, kind))
            .wait()
            .assert_exit(1, "");
        host.write_flags(0);
        host.wait_live(0);
    }
    assert!(epoch_0.is_running());
    load.stop_blocking().assert_no_loss();
}
