//! An end is called drained only where it was seen that no client is connected any more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::envoy_config::replace_file;
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::stranger::may_run;
use handover_test_support::supervisor::{Launch, Signal, Supervisor, handover_bin};
use rustix::process::{Pid, kill_process};

use crate::world::{LIMIT, Site};

/// What keeps every gauge of a listener out of the statistics, as Istio's own bootstrap does.
const NO_GAUGES: &str = "\
stats_config:
  stats_matcher:
    inclusion_list:
      patterns: [{ prefix: cluster_manager }, { prefix: listener_manager }, { prefix: server }]
";

/// The least that the admin endpoint must answer.
const NARROW_ADMIN: &str = "admin:
  allow_paths:
  - exact: /server_info
  - exact: /ready
  - exact: /healthcheck/fail
  - exact: /drain_listeners
";

fn write(site: &Site, change: impl FnOnce(String) -> String) {
    let config = change(site.config("v0").render());
    replace_file(&site.file(), config.as_bytes());
}

fn start(site: &Site, launch: Launch) -> Supervisor {
    let supervisor = launch.start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    site.admin().wait_live(0, LIMIT);
    supervisor
}

/// A client whose request is in flight when this returns.
fn slow_request(site: &Site, milliseconds: u64) -> JoinHandle<std::io::Result<http::Response>> {
    let addr = site.listener.addr();
    let path = format!("/slow?ms={milliseconds}");
    let client = std::thread::spawn(move || http::get(addr, &path, LIMIT));
    eventually(LIMIT, "the slow request", || {
        (site.backend.requests_to("/slow") > 0).then_some(())
    });
    client
}

/// A connection that is kept after its first answer.
fn keep<S: Read + Write>(mut stream: S) -> S {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("Envoy reads");
    let mut first = [0];
    stream.read_exact(&mut first).expect("Envoy answers");
    stream
}

/// A connection that the epoch with this configuration has, and keeps. The one before may take some while it closes its
/// listeners.
fn keep_at(site: &Site, config: &str) -> TcpStream {
    let wanted = format!("x-config: {config}\r\n");
    eventually(LIMIT, "a connection of the new epoch", || {
        let mut stream = TcpStream::connect(site.listener.addr()).expect("somebody listens");
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .expect("Envoy reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut next = [0];
            stream.read_exact(&mut next).expect("Envoy answers");
            head.extend(next);
        }
        String::from_utf8_lossy(&head)
            .contains(&wanted)
            .then_some(stream)
    })
}

fn send(child: u32, signal: Signal) {
    let pid = Pid::from_raw(child.cast_signed()).expect("it is a process id");
    // One that the other signal has ended in between has no use for it.
    let _ended = kill_process(pid, signal);
}

#[tokio::test]
async fn statistics_that_leave_connections_out_end_no_drain() {
    let envoy = require_any_envoy!();
    let without = |change: fn(String) -> String| {
        let site = Site::new();
        write(&site, change);
        let mut supervisor = start(
            &site,
            site.launch(&envoy).args(["--termination-drain", "50s"]),
        );
        let client = slow_request(&site, 2_000);
        let asked = site.ask(&["drain", "--wait", "--timeout", "300ms"]);
        asked.is(75, "clients are still connected after 300ms");
        let listener = format!(
            "1 connection on listener 127.0.0.1_{}",
            site.listener.number()
        );
        assert!(asked.stderr.contains(&listener), "{asked:?}");
        supervisor.signal(Signal::TERM);
        let answer = client.join().expect("the client does not panic");
        assert_eq!(answer.expect("it was not cut").status, 200);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
        site.assert_nothing_left();
    };
    without(|config| config + NO_GAUGES);
    without(|config| config.replacen("admin:\n", NARROW_ADMIN, 1));
}

