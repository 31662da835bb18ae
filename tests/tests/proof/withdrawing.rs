//! A stop, or a newer configuration, that meets an epoch which is still starting. What has taken nothing
//! over is dropped: on a stop, what serves is drained at once. What has taken over is drained itself.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use handover_test_support::control_plane::{ControlPlane, Kind};
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Launch, Signal, Supervisor};

use crate::world::{LIMIT, Site, World};

/// A stop that waited for a start would take this time and then cut.
const DRAIN: Duration = Duration::from_secs(50);

/// Long enough for a busy machine, and far below [`DRAIN`].
const AT_ONCE: Duration = Duration::from_secs(25);

const WITH_TIME: [&str; 2] = ["--termination-drain", "50s"];

fn start(launch: Launch) -> Supervisor {
    let supervisor = launch.start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    supervisor
}

/// A client whose request is in flight when this returns.
fn slow_request(site: &Site, milliseconds: u64) -> JoinHandle<std::io::Result<http::Response>> {
    let addr = site.listener.addr();
    let path = format!("/slow?ms={milliseconds}");
    // A quick client could arrive before a later look.
    let before = site.backend.requests_to("/slow");
    let client = std::thread::spawn(move || http::get(addr, &path, LIMIT));
    eventually(LIMIT, "the slow request", || {
        (site.backend.requests_to("/slow") > before).then_some(())
    });
    client
}

fn is_answered(client: JoinHandle<std::io::Result<http::Response>>) {
    let answer = client.join().expect("the client does not panic");
    assert_eq!(answer.expect("it was not cut").status, 200);
}

/// The process of an Envoy with this restart epoch, once it is there.
fn envoy_of(supervisor: &Supervisor, epoch: u32) -> Option<u32> {
    let flag = format!("--restart-epoch {epoch}");
    let processes = supervisor.processes();
    let envoy = processes.iter().find(|it| it.command.contains(&flag));
    envoy.map(|envoy| envoy.pid)
}

/// Runs a test at moments that are given in milliseconds of a real Envoy: three rows beside each other, because each
/// test mostly waits.
fn at_moments<const COUNT: usize>(rows: [[u64; COUNT]; 3], test: impl Fn(Duration) + Sync) {
    std::thread::scope(|scope| {
        for row in rows {
            let test = &test;
            scope.spawn(move || row.map(Duration::from_millis).map(test));
        }
    });
}

fn end_quickly(supervisor: &mut Supervisor, asked: Instant) {
    let status = supervisor.wait_exit(LIMIT);
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < AT_ONCE, "it took {took:?} of {DRAIN:?}");
}

/// An Envoy that takes for ever to validate a configuration.
fn slow_to_validate(site: &Site, envoy: &Path) -> PathBuf {
    let script = site.dir.path().join("envoy-slow-to-validate");
    let envoy = envoy.display();
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' --mode validate '*) exec sleep 600;; esac\n\
         exec '{envoy}' \"$@\"\n"
    );
    std::fs::write(&script, text).expect("the directory can be written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    script
}

