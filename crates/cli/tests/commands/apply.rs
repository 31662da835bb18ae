//! Giving a configuration to an instance, without a real Envoy.

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::control::Place;
use crate::exchange::{rest, send, split};
use crate::support::{
    LIMIT, Running, eventually, exec_server, finish, handover, handover_client, stderr,
};

/// An Envoy whose validation never ends.
const FAKE_ENVOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commands/fake-envoy.sh");

const CONFIGURATION: &str =
    "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}\n";

struct Instance {
    place: Place,
    running: Running,
}

impl Instance {
    fn start() -> Self {
        let place = Place::new();
        let mut command = handover(["run", "--config-from", "socket", "--envoy-path"]);
        command.args([FAKE_ENVOY, &place.flag("web.sock"), "--state-dir"]);
        command.arg(place.path("state"));
        command.arg("--lock-dir").arg(place.path("locks"));
        command.arg("--run-dir").arg(place.path("run"));
        command.env("FAKE_ENVOY", "hangs");
        let running = Running::start(&mut command);
        running.says("a configuration is awaited");
        Self { place, running }
    }

    fn file(&self) -> String {
        let file = self.place.path("envoy.yaml");
        fs::write(&file, CONFIGURATION).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.place.path("web.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Begins to give a configuration of this size, and sends half of a word.
    fn begin(&self, size: usize) -> UnixStream {
        let mut stream = self.connect();
        let head = format!(
            "PUT /v1/config?wait=true HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\nad"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Nothing was given, and it still awaits a configuration.
    fn awaits(&self) {
        let held = "a configuration is awaited";
        let status = self.place.ask(&["status"]);
        assert!(status.stdout.contains(held), "{status:?}");
        assert!(!self.place.path("state/applied-configuration.yaml").exists());
    }

    fn stop(mut self) {
        let stopped = self.place.ask(&["stop"]);
        assert_eq!(stopped.code, 0, "{stopped:?}");
        assert_eq!(self.running.code(), 0);
    }
}

#[test]
fn a_configuration_that_takes_too_long_ends_with_75() {
    let instance = Instance::start();
    let words = ["apply", &instance.file(), "--timeout", "300ms"];
    let late = instance.place.ask(&words);
    assert_eq!(late.code, 75, "{late:?}");
    let said = "the configuration was not validated within 300ms";
    assert!(late.stderr.contains(said), "{late:?}");
    instance.stop();
}

#[test]
fn of_two_that_come_at_once_the_older_one_is_replaced() {
    let instance = Instance::start();
    let socket = instance.place.flag("web.sock");
    let mut command = handover_client(["apply", "-", &socket]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut older = command.spawn().unwrap();
    older
        .stdin
        .take()
        .unwrap()
        .write_all(CONFIGURATION.as_bytes())
        .unwrap();
    instance.running.says("asks at the control socket: apply");
    let words = ["apply", &instance.file(), "--timeout", "300ms"];
    assert_eq!(instance.place.ask(&words).code, 75);
    let older = older.wait_with_output().unwrap();
    assert_eq!(older.status.code(), Some(69), "{older:?}");
    let said = "another configuration was asked for before this one was live";
    assert!(stderr(&older).contains(said), "{older:?}");
    instance.stop();
}

#[test]
fn what_was_not_sent_to_its_end_is_not_taken() {
    let instance = Instance::start();
    // The client goes, or says that nothing follows.
    drop(instance.begin(100));
    let half = instance.begin(100);
    half.shutdown(Shutdown::Write).unwrap();
    drop(half);
    instance.awaits();
    // So many are received at once; one that has gone makes room.
    let [first, second] = [instance.begin(100), instance.begin(100)];
    eventually("a third one to be refused", || {
        let mut third = instance.begin(100);
        let answer = rest(&mut third);
        answer.contains("\"busy\"").then_some(())
    });
    drop((first, second));
    eventually("room for another one", || {
        let answer = send(
            instance.connect(),
            b"PUT /v1/config HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n ",
        );
        answer.contains("it is empty").then_some(())
    });
    instance.awaits();
    instance.stop();
}

#[test]
fn one_that_is_too_large_is_refused_with_the_limit_before_it_is_sent() {
    let instance = Instance::start();
    let mut stream = instance.begin((64 << 20) + 1);
    let answer = rest(&mut stream);
    let (status, _, body) = split(&answer);
    assert_eq!(status, 413, "{answer}");
    assert!(body.contains("at most 67108864 bytes"), "{answer}");
    instance.awaits();
    let large = instance.place.path("large.yaml");
    let file = fs::File::create(&large).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let refused = instance.place.ask(&["apply", large.to_str().unwrap()]);
    assert_eq!(refused.code, 65, "{refused:?}");
    assert!(
        refused.stderr.contains("larger than 67108864 bytes"),
        "{refused:?}"
    );
    instance.stop();
}

#[test]
fn what_cannot_be_a_configuration_is_refused_and_another_one_is_awaited() {
    let instance = Instance::start();
    let file = instance.place.path("bad.yaml");
    for (text, reason) in [
        ("admin: [", "line 1"),
        ("node: {id: a}", "admin"),
        ("\u{0}\u{1}", "yaml"),
    ] {
        fs::write(&file, text).unwrap();
        let refused = instance.place.ask(&["apply", file.to_str().unwrap()]);
        assert_eq!(refused.code, 65, "{refused:?}");
        assert!(refused.stderr.contains(reason), "{reason}: {refused:?}");
    }
    instance.awaits();
    instance.stop();
}

#[test]
fn a_program_takes_no_configuration() {
    let place = Place::new();
    let running = exec_server(&[&place.flag("web.sock")], &[]);
    running.says("epoch 0 is live");
    let file = place.path("envoy.yaml");
    fs::write(&file, CONFIGURATION).unwrap();
    let refused = place.ask(&["apply", file.to_str().unwrap()]);
    assert_eq!(refused.code, 69, "{refused:?}");
    let said = "takes no configuration from clients";
    assert!(refused.stderr.contains(said), "{refused:?}");
}

#[test]
fn places_for_a_configuration_that_contradict_each_other_are_refused() {
    for (flags, reason) in [
        ("", "--config-path FILE is missing"),
        ("--config-from file", "--config-path FILE is missing"),
        ("--config-from socket", "needs --state-dir"),
        (
            "--config-from socket --state-dir /x --config-path y",
            "goes with --config-from file only",
        ),
        (
            "--config-from socket --state-dir /x --socket none",
            "needs a control socket",
        ),
    ] {
        let words = ["run"].into_iter().chain(flags.split_whitespace());
        let output = finish(&mut handover(words));
        assert_eq!(output.status.code(), Some(64), "{flags}: {output:?}");
        assert!(stderr(&output).contains(reason), "{flags}: {output:?}");
    }
}