#[tokio::test]
async fn a_listener_of_clients_holds_the_stop_whatever_its_name() {
    let envoy = require_any_envoy!();
    for name in ["admin", "envoy_internal_web", "web.worker_0"] {
        let site = Site::new();
        write(&site, |config| {
            let named = format!("- name: {name}\n    stat_prefix: {name}\n");
            let port = site.listener.number();
            config.replacen(&format!("- name: listener_{port}\n"), &named, 1)
        });
        let mut supervisor = start(
            &site,
            site.launch(&envoy).args(["--termination-drain", "2s"]),
        );
        let kept = keep(TcpStream::connect(site.listener.addr()).expect("Envoy listens"));
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(75));
        let cut = format!("1 connection on listener {name}");
        supervisor.wait_for_line(
            &format!("was cut: {cut} of epoch 0; --termination-drain"),
            LIMIT,
        );
        drop(kept);
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_connection_to_a_unix_socket_holds_the_stop_and_one_to_an_excluded_address_does_not() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let path = site.dir.path().join("web.sock");
    write(&site, |config| {
        let port = site.listener.number();
        let address = format!("socket_address: {{ address: 127.0.0.1, port_value: {port} }}");
        let more = format!(
            "{address}\n    additional_addresses:\n    - address: {{ pipe: {{ path: \"{}\" }} }}",
            path.display()
        );
        config.replacen(&address, &more, 1)
    });
    let exclude = format!("--drain-exclude-port={}", site.listener.number());
    for (limit, code) in [("2s", 75), ("50s", 0)] {
        let mut launch = site.launch(&envoy).args(["--termination-drain", limit]);
        if code == 0 {
            launch = launch.arg(&exclude);
        }
        let mut supervisor = start(&site, launch);
        let kept: Box<dyn Read> = match code {
            0 => Box::new(keep(
                TcpStream::connect(site.listener.addr()).expect("Envoy listens"),
            )),
            _ => Box::new(keep(UnixStream::connect(&path).expect("Envoy listens"))),
        };
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(code));
        drop(kept);
    }
    site.assert_nothing_left();
}

/// The statistics of the newest epoch contain its parent's, which are fetched every five seconds.
#[tokio::test]
async fn a_connection_of_an_old_epoch_counts_once_and_only_as_long_as_it_lasts() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let launch = site.launch_with_times(&envoy, "200s", "300s");
    let mut supervisor = start(&site, launch.args(["--termination-drain", "3s"]));
    let kept = keep(TcpStream::connect(site.listener.addr()).expect("Envoy listens"));
    site.write("v1");
    site.admin().wait_live(1, LIMIT);
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    let port = site.listener.number();
    let gauge = format!("listener.127.0.0.1_{port}.downstream_cx_active");
    eventually(LIMIT, "the parent's statistics", || {
        (site.admin().stat(&gauge) == Some(1)).then_some(())
    });
    let asked = site.ask(&["drain", "--wait", "--timeout", "300ms"]);
    asked.is(75, "clients are still connected");
    let held = format!("1 connection on listener 127.0.0.1_{port} of epoch 0");
    assert!(asked.stderr.contains(&held), "{asked:?}");
    assert_eq!(
        asked.stderr.matches("connection on").count(),
        1,
        "{asked:?}"
    );
    drop(kept);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(supervisor.count_lines("cutting"), 0);
    site.assert_nothing_left();
}

/// `systemctl stop` with `KillMode=control-group`, `pkill -g`, or a crash: Envoy ends before it is
/// drained.
#[tokio::test]
async fn an_envoy_that_ends_during_the_drain_was_not_drained() {
    let envoy = require_any_envoy!();
    for (signal, both, told) in [
        (Signal::TERM, true, "set KillMode=mixed"),
        (Signal::TERM, false, "set KillMode=mixed"),
        (Signal::KILL, false, "ended before it was drained"),
    ] {
        let site = Site::new();
        site.write("v0");
        let mut supervisor = start(
            &site,
            site.launch(&envoy).args(["--termination-drain", "50s"]),
        );
        let client = slow_request(&site, 50_000);
        let children = supervisor.children();
        supervisor.signal(Signal::TERM);
        if !both {
            supervisor.wait_for_line("the drain waits for 1 connection", LIMIT);
        }
        for child in children {
            send(child, signal);
        }
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(75));
        let line = supervisor.wait_for_line("the drain has failed: ", LIMIT);
        assert!(line.text.contains(told), "{line:?}");
        assert!(client.join().expect("the client does not panic").is_err());
        site.assert_nothing_left();
    }
}

