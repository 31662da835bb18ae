//! An old epoch that does not end as it should: the new one does not feel it.
//!
//! Left alone, the new epoch's main thread would stop at the next merge of statistics, 5 s after it
//! went live at most, or when it tells its parent to end; it would abort 13 s later.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::load::Report;
use handover_test_support::require_any_envoy;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use tokio::time::sleep;

use crate::world::{Setup, World};

/// When the old epoch ends, after the new epoch has gone live.
const PARENT_SHUTDOWN: Duration = Duration::from_secs(2);

/// Moments of that time.
const MOMENTS: [u64; 3] = [0, 700, 1600];

/// The longest time an answer may take for the main thread not to have stood still: it does that for ten seconds,
/// and ends then.
const PROMPT: Duration = Duration::from_secs(8);

fn short() -> Setup {
    Setup {
        drain_time: Duration::from_secs(1),
        parent_shutdown_time: PARENT_SHUTDOWN,
        ..Setup::default()
    }
}

/// Does something to epoch 0 at a moment of its drain, and expects that epoch 1 answers until well
/// after the time at which it would stand still, and that the next two hand-overs work.
pub(crate) async fn survives(
    envoy: &AnyEnvoy,
    moment: u64,
    act: impl AsyncFnOnce(&World, crate::children::Prey),
) -> Report {
    let world = World::with(envoy, short()).await;
    let old = world.process(0);
    world.hand_over_now("v1", 1).await;
    let live = Instant::now();
    sleep(Duration::from_millis(moment)).await;
    act(&world, old).await;
    let new = world.process(1);
    // The parent-shutdown time, and the merge of the statistics.
    let standing_still = PARENT_SHUTDOWN + world.scaled(Duration::from_secs(4));
    while live.elapsed() < standing_still {
        let asked = Instant::now();
        let info = world.admin().ask_server_info();
        let took = asked.elapsed();
        let info = info.unwrap_or_else(|error| {
            let runs = new.is_running();
            panic!(
                "after {took:?}, at {:?}, epoch 1 runs: {runs}: {error}",
                live.elapsed()
            )
        });
        assert_eq!(info.restart_epoch, 1);
        assert!(
            took < world.scaled(PROMPT),
            "the main thread stood still for {took:?}"
        );
        sleep(Duration::from_millis(100)).await;
    }
    assert!(new.is_running(), "epoch 1 has lived through it");
    world.hand_over("v2", 2).await;
    world.hand_over("v3", 3).await;
    world.finish().await
}

/// What ends early takes its connections along: at most one request of each client. Nobody who
/// comes later notices.
pub(crate) fn assert_only_its_own_are_lost(case: &str, report: &Report) {
    let lost = report.failed + report.idle_close_races;
    println!(
        "=== {case}: lost {lost}, longest gap {:?}",
        report.longest_gap
    );
    assert!(lost <= short().clients(), "{case}\n{report}");
}

async fn ends_early(envoy: &AnyEnvoy, case: &str, signal: Signal) {
    let cases = MOMENTS.map(|moment| survives(envoy, moment, async move |_, old| old.send(signal)));
    let [a, b, c] = cases;
    let reports = tokio::join!(a, b, c);
    for (moment, report) in MOMENTS.iter().zip([reports.0, reports.1, reports.2]) {
        assert_only_its_own_are_lost(&format!("old epoch {case} after {moment} ms"), &report);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_is_killed_goes_unnoticed() {
    let envoy = require_any_envoy!();
    ends_early(&envoy, "killed", Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_is_terminated_goes_unnoticed() {
    let envoy = require_any_envoy!();
    ends_early(&envoy, "terminated", Signal::TERM).await;
}

/// Copies of the sockets at which a process speaks to its parent and its child, as a debugger has them, or who looks at
/// sockets from outside.
fn copies(pid: u32) -> Vec<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    let numbers = descriptors
        .expect("it is ours")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let copy = |number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok();
    let is_meant = |copy: &OwnedFd| {
        sockopt::socket_domain(copy) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(copy) == Ok(SocketType::DGRAM)
    };
    numbers.filter_map(copy).filter(is_meant).collect()
}

/// The names of its sockets are in use until the last copy is closed, so nobody can answer in its place at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_is_killed_while_its_sockets_are_held_goes_unnoticed() {
    let envoy = require_any_envoy!();
    let killed = async |_: &World, old: crate::children::Prey| {
        let copies = copies(old.pid);
        assert!(copies.len() >= 2, "{copies:?}");
        old.send(Signal::KILL);
        sleep(Duration::from_millis(700)).await;
        drop(copies);
    };
    let report = survives(&envoy, 0, killed).await;
    assert_only_its_own_are_lost("old epoch killed, its sockets held", &report);
}

/// Its requests wait as long as it is stopped, and are answered then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_is_stopped_and_continued_goes_unnoticed() {
    let envoy = require_any_envoy!();
    let stopped = async |_: &World, old: crate::children::Prey| {
        old.send(Signal::STOP);
        sleep(Duration::from_secs(1)).await;
        old.send(Signal::CONT);
    };
    let early = survives(&envoy, 0, stopped);
    let late = survives(&envoy, 1600, stopped);
    let (early, late) = tokio::join!(early, late);
    println!(
        "=== old epoch stopped for 1 s at once: lost {}",
        early.failed
    );
    early.assert_no_loss();
    // It is continued after its time and ends at once: what it had is cut.
    assert_only_its_own_are_lost("old epoch stopped for 1 s after 1600 ms", &late);
}

/// Somebody may stop it on purpose, with a debugger for example. Its child feels nothing of a short stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_epoch_that_is_stopped_is_left_alone_for_some_seconds() {
    let envoy = require_any_envoy!();
    let setup = Setup {
        parent_shutdown_time: Duration::from_secs(60),
        ..Setup::default()
    };
    let world = World::with(&envoy, setup).await;
    let old = world.process(0);
    world.hand_over("v1", 1).await;
    old.send(Signal::STOP);
    let stopped = Instant::now();
    sleep(Duration::from_secs(2)).await;
    assert!(is_stopped(old.pid), "it is continued too early");
    world
        .until("the old epoch to be continued", |_| !is_stopped(old.pid))
        .await;
    println!("=== continued after {:?}", stopped.elapsed());
    world.finish().await;
}

/// The sockets by which Envoys speak are named after their numbers modulo 3. The third epoch after one that takes its
/// time to end found its name in use, and each of its retries did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_epoch_after_one_that_ends_late_waits_for_its_end() {
    let envoy = require_any_envoy!();
    let mut setup = Setup {
        parent_shutdown_time: Duration::from_secs(60),
        ..Setup::brisk()
    };
    setup.policy.retry.max_retries = 0;
    let world = World::with(&envoy, setup).await;
    let late = world.process(0);
    world.hand_over("v1", 1).await;
    // From then on no start waits for its end.
    world
        .until("epoch 0 to have no client left", |world| {
            let status = world.handle.status();
            let status = status.borrow();
            status.epochs.first().is_none_or(|oldest| oldest.released)
        })
        .await;
    // Its child tells it to end as soon as epoch 2 starts.
    late.send(Signal::STOP);
    world.hand_over("v2", 2).await;
    assert!(late.is_running(), "it was stopped too late");
    let asked = Instant::now();
    world.hand_over("v3", 3).await;
    println!("=== live {:?} after the change", asked.elapsed());
    assert!(!late.is_running());
    world.finish().await.assert_no_loss();
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in parentheses, which may hold anything.
    stat.rsplit_once(") ")
        .is_some_and(|(_, after)| after.starts_with('T'))
}
