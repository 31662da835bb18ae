//! Too few processes for a change.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};

use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::stranger::Stranger;
use handover_test_support::supervisor::{Signal, handover_bin};

use crate::world::{LIMIT, Site};

#[test]
fn with_no_process_left_the_running_envoy_serves_on_and_the_change_follows() {
    let envoy = require_any_envoy!();
    let test =
        "proof::shortages::with_no_process_left_the_running_envoy_serves_on_and_the_change_follows";
    let Some(stranger) = Stranger::new(test, &[&handover_bin(), &envoy]) else {
        return;
    };
    let site = Site::new();
    let serves = |name: &str| {
        eventually(LIMIT, name, || {
            let answer = handover_test_support::http::get(site.listener.addr(), "/", LIMIT).ok()?;
            (answer.header("x-config") == Some(name)).then_some(())
        });
    };
    site.write("v0");
    // The stranger has no home of its own in /run and /tmp. It has one here.
    let own = site.dir.path().join("own");
    std::fs::create_dir(&own).expect("a directory");
    let user = Some(stranger.user);
    chown(&own, user, user).expect("root may give a directory away");
    let all = Permissions::from_mode(0o755);
    std::fs::set_permissions(site.dir.path(), all).expect("the directory is ours");
    let launch = site.launch_by_itself(&envoy, "1s", "2s");
    let launch = launch.arg("--lock-dir").arg(&own).env("TMPDIR", &own);
    let launch = launch.args(["--max-retries", "1"]);
    let mut supervisor = launch.by("setpriv", &stranger.flags()).start();
    serves("v0");
    stranger.limit(supervisor.pid(), "--nproc=1:");
    site.write("v1");
    supervisor.wait_for_line("RLIMIT_NPROC", LIMIT);
    supervisor.wait_for_line("is tried again later", LIMIT);
    serves("v0");
    stranger.limit(supervisor.pid(), "--nproc=4096:");
    serves("v1");
    assert_eq!(supervisor.count_lines("panicked"), 0);
    supervisor.signal(Signal::TERM);
    let status = supervisor.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", supervisor.log());
    site.assert_nothing_left();
}