/// The two signals may come in the other order, and the end of Envoy may be seen before the stop begins.
#[tokio::test]
async fn an_envoy_that_has_ended_just_before_the_stop_was_not_drained() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    // No other one is started until the stop begins.
    let launch = site.launch(&envoy).args(["--retry-interval", "20s"]);
    let launch = launch.args(["--retry-max-interval", "20s"]);
    let mut supervisor = start(&site, launch.args(["--termination-drain", "50s"]));
    let client = slow_request(&site, 50_000);
    for child in supervisor.children() {
        send(child, Signal::TERM);
    }
    supervisor.wait_for_line("epoch 0 ended cleanly", LIMIT);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(75));
    let line = supervisor.wait_for_line("the drain has failed: ", LIMIT);
    assert!(line.text.contains("set KillMode=mixed"), "{line:?}");
    assert!(client.join().expect("the client does not panic").is_err());
    site.assert_nothing_left();
}

/// On the way out an old epoch that nobody has a connection to is killed: that harms nobody.
#[tokio::test]
async fn an_old_epoch_that_is_killed_during_the_drain_makes_it_a_failed_one_only_with_clients() {
    let envoy = require_any_envoy!();
    for (clients, code) in [(true, 75), (false, 0)] {
        let site = Site::new();
        site.write("v0");
        let launch = site.launch_with_times(&envoy, "200s", "300s");
        let mut supervisor = start(&site, launch.args(["--termination-drain", "50s"]));
        let old = supervisor.children();
        let kept =
            clients.then(|| keep(TcpStream::connect(site.listener.addr()).expect("it listens")));
        site.write("v1");
        supervisor.wait_for_line("epoch 1 is live", LIMIT);
        let held = keep_at(&site, "v1");
        supervisor.signal(Signal::TERM);
        supervisor.wait_for_line("the drain waits for 1 connection", LIMIT);
        for child in old {
            send(child, Signal::KILL);
        }
        supervisor.wait_for_line("epoch 0 failed", LIMIT);
        drop(held);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(code));
        drop(kept);
        site.assert_nothing_left();
    }
}

/// Where the newest epoch has nobody, nothing was said until the old one was cut.
#[test]
fn what_only_an_old_epoch_holds_a_stop_with_is_told() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let launch = site.launch_with_times(&envoy, "200s", "300s");
    let mut supervisor = start(&site, launch.args(["--termination-drain", "50s"]));
    let kept = keep_at(&site, "v0");
    site.write("v1");
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    supervisor.signal(Signal::TERM);
    let told = format!(
        "the drain waits for 1 connection on listener 127.0.0.1_{} of epoch 0",
        site.listener.addr().port()
    );
    supervisor.wait_for_line(&told, LIMIT);
    drop(kept);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

const NOBODY: u32 = 65_534;

/// Many hosts refuse what makes the drain a little kinder to who has no privileges.
#[tokio::test]
async fn without_privileges_it_drains_with_one_line_at_most_about_what_it_may_not() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let is_root = site.dir.path().metadata().expect("it is there").uid() == 0;
    let test =
        "proof::drained::without_privileges_it_drains_with_one_line_at_most_about_what_it_may_not";
    if !is_root {
        return report_skip(test, "only root can run it as nobody");
    }
    if !may_run(test, &as_nobody, &[&handover_bin(), &envoy]) {
        return;
    }
    site.write("v0");
    for path in [site.dir.path(), &site.file()] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let launch = site.launch(&envoy).args(["--termination-drain", "50s"]);
    let mut supervisor = start(&site, launch.by("setpriv", &as_nobody));
    let client = slow_request(&site, 1_500);
    supervisor.signal(Signal::TERM);
    let answer = client.join().expect("the client does not panic");
    assert_eq!(answer.expect("it was not cut").status, 200);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    // The route of the tests has a longer time limit than this drain.
    let of_route = supervisor.count_lines("WARN  doctor: long-streams: a route with a timeout");
    assert_eq!(supervisor.count_lines(" WARN "), of_route);
    assert!(supervisor.count_lines("may be reset") <= 1);
    site.assert_nothing_left();
}