#[tokio::test]
async fn a_stop_while_the_next_configuration_is_validated_drains_at_once() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let slow = slow_to_validate(&site, &envoy);
    let mut supervisor = start(site.launch(&slow).args(WITH_TIME));
    let client = slow_request(&site, 1_500);
    site.write("v1");
    eventually(LIMIT, "the validation", || {
        let processes = supervisor.processes();
        let validates = processes.iter().any(|it| it.command.contains("sleep 600"));
        validates.then_some(())
    });
    let asked = Instant::now();
    supervisor.signal(Signal::TERM);
    end_quickly(&mut supervisor, asked);
    is_answered(client);
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_stop_while_the_next_epoch_waits_for_its_resources_drains_at_once() {
    let envoy = require_any_envoy!();
    for by_socket in [false, true] {
        let site = Site::new();
        site.write("v0");
        let control_plane = ControlPlane::silent();
        let mut supervisor = start(site.launch(&envoy).args(WITH_TIME));
        let client = slow_request(&site, 1_500);
        let config = site.config("v1").control_plane(control_plane.addr());
        config.write_to(&site.file());
        eventually(LIMIT, "the question for resources", || {
            control_plane.was_asked(Kind::Listener).then_some(())
        });
        let asked = Instant::now();
        if by_socket {
            let socket = site.socket();
            let stop = Launch::handover().args(["stop", "--socket"]).arg(&socket);
            assert_eq!(stop.start().wait_exit(LIMIT).code(), Some(0));
        } else {
            supervisor.signal(Signal::TERM);
        }
        end_quickly(&mut supervisor, asked);
        supervisor.wait_for_line("epoch 1 has not taken over and is dropped", LIMIT);
        is_answered(client);
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_stop_at_any_moment_of_a_hand_over_cuts_no_request() {
    let envoy = require_any_envoy!();
    at_moments([[0, 60, 120], [20, 80, 140], [40, 100, 160]], |after| {
        let site = Site::new();
        site.write("v0");
        let mut supervisor = start(site.launch(&envoy).args(WITH_TIME));
        let client = slow_request(&site, 1_500);
        site.write("v1");
        eventually(LIMIT, "the next Envoy", || envoy_of(&supervisor, 1));
        sleep(envoy.scaled(after));
        let late = slow_request(&site, 1_000);
        let asked = Instant::now();
        supervisor.signal(Signal::TERM);
        end_quickly(&mut supervisor, asked);
        is_answered(client);
        is_answered(late);
        site.assert_nothing_left();
    });
}

#[tokio::test]
async fn a_stop_while_the_first_epoch_goes_live_cuts_no_request() {
    let envoy = require_any_envoy!();
    at_moments([[0, 60], [20, 80], [40, 100]], |after| {
        let site = Site::new();
        site.write("v0");
        let mut supervisor = site.launch(&envoy).args(WITH_TIME).start();
        eventually(LIMIT, "the listener", || {
            TcpStream::connect(site.listener.addr()).ok()
        });
        let client = slow_request(&site, 1_000);
        sleep(envoy.scaled(after));
        let asked = Instant::now();
        supervisor.signal(Signal::TERM);
        end_quickly(&mut supervisor, asked);
        is_answered(client);
        site.assert_nothing_left();
    });
}

#[tokio::test]
async fn a_stop_while_the_first_epoch_waits_for_its_resources_ends_it() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let control_plane = ControlPlane::silent();
    let config = site.config("v0").control_plane(control_plane.addr());
    config.write_to(&site.file());
    let mut supervisor = site.launch(&envoy).args(WITH_TIME).start();
    eventually(LIMIT, "the question for resources", || {
        control_plane.was_asked(Kind::Listener).then_some(())
    });
    let asked = Instant::now();
    supervisor.signal(Signal::TERM);
    end_quickly(&mut supervisor, asked);
    // Not by the agent's own deadline for a start that it has withdrawn, five seconds later.
    supervisor.wait_for_line("epoch 0 has no clients yet and is ended", LIMIT);
    site.assert_nothing_left();
}

/// The start deadline is 60 seconds. The one that waits is dropped, its flag is repaired, and the next
/// one takes over from the old epoch, which has lost its admin endpoint meanwhile.
#[tokio::test]
async fn a_corrected_configuration_does_not_wait_for_one_without_its_resources() {
    let envoy = require_any_envoy!();
    let world = World::start(&envoy, &["--give-way-after", "1s"]);
    let control_plane = ControlPlane::silent();
    for (name, epoch) in [("v1", 1), ("v2", 2)] {
        let waits = world
            .site
            .config("waits")
            .control_plane(control_plane.addr());
        waits.write_to(&world.site.file());
        world
            .supervisor
            .wait_for_line(&format!("starting epoch {epoch}"), LIMIT);
        eventually(LIMIT, "the Envoy that waits", || {
            envoy_of(&world.supervisor, epoch)
        });
        let asked = Instant::now();
        world.hand_over(name, u64::from(epoch));
        let took = asked.elapsed();
        assert!(took < AT_ONCE, "it took {took:?}");
        let dropped = format!("epoch {epoch} has not taken over and is dropped");
        world.supervisor.wait_for_line(&dropped, LIMIT);
    }
    assert_eq!(world.supervisor.count_lines("retries left"), 0);
    world.finish().await.assert_no_loss();
}

/// The first epoch waits for its resources, and nothing serves: the corrected configuration is started.
#[tokio::test]
async fn a_corrected_first_configuration_does_not_wait_for_one_without_its_resources() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let control_plane = ControlPlane::silent();
    let config = site.config("waits").control_plane(control_plane.addr());
    config.write_to(&site.file());
    let mut supervisor = site.launch(&envoy).args(["--give-way-after", "1s"]).start();
    eventually(LIMIT, "the question for resources", || {
        control_plane.was_asked(Kind::Listener).then_some(())
    });
    site.write("v0");
    supervisor.wait_for_line("epoch 0 has no clients yet and is ended", LIMIT);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    is_answered(slow_request(&site, 1));
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
