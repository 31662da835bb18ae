//! Envoy as another user than `handover run`: the configuration, the shared memory, the sockets of the hot
//! restart and the signals cross the border between the two.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::process_tag::children_of;
use handover_test_support::require_envoy;
use handover_test_support::stranger::may_run;
use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, Site};

const NOBODY: [&str; 4] = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];

const USER: [&str; 4] = ["--user", "65534", "--group", "65534"];

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// A site that the other user may enter, if there can be one.
fn site(test: &str, envoy: &Path) -> Option<Site> {
    if !may_run(test, &NOBODY, &[envoy]) {
        return None;
    }
    let site = Site::new();
    site.write("v0");
    mode(site.dir.path(), 0o755);
    Some(site)
}

/// The value of a line in the status of each Envoy.
fn status(supervisor: u32, name: &str) -> Vec<String> {
    let envoys = children_of(supervisor).into_iter();
    let of_envoy = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let lines = status.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name));
        let words = values.next()?.split_whitespace().collect::<Vec<_>>();
        Some(words.join(" "))
    };
    envoys.filter_map(|envoy| of_envoy(envoy.pid)).collect()
}

#[tokio::test]
async fn envoy_hands_over_as_another_user_who_keeps_one_capability_and_loses_nothing() {
    const TEST: &str = "proof::other_user::envoy_hands_over_as_another_user_who_keeps_one_capability_and_loses_nothing";
    let envoy = require_envoy!();
    let Some(site) = site(TEST, &envoy) else {
        return;
    };
    // The user reads the copy of each epoch only.
    mode(&site.file(), 0o600);
    let mut supervisor = site
        .launch(&envoy)
        .args(USER)
        .args(["--ambient-caps", "CAP_NET_BIND_SERVICE"])
        .start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let user = "65534 65534 65534 65534";
    assert_eq!(status(supervisor.pid(), "Uid:"), [user]);
    assert_eq!(status(supervisor.pid(), "Gid:"), [user]);
    assert_eq!(status(supervisor.pid(), "Groups:"), [""]);
    assert_eq!(status(supervisor.pid(), "CapEff:"), ["0000000000000400"]);
    let load = Load::start(site.listener.addr(), Mix::default());
    site.write("v1");
    mode(&site.file(), 0o600);
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    supervisor.wait_for_line("epoch 0 ended", LIMIT);
    // Its end is told before the kernel is asked to collect it.
    let envoy = eventually(LIMIT, "one Envoy alone", || {
        let [envoy] = children_of(supervisor.pid()).try_into().ok()?;
        Some(envoy)
    });
    assert_eq!(status(supervisor.pid(), "Uid:"), [user]);
    load.stop().await.assert_no_loss();
    let envoy = envoy.pid;
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    assert!(!Path::new(&format!("/proc/{envoy}")).exists());
    site.assert_nothing_left();
}

/// Docker and Kubernetes give root the right to list the descriptors of another user, and not to look at them.
#[tokio::test]
async fn where_the_sockets_of_envoy_may_not_be_looked_at_its_statistics_end_the_drain() {
    const TEST: &str = "proof::other_user::where_the_sockets_of_envoy_may_not_be_looked_at_its_statistics_end_the_drain";
    let envoy = require_envoy!();
    let Some(site) = site(TEST, &envoy) else {
        return;
    };
    let less = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    let launch = site.launch(&envoy).args(USER);
    let mut supervisor = launch
        .args(["--termination-drain", "300s"])
        .by("setpriv", &less)
        .start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let load = Load::start(site.listener.addr(), Mix::default());
    site.write("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    load.stop().await.assert_no_loss();
    supervisor.wait_for_line("epoch 0 ended", LIMIT);
    let kept = TcpStream::connect(site.listener.addr()).expect("Envoy listens");
    supervisor.signal(Signal::TERM);
    supervisor.wait_for_line("are counted by its statistics", LIMIT);
    supervisor.wait_for_line("the drain waits for 1 connection", LIMIT);
    drop(kept);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    // It is said once, and as what it is.
    assert_eq!(supervisor.count_lines("may be reset"), 1);
    assert_eq!(supervisor.count_lines("it has ended"), 0);
    site.assert_nothing_left();
}

/// The shared memory of the last run belongs to another user, who may not even remove it.
#[test]
fn envoy_as_another_user_follows_on_one_as_root_that_was_killed() {
    const TEST: &str =
        "proof::other_user::envoy_as_another_user_follows_on_one_as_root_that_was_killed";
    let envoy = require_envoy!();
    let Some(site) = site(TEST, &envoy) else {
        return;
    };
    let mut killed = site.launch(&envoy).start();
    killed.wait_for_line("epoch 0 is live", LIMIT);
    killed.signal(Signal::KILL);
    killed.wait_exit(LIMIT);
    // Its Envoy may still be about to end.
    let mut supervisor = site.launch(&envoy).args(USER).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
