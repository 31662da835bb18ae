//! The control socket as others speak to it, and as they misuse it.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Uid;

use crate::control::Place;
use crate::exchange::{rest, send, split};
use crate::shortages::{allow_descriptors, descriptors_of, limit};
use crate::support::{LIMIT, Running, eventually, exec_script, exec_server, skipped};

/// How long the server bears a client that does nothing.
const IDLE: Duration = Duration::from_secs(10);

/// An instance that listens in its own place.
struct Instance {
    place: Place,
    running: Running,
}

impl Instance {
    fn start() -> Self {
        let place = Place::new();
        let running = exec_server(&[&place.flag("web.sock")], &[]);
        running.says("epoch 0 is live");
        Self { place, running }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.place.path("web.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn send(&self, bytes: &[u8]) -> String {
        send(self.connect(), bytes)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        parse(&self.send(request(method, path, body).as_bytes()))
    }

    #[track_caller]
    fn refuses(&self, method: &str, path: &str, body: &str, status: u16, code: &str) -> String {
        let (found, answer) = self.ask(method, path, body);
        assert_eq!(found, status, "{answer:#}");
        assert_eq!(answer["api"], 1);
        assert_eq!(answer["error"]["code"], code, "{answer:#}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }

    fn answers(&self) {
        assert_eq!(self.ask("GET", "/v1/status", "").0, 200);
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn parse(answer: &str) -> (u16, serde_json::Value) {
    let (status, _, body) = split(answer);
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn an_answer_is_json_and_each_connection_is_for_one() {
    let instance = Instance::start();
    let twice = request("GET", "/v1/status", "").repeat(2);
    let answer = instance.send(twice.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert_eq!(parse(&answer).1["state"], "live");
}

/// As `socat` and `nc -N` do it.
#[test]
fn a_client_that_has_closed_its_side_gets_its_answer() {
    let instance = Instance::start();
    let half_closed = |request: String| {
        let mut stream = instance.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    };
    for _ in 0..10 {
        let mut stream = half_closed(request("GET", "/v1/status", ""));
        assert_eq!(parse(&rest(&mut stream)).0, 200);
    }
    let mut stream = half_closed(request("POST", "/v1/reload", "{\"wait\": true}"));
    assert_eq!(parse(&rest(&mut stream)).1["result"], "live");
    // One that says nothing, or half of it, holds nobody up.
    for nothing in ["", "GET /v1/sta"] {
        assert_eq!(rest(&mut half_closed(nothing.to_owned())), "");
    }
    instance.answers();
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_reason() {
    let instance = Instance::start();
    let known = instance.refuses("GET", "/v1/nothing", "", 404, "not_found");
    assert!(
        known.contains("GET /v1/status, GET /v1/metrics, POST /v1/reload"),
        "{known}"
    );
    instance.refuses("GET", "/v2/status", "", 404, "unknown_version");
    instance.refuses("POST", "/v1/status", "", 405, "method_not_allowed");
    instance.refuses("GET", "/v1/stop", "", 405, "method_not_allowed");
    let bad = |body| instance.refuses("POST", "/v1/reload", body, 400, "bad_request");
    assert!(bad("{\"wiat\": true}").contains("unknown field `wiat`"));
    assert!(bad("[true]").contains("no JSON object"));
    assert!(bad("{\"wait\": \"yes\"}").contains("expected a boolean"));
    assert!(bad("{\"timeout_ms\": 1}").contains("goes with `wait`"));
    assert!(bad("{\"wait\": true, \"timeout_ms\": -1}").contains("integer `-1`"));
    let large = format!("{{\"wait\": true{}}}", " ".repeat(5000));
    instance.refuses("POST", "/v1/reload", &large, 413, "too_large");
    let allowed = instance.send(request("GET", "/v1/stop", "").as_bytes());
    assert!(allowed.contains("allow: POST"), "{allowed}");
    // Nothing of it was done.
    assert_eq!(instance.running.stderr.count("starting epoch"), 1);
    instance.answers();
}

#[test]
fn garbage_is_answered_or_cut_off_and_harms_nobody() {
    let instance = Instance::start();
    let long_head = format!(
        "GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
    let endless_body = format!(
        "POST /v1/reload HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(8)
    );
    let cases: [&[u8]; 8] = [
        b"",
        b"\0\0\0\0\r\n\r\n",
        b"\xff\xfe garbage \r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\ncontent-length: nine\r\n\r\n",
        long_head.as_bytes(),
        endless_body.as_bytes(),
    ];
    for case in cases {
        let mut stream = instance.connect();
        let _cut = stream.write_all(case);
        // Nothing more comes: what is not whole by now will never be.
        let _closed = stream.shutdown(Shutdown::Write);
        let answer = rest(&mut stream);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(instance.running.stderr.count("starting epoch"), 1);
    instance.answers();
}

#[test]
fn silent_clients_hold_nobody_up_and_are_cut_off_after_a_while() {
    let instance = Instance::start();
    let silent: Vec<_> = (0..16)
        .map(|number| {
            let mut stream = instance.connect();
            let half = request("GET", "/v1/status", "");
            stream.write_all(&half.as_bytes()[..number]).unwrap();
            stream
        })
        .collect();
    let started = Instant::now();
    instance.answers();
    assert!(started.elapsed() < IDLE, "they held others up");
    for mut stream in silent {
        assert_eq!(rest(&mut stream), "", "nobody who asks nothing is answered");
    }
}

#[test]
fn with_a_thousand_idle_clients_status_is_answered() {
    allow_descriptors(2_500);
    let instance = Instance::start();
    let half = "POST /v1/drain HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n{";
    let whole = request("GET", "/v1/status", "");
    // What they have said, and then nothing: neither the rest, nor do they read the answer.
    for said in ["", "GET /v1/st", "\0\u{ff}\r\n", half, &whole] {
        let connect = |_| {
            let mut stream = instance.connect();
            // It may be cut off before it has said it.
            let _cut = stream.write_all(said.as_bytes());
            stream
        };
        let idle: Vec<_> = (0..1_000).map(connect).collect();
        let started = Instant::now();
        instance.answers();
        assert!(started.elapsed() < IDLE, "{said:?}");
        drop(idle);
    }
    assert_eq!(instance.running.stderr.count("starting epoch"), 1);
}

#[test]
fn with_few_descriptors_left_idle_clients_make_room_for_a_new_epoch() {
    let instance = Instance::start();
    let open = descriptors_of(&instance.running) + 24;
    limit(&instance.running, &format!("--nofile={open}:"));
    let _idle: Vec<_> = (0..200).map(|_| instance.connect()).collect();
    let started = Instant::now();
    instance.answers();
    assert!(started.elapsed() < IDLE);
}

#[test]
fn a_hundred_clients_at_once_are_all_answered() {
    let instance = Instance::start();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| instance.answers());
        }
    });
}

#[test]
fn those_who_wait_hold_nobody_up_and_there_are_not_too_many_of_them() {
    let place = Place::new();
    // Nothing goes live here, so a reload waits.
    let flags = [&place.flag("web.sock"), "--live-after", "1h"];
    let running = exec_script(&flags.map(AsRef::as_ref), "exec sleep 600");
    running.says("starting epoch 0");
    let instance = Instance { place, running };
    let body = "{\"wait\": true, \"if_changed\": true}";
    let wait = || {
        let mut stream = instance.connect();
        let request = request("POST", "/v1/reload", body);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let waiting: Vec<_> = (0..64).map(|_| wait()).collect();
    instance.running.stderr.wait_for_nth(64, "reload --wait");
    instance.answers();
    instance.refuses("POST", "/v1/reload", body, 503, "busy");
    // Their places are free as soon as they have gone.
    drop(waiting);
    eventually("a free place", || {
        let mut stream = wait();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let refused = stream.read(&mut [0; 12]).is_ok();
        (!refused).then_some(())
    });
}

#[test]
fn another_user_is_refused_and_told_of_once() {
    if !rustix::process::geteuid().is_root() {
        let test = "control_wire::another_user_is_refused_and_told_of_once";
        skipped(test, "only root can be another user");
        return;
    }
    let instance = Instance::start();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let socket = instance.place.path("web.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    open(socket.parent().unwrap(), 0o711);

    // By its mode the socket is out of reach; with it opened, the peer's user counts.
    let connect = || as_nobody(|| UnixStream::connect(&socket));
    let error = connect().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    open(&socket, 0o666);
    for _ in 0..2 {
        let mut stream = connect().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let stop = request("POST", "/v1/stop", "{\"now\": true}");
        stream.write_all(stop.as_bytes()).unwrap();
        let (status, answer) = parse(&rest(&mut stream));
        assert_eq!(status, 403, "{answer:#}");
        assert_eq!(answer["error"]["code"], "forbidden");
    }
    // What would tell of the second one stands before this in the log.
    assert_eq!(instance.place.ask(&["reload"]).code, 0);
    instance.running.says("asks at the control socket: reload");
    let refused = "of user 65534 at the control socket";
    assert_eq!(instance.running.stderr.count(refused), 1);
}

/// Somebody else's server at the place of ours could answer anything.
#[test]
fn a_server_of_another_user_is_not_believed() {
    use std::os::unix::net::UnixListener;

    if !rustix::process::geteuid().is_root() {
        let test = "control_wire::a_server_of_another_user_is_not_believed";
        skipped(test, "only root can be another user");
        return;
    }
    let place = Place::new();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let socket = place.path("web.sock");
    let directory = socket.parent().unwrap();
    open(directory, 0o1777);
    let theirs = as_nobody(|| UnixListener::bind(&socket)).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let answered = place.ask(&["stop", &place.flag("web.sock")]);
    assert_eq!(answered.code, 69, "{answered:?}");
    let why = "a process of user 65534 listens there, and its answers are not believed";
    assert!(answered.stderr.contains(why), "{answered:?}");
    // It was not sent anything either.
    let (mut met, _) = theirs.accept().unwrap();
    assert_eq!(rest(&mut met), "");
}

/// Does something as another user, in a thread of its own: the kernel keeps a user for each.
fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            what()
        });
        thread.join().unwrap()
    })
}
