//! Where the real Envoy is, and what a test does without one.

use std::path::PathBuf;

/// The version that `cargo xtask envoy` installs and the tests are written against.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The real Envoy: the one named by `ENVOY_BIN`, else the one that `cargo xtask envoy` put into
/// the target directory.
///
/// # Panics
///
/// When `ENVOY_BIN` names no file: a wish that cannot be met must not skip tests silently.
#[must_use]
pub fn envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "ENVOY_BIN names no file: {}",
            path.display()
        );
        return Some(path);
    }
    // The target directory is above the test's executable, however it is called.
    let test = std::env::current_exe().ok()?;
    let inside = PathBuf::from_iter(["envoy", ENVOY_VERSION, "envoy"]);
    test.ancestors()
        .map(|directory| directory.join(&inside))
        .find(|path| path.is_file())
}

/// The Envoys that `HANDOVER_ENVOYS` names, separated by colons as in `PATH`, oldest version first.
///
/// # Panics
///
/// When one of them is no file: a wish that cannot be met must not skip tests silently.
#[must_use]
pub fn envoys() -> Vec<PathBuf> {
    let named = std::env::var_os("HANDOVER_ENVOYS").unwrap_or_default();
    let paths: Vec<PathBuf> = std::env::split_paths(&named)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    for path in &paths {
        assert!(
            path.is_file(),
            "HANDOVER_ENVOYS names no file: {}",
            path.display()
        );
    }
    paths
}

/// The paths of several versions of Envoy. Without at least two the test ends here, successfully, and
/// says so.
///
/// It returns `()` from the enclosing function, so it must stand in the test itself.
#[macro_export]
macro_rules! require_envoys {
    () => {{
        // The type name of a local function is the path of the test around it.
        fn here() {}
        match $crate::envoy_bin::envoys_or_skip(std::any::type_name_of_val(&here)) {
            Some(envoys) => envoys,
            None => return,
        }
    }};
}

/// The work of [`require_envoys!`](crate::require_envoys).
#[doc(hidden)]
#[must_use]
pub fn envoys_or_skip(here: &str) -> Option<Vec<PathBuf>> {
    let envoys = envoys();
    if envoys.len() < 2 {
        let why = "HANDOVER_ENVOYS names no two versions of Envoy (cargo xtask soak sets it)";
        report_skip(&test_of(here), why);
        return None;
    }
    Some(envoys)
}

/// The path of the real Envoy. Without one the test ends here, successfully, and says so; with
/// `HANDOVER_REQUIRE_ENVOY=1` in the environment it fails.
///
/// It returns `()` from the enclosing function, so it must stand in the test itself.
#[macro_export]
macro_rules! require_envoy {
    () => {{
        // The type name of a local function is the path of the test around it.
        fn here() {}
        match $crate::envoy_bin::envoy_or_skip(std::any::type_name_of_val(&here)) {
            Some(envoy) => envoy,
            None => return,
        }
    }};
}

/// The work of [`require_envoy!`](crate::require_envoy).
///
/// # Panics
///
/// Without an Envoy when one is required.
#[doc(hidden)]
#[must_use]
pub fn envoy_or_skip(here: &str) -> Option<PathBuf> {
    let envoy = envoy();
    if envoy.is_none() {
        let test = test_of(here);
        let required = std::env::var_os("HANDOVER_REQUIRE_ENVOY").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{test} needs a real Envoy: `cargo xtask envoy` installs it"
        );
        report_skip(&test, "no Envoy here (cargo xtask envoy installs it)");
    }
    envoy
}

/// The path of the test around the function with this name.
pub(crate) fn test_of(here: &str) -> String {
    here.trim_end_matches("::here").replace("::{{closure}}", "")
}

/// Says that a test was not run, and why. The harness hides what a successful test prints with the
/// macros, and this must be seen.
pub fn report_skip(test: &str, why: &str) {
    use std::io::Write as _;

    // Without a standard error there is nobody to tell.
    let _written = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
