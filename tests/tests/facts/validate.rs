//! Fact 10: what `--mode validate` sees and touches.

use handover_test_support::bare_envoy::{BareEnvoy, Ended};
use handover_test_support::envoy_config::{Break, EnvoyConfig};

use crate::subject::Subject;
use crate::world::{broken, taken_port};

/// A good configuration exits with 0, and one that cannot work with 1.
pub(crate) fn a_validation_exits_with_0_or_1(subject: &Subject) {
    let host = subject.host();
    validate(&host, &host.config("good")).assert_exit(0, " OK");
    for kind in [
        Break::YamlError,
        Break::UnknownField,
        Break::MissingCertificate,
    ] {
        validate(&host, &broken(&host, kind)).assert_exit(1, "");
    }
}

/// It does not see that a port is taken.
pub(crate) fn a_validation_does_not_see_a_taken_port(subject: &Subject) {
    let host = subject.host();
    let (_holder, port) = taken_port();
    for kind in [Break::PortConflict(port), Break::AdminPortTaken(port)] {
        validate(&host, &broken(&host, kind)).assert_exit(0, " OK");
    }
}

/// It neither makes nor changes the shared memory, whatever base id and epoch it is given.
pub(crate) fn a_validation_leaves_the_shared_memory_alone(subject: &Subject) {
    let host = subject.host();
    validate(&host, &host.config("good")).assert_exit(0, "");
    assert!(!host.shared_memory().exists());
    let epoch_0 = host.live(0);
    let before = host.memory();
    validate(&host, &host.config("good")).assert_exit(0, "");
    validate(&host, &broken(&host, Break::YamlError)).assert_exit(1, "");
    assert_eq!(host.memory(), before);
    assert!(epoch_0.is_running());
    host.wait_live(0);
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
}

fn validate(host: &BareEnvoy, config: &EnvoyConfig) -> Ended {
    let words = ["--mode", "validate"];
    host.start_with(1, config, &words).wait()
}
