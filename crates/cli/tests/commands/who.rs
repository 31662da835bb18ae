//! Who is connected to each epoch of a program, and the end of some connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use crate::control::Place;
use crate::support::{LIMIT, Running, eventually, exec_script, handover, skipped};

/// A client in the middle of a request, for which the server waits also when it ends.
struct Client(TcpStream);

const HALF: &[u8] = b"GET / HTTP/1.1\r\n";

impl Client {
    fn begin(server: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(HALF).unwrap();
        Self(stream)
    }

    fn peer(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    fn was_cut(mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Ends the request, and returns the answer.
    fn finish(mut self) -> String {
        self.0
            .write_all(b"host: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn who(place: &Place, words: &[&str]) -> Value {
    let asked = place.ask(&[&["who", "--json"], words].concat());
    assert_eq!(asked.code, 0, "{asked:?}");
    serde_json::from_str(&asked.stdout).unwrap()
}

/// Waits until so many connections are accepted, and returns the epochs.
fn held(place: &Place, counts: &[u64]) -> Value {
    eventually(&format!("{counts:?} connections"), || {
        let who = who(place, &[]);
        let epochs = who["epochs"].as_array().unwrap().iter();
        let seen: Vec<_> = epochs.filter_map(|it| it["connections"].as_u64()).collect();
        (seen == counts).then(|| who["epochs"].clone())
    })
}

fn peers(epoch: &Value) -> Vec<String> {
    let listed = epoch["listed"].as_array().unwrap().iter();
    listed
        .map(|client| client["peer"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn one_client_of_an_old_epoch_is_ended_and_the_others_live_on() {
    let place = Place::new();
    let (mut server, _) = place.server("web", &["--drain-time", "50s"]);
    let address = server.address();
    let [first, second] = [(); 2].map(|()| Client::begin(address));
    held(&place, &[2]);
    assert_eq!(place.ask(&["reload", "--wait"]).code, 0);
    let third = Client::begin(address);
    let epochs = held(&place, &[2, 1]);
    let (old, new) = (&epochs[0], &epochs[1]);
    assert_eq!(
        (&old["state"], &new["state"]),
        (&"draining".into(), &"live".into())
    );
    let mut expected = [first.peer(), second.peer()];
    let mut listed = peers(old);
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
    assert_eq!(peers(new), [third.peer()]);
    let client = &old["listed"][0];
    assert_eq!(client["local"], address.to_string());
    assert_eq!(client["bytes_in"], HALF.len());
    assert_eq!(client["bytes_out"], 0);
    assert!(client["age_at_least_seconds"].is_u64(), "{client}");
    assert_eq!(old["not_seen"], serde_json::json!([]));

    let asked = place.ask(&["who", "--end", &first.peer()]);
    let closed = format!("closed 1 of 1 connection of {}\n", first.peer());
    assert!(asked.stdout.starts_with(&closed), "{asked:?}");
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(first.was_cut());
    assert_eq!(peers(&held(&place, &[1, 1])[0]), [second.peer()]);

    // The one that serves loses nobody, and the old one ends with its last connection.
    let asked = place.ask(&["who", "--end", "all"]);
    assert!(
        asked.stdout.starts_with("closed 1 of 1 connection\n"),
        "{asked:?}"
    );
    assert!(
        asked
            .stdout
            .contains("left alone on an epoch that serves: 1"),
        "{asked:?}"
    );
    assert!(second.was_cut());
    held(&place, &[1]);
    assert!(third.finish().contains("one from epoch 1"));

    let fourth = Client::begin(address);
    held(&place, &[1]);
    let asked = place.ask(&["who", "--epoch", "1", "--end", "127.0.0.1"]);
    let closed = "closed 1 of 1 connection of 127.0.0.1\nof these on an epoch that serves: 1\n";
    assert!(asked.stdout.starts_with(closed), "{asked:?}");
    assert!(fourth.was_cut());
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
}

#[test]
fn a_stop_that_one_client_holds_ends_with_it() {
    let place = Place::new();
    let (mut server, _) = place.server("web", &["--drain-time", "50s"]);
    let client = Client::begin(server.address());
    held(&place, &[1]);
    server.signal(Signal::TERM);
    server.says("draining");
    let asked = place.ask(&["who", "--end", "all"]);
    assert!(
        asked.stdout.starts_with("closed 1 of 1 connection\n"),
        "{asked:?}"
    );
    assert!(client.was_cut());
    assert_eq!(server.code(), 0);
}

/// The shell is the program. It leaves its connections to a worker.
#[test]
fn the_connections_of_a_worker_belong_to_its_program() {
    let place = Place::new();
    let worker = "export LISTEN_PID=$$; exec \"$0\" demo-server";
    let script = format!(
        "sh -c '{worker}' '{}' & wait",
        env!("CARGO_BIN_EXE_handover")
    );
    let socket = place.flag("web.sock");
    let flags = ["--listen", "127.0.0.1:0", "--fd-name", "web", &socket];
    let mut program = exec_script(&flags, &script);
    program.says("epoch 0 is live");
    let client = Client::begin(program.address());
    let epochs = held(&place, &[1]);
    let seen = &epochs[0]["listed"][0];
    assert_eq!(seen["listener"], "web");
    assert_ne!(seen["pid"], epochs[0]["pid"]);
    assert_eq!(seen["peer"], client.peer());
    assert_eq!(place.ask(&["who", "--epoch", "0", "--end", "all"]).code, 0);
    assert!(client.was_cut());
    program.signal(Signal::KILL);
    program.code();
}

#[test]
fn a_list_is_as_long_as_was_asked_for_and_counts_all() {
    let place = Place::new();
    let (mut server, _) = place.server("web", &[]);
    let clients = [(); 50].map(|()| Client::begin(server.address()));
    held(&place, &[50]);
    let epochs = &who(&place, &["--limit", "3", "--sort", "bytes"])["epochs"];
    assert_eq!(
        (peers(&epochs[0]).len(), &epochs[0]["connections"]),
        (3, &50.into())
    );
    let asked = place.ask(&["who", "--limit", "0"]);
    assert!(asked.stdout.contains("and 50 more"), "{asked:?}");
    let asked = place.ask(&["who", "--epoch", "0", "--end", "127.0.0.1"]);
    assert!(
        asked.stdout.starts_with("closed 50 of 50 connections"),
        "{asked:?}"
    );
    assert!(clients.into_iter().all(Client::was_cut));
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
}

#[test]
fn what_names_no_peer_or_no_epoch_is_refused() {
    let place = Place::new();
    let asked = place.ask(&["who", "--end", "example.org"]);
    assert_eq!(asked.code, 64);
    assert!(
        asked.stderr.contains("`example.org` names no peer"),
        "{asked:?}"
    );
    let asked = place.ask(&["who"]);
    assert_eq!(asked.code, 69, "{asked:?}");
    let (mut server, _) = place.server("web", &[]);
    let asked = place.ask(&["who", "--epoch", "7"]);
    assert_eq!(asked.code, 69, "{asked:?}");
    assert!(asked.stderr.contains("epoch 7 does not run"), "{asked:?}");
    let asked = place.ask(&["who", "--end", "10.0.0.7"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(
        asked.stdout.starts_with("closed 0 of no connection"),
        "{asked:?}"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0);
}

/// What handover may not look at is unknown, and nothing of it counts as closed.
#[test]
fn without_the_right_to_look_connections_are_unknown_and_the_remedy_is_named() {
    let test = "who::without_the_right_to_look_connections_are_unknown_and_the_remedy_is_named";
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "only root can start a program as another user");
    }
    let without = ["--bounding-set", "-net_admin,-sys_ptrace"];
    let can = std::process::Command::new("setpriv")
        .args(without)
        .arg("true")
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skipped(test, "no setpriv that takes a capability away");
    }
    let place = Place::new();
    let socket = place.flag("web.sock");
    let mut command = handover(["exec", "--listen", "127.0.0.1:0", &socket, "--"]);
    command.args([
        "setpriv",
        "--reuid",
        "65534",
        "--clear-groups",
        "sleep",
        "600",
    ]);
    let mut less = std::process::Command::new("setpriv");
    less.args(without)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(std::process::Stdio::null());
    let mut program = Running::start(&mut less);
    program.says("epoch 0 is live");
    let asked = place.ask(&["who"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(asked.stdout.contains("connections unknown"), "{asked:?}");
    let asked = place.ask(&["who", "--epoch", "0", "--end", "all"]);
    assert_eq!(asked.code, 69, "{asked:?}");
    assert!(asked.stdout.contains("CAP_SYS_PTRACE"), "{asked:?}");
    program.signal(Signal::TERM);
    program.code();
}
