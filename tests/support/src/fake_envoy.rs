//! Where the fake Envoy is, and what a test does without it.

use std::path::PathBuf;

use crate::envoy_bin::report_skip;

/// The name of its binary.
const NAME: &str = "handover-fake-envoy";

/// The fake Envoy: the one named by `HANDOVER_FAKE_ENVOY_BIN`, else the one that cargo built beside this test.
///
/// # Panics
///
/// When `HANDOVER_FAKE_ENVOY_BIN` names no file: a wish that cannot be met must not skip tests silently.
#[must_use]
pub fn fake_envoy() -> Option<PathBuf> {
    let named = std::env::var_os("HANDOVER_FAKE_ENVOY_BIN");
    if let Some(path) = named.filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "HANDOVER_FAKE_ENVOY_BIN names no file: {}",
            path.display()
        );
        return Some(path);
    }
    let test = std::env::current_exe().ok()?;
    // A test lies in `deps`, a documentation test elsewhere.
    let candidates = test.ancestors().skip(1).take(3);
    let mut candidates = candidates.map(|directory| directory.join(NAME));
    candidates.find(|path| path.is_file())
}

/// The fake Envoy for the test of this name. `None` without one, after a line that says so; with
/// `HANDOVER_REQUIRE_FAKE_ENVOY=1` in the environment it fails instead.
///
/// # Panics
///
/// Without a fake Envoy when one is required.
#[must_use]
pub fn fake_envoy_or_skip(test: &str) -> Option<PathBuf> {
    let fake = fake_envoy();
    if fake.is_none() {
        let required = std::env::var_os("HANDOVER_REQUIRE_FAKE_ENVOY");
        assert!(
            required.is_none_or(|value| value != "1"),
            "{test} needs the fake Envoy: `cargo build -p {NAME}` builds it"
        );
        report_skip(test, &format!("no fake Envoy here (cargo build -p {NAME})"));
    }
    fake
}
