//! The status server as probes and people read it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use handover_test_support::ports::Port;
use rustix::process::Signal;

use crate::control::Place;
use crate::exchange::{rest, send, split};
use crate::shortages::allow_descriptors;
use crate::support::{
    LIMIT, Running, children_of, eventually, exec_script, handover, output_of, replace, stderr,
};
use crate::watching::wake_ups;

/// How long the server bears a client that does nothing.
const IDLE: Duration = Duration::from_secs(10);

/// An instance that shows its state.
pub(crate) struct Shown {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Shown {
    fn of(running: Running) -> Self {
        let line = running.says("the status server listens on ");
        let address = line.rsplit(' ').next().unwrap().parse().unwrap();
        Self { running, address }
    }

    /// The demo server with a configuration that is watched.
    pub(crate) fn server(place: &Place, flags: &[&str]) -> Self {
        let status: &[&str] = match flags.contains(&"--status-address") {
            true => &[],
            false => &["--status-address", "127.0.0.1:0"],
        };
        let (running, _) = place.server("web", &[status, flags].concat());
        let shown = Self::of(running);
        shown.waits_for("/healthz/ready", 200, "READY");
        shown
    }

    fn script(flags: &[&str], script: &str) -> Self {
        let always = ["--status-address", "127.0.0.1:0", "--live-after", "0s"];
        Self::of(exec_script(&[&always, flags].concat(), script))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn send(&self, bytes: &[u8]) -> String {
        send(self.connect(), bytes)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        parse(&self.send(request(path).as_bytes()))
    }

    /// Waits until a path is answered so.
    fn waits_for(&self, path: &str, code: u16, word: &str) -> Answer {
        eventually(&format!("{code} {word} of {path}"), || {
            let answer = self.get(path);
            (answer.code == code && answer.body.starts_with(word)).then_some(answer)
        })
    }

    #[track_caller]
    fn answers(&self) {
        let live = self.get("/healthz/live");
        assert_eq!((live.code, live.word()), (200, "LIVE"));
    }
}

impl Answer {
    fn word(&self) -> &str {
        self.body.lines().next().unwrap_or_default()
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn parse(answer: &str) -> Answer {
    let (code, head, body) = split(answer);
    Answer {
        code,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Reads the events of a client, one line after the other.
struct Following(BufReader<TcpStream>);

impl Following {
    fn start(shown: &Shown, headers: &str) -> Self {
        let mut stream = shown.connect();
        let request = format!("GET /events HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads up to a line that begins so.
    fn until(&mut self, begin: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(begin) {
            line.clear();
            let read = self.0.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "`{begin}` has not come");
        }
        line.trim_end().to_owned()
    }

    /// The rest, up to the end of the connection.
    fn rest(mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }
}

#[test]
fn a_hand_over_never_shows_as_not_ready() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    let config = place.path("server.conf");
    let (stop, polls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = std::thread::scope(|scope| {
        let polling = scope.spawn(|| {
            let mut seen = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let answer = shown.get("/healthz/ready");
                seen.push((answer.code, answer.word().to_owned()));
                polls.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        for epoch in 1..=5 {
            replace(&config, &format!("number {epoch}"));
            let live = format!("epoch {epoch} is live");
            shown.running.says(&live);
            let before = polls.load(Ordering::SeqCst);
            eventually("two more polls", || {
                (polls.load(Ordering::SeqCst) >= before + 2).then_some(())
            });
        }
        shown.waits_for("/healthz/current", 200, "READY");
        stop.store(true, Ordering::SeqCst);
        polling.join().unwrap()
    });
    assert!(seen.iter().all(|(code, _)| *code == 200), "{seen:?}");
}

#[test]
fn a_configuration_that_fails_is_degraded_and_ready_and_not_current_and_nothing_secret_is_shown() {
    let place = Place::new();
    let shown = Shown::server(&place, &["--max-retries", "0"]);
    let config = place.path("server.conf");
    replace(&config, "broken by a password");
    shown.running.says("gave up the configuration");
    let current = shown.waits_for("/healthz/current", 503, "DEGRADED");
    assert!(current.body.contains("given up"), "{current:?}");
    let ready = shown.get("/healthz/ready");
    assert_eq!((ready.code, ready.word()), (200, "DEGRADED"));
    let status = shown.get("/status");
    assert!(status.head.contains("content-type: application/json"));
    let json: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    let inside = place.status();
    for key in [
        "ready",
        "current_is_desired",
        "degraded",
        "counters",
        "name",
    ] {
        assert_eq!(json[key], inside[key], "{key}");
    }
    assert_eq!(json["epochs"][0]["state"], "live");
    let secrets = [
        config.to_str().unwrap(),
        env!("CARGO_BIN_EXE_handover"),
        "password",
        &format!("{}", shown.running.pid()),
    ];
    let mut events = Following::start(&shown, "last-event-id: 0\r\n");
    events.until("event: gave_up");
    let told = events.until("data: ");
    for secret in secrets {
        assert!(!status.body.contains(secret), "{secret}: {}", status.body);
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    replace(&config, "one");
    shown.waits_for("/healthz/current", 200, "READY");
}

#[test]
fn a_stop_is_terminating_while_the_drain_goes_on_and_the_loop_is_live() {
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.02; done";
    let mut shown = Shown::script(&["--drain-time", "1h"], deaf);
    // It may be live before the shell has come so far.
    shown.running.stdout.wait_for("deaf");
    shown.waits_for("/healthz/ready", 200, "READY");
    shown.running.signal(Signal::TERM);
    let ready = shown.waits_for("/healthz/ready", 503, "TERMINATING");
    assert!(ready.body.contains("draining"), "{ready:?}");
    assert_eq!(shown.get("/healthz/current").code, 503);
    shown.answers();
    let events = Following::start(&shown, "last-event-id: 0\r\n");
    shown.running.signal_again(Signal::TERM);
    shown.running.says("stopping without a drain");
    shown.running.signal_again(Signal::TERM);
    // The last word reaches those who listen.
    let told = events.rest();
    assert!(told.contains("everything has ended"), "{told}");
    assert_ne!(shown.running.code(), 0);
}

#[test]
fn before_anything_serves_it_is_not_ready_and_the_loop_is_live() {
    let shown = Shown::of(exec_script(
        &["--status-address", "127.0.0.1:0", "--live-after", "1h"],
        "exec sleep 1000",
    ));
    let ready = shown.waits_for("/healthz/ready", 503, "NOT_READY");
    assert!(ready.body.contains("nothing serves"), "{ready:?}");
    shown.answers();
}

#[test]
fn a_supervisor_that_was_stopped_answers_what_was_asked_meanwhile() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    shown.running.signal(Signal::STOP);
    let mut asked = shown.connect();
    asked
        .write_all(request("/healthz/live").as_bytes())
        .unwrap();
    asked
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    // Only the kernel takes connections meanwhile.
    assert!(asked.read(&mut [0; 1]).is_err());
    asked.set_read_timeout(Some(LIMIT)).unwrap();
    shown.running.signal(Signal::CONT);
    assert_eq!(parse(&rest(&mut asked)).code, 200);
    assert_eq!(shown.get("/healthz/ready").code, 200);
}

#[test]
fn events_are_told_as_they_come_and_from_the_last_one_that_a_client_has_seen() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    let config = place.path("server.conf");
    let mut events = Following::start(&shown, "");
    let head = events.until("content-type: ");
    assert_eq!(head, "content-type: text/event-stream");
    let first = events.until("data: ");
    assert!(first.contains("\"health\":\"READY\""), "{first}");
    replace(&config, "two");
    events.until("event: live");
    let live: serde_json::Value = {
        let data = events.until("data: ");
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(
        (&live["event"], &live["epoch"]),
        (&"live".into(), &1.into())
    );
    // What follows it is there for one who comes back.
    let id = events.until("id: ");
    let id = id.strip_prefix("id: ").unwrap();
    let what = events.until("event: ");
    let (run, number) = id.split_once('-').unwrap();
    let before = number.parse::<u64>().unwrap() - 1;
    let mut again = Following::start(&shown, &format!("Last-Event-ID: {run}-{before}\r\n"));
    assert_eq!(again.until("id: "), format!("id: {id}"));
    assert_eq!(again.until("event: "), what);
    shown.running.signal(Signal::TERM);
    // The end of the supervisor ends it, without a reset.
    let told = again.rest();
    assert!(told.contains("event: ending"), "{told}");
}

#[test]
fn an_address_that_cannot_be_had_ends_the_start_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (address, code, words) in [
        (
            format!("127.0.0.1:{port}"),
            71,
            "end that one first, or choose another port",
        ),
        (format!(":{port}"), 71, "or choose another port"),
        (
            "192.0.2.1:0".to_owned(),
            71,
            "is not an address of this node",
        ),
        ("15020".to_owned(), 64, "127.0.0.1:PORT for this host alone"),
        (":99999".to_owned(), 64, "--status-address"),
        ("127.0.0.1".to_owned(), 64, "--status-address"),
        ("unix:/x".to_owned(), 64, "Unix sockets are not supported"),
    ] {
        for words_before in [
            &["exec"][..],
            &[
                "run",
                "--config-path",
                "/dev/null",
                "--envoy-path",
                "/bin/true",
            ],
        ] {
            let flags = ["--status-address", &address];
            let program: &[&str] = match words_before {
                ["exec"] => &["--", "sh", "-c", "echo started"],
                _ => &[],
            };
            let output = output_of([words_before, &flags, program].concat());
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(code), "{address}: {told}");
            assert!(told.contains(words), "{address}: {told}");
            assert!(told.contains("--status-address"), "{address}: {told}");
            assert!(
                !told.contains("started") && !told.contains("starting epoch"),
                "{told}"
            );
        }
    }
}

#[test]
fn a_port_alone_is_on_all_addresses_and_the_variable_does_what_the_flag_does() {
    let mut command = handover(["exec", "--live-after", "0s", "--", "sleep", "1000"]);
    command.env("HANDOVER_STATUS_ADDRESS", ":0");
    let mut shown = Shown::of(Running::start(&mut command));
    assert!(shown.address.ip().is_unspecified(), "{}", shown.address);
    shown.address = SocketAddr::from(([127, 0, 0, 1], shown.address.port()));
    shown.answers();
}

#[test]
fn without_the_flag_there_is_no_such_socket_and_with_it_no_child_has_it() {
    let listening = |pid: u32| sockets(pid, |state| state == "0A").len();
    let place = Place::new();
    let without = exec_script(&["--live-after", "0s"], "exec sleep 1000");
    without.says("epoch 0 is live");
    assert_eq!(listening(without.pid()), 0);

    let watched = place.path("watched");
    replace(&watched, "one");
    let flags = ["--watch", watched.to_str().unwrap()];
    let shown = Shown::script(&flags, "exec sleep 1000");
    shown.waits_for("/healthz/ready", 200, "READY");
    assert_eq!(listening(shown.running.pid()), 1);
    // Nor has one that is started while clients are connected.
    let _clients: Vec<_> = (0..8).map(|_| Following::start(&shown, "")).collect();
    replace(&watched, "two");
    shown.running.says("epoch 1 is live");
    // The old one may end while it is looked at.
    let child = eventually("the new epoch alone", || {
        let children = children_of(shown.running.pid());
        (children.len() == 1).then(|| children[0])
    });
    let pid = u32::try_from(child.as_raw_nonzero().get()).unwrap();
    assert_eq!(sockets(pid, |_| true).len(), 0);
}

/// The TCP sockets of a process in some state, by their inodes.
fn sockets(pid: u32, of_state: impl Fn(&str) -> bool) -> Vec<String> {
    let table = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")));
    let table = table.map(Result::unwrap_or_default).concat();
    let rows = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let inode = words.get(9)?;
        of_state(words.get(3)?).then(|| format!("socket:[{inode}]"))
    });
    let known: Vec<_> = rows.collect();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.display().to_string())
        .filter(|link| known.contains(link))
        .collect()
}

#[test]
fn exec_says_why_it_has_no_statistics() {
    let shown = Shown::script(&[], "exec sleep 1000");
    let none = shown.get("/stats/prometheus?usedonly");
    assert_eq!(none.code, 404);
    assert!(
        none.body.contains("ask the program itself"),
        "{}",
        none.body
    );
    assert_eq!(shown.get("/stats/prometheus?filter=x").code, 400);
    shown.answers();
}

#[test]
fn a_status_server_that_nobody_asks_wakes_nobody_up() {
    let shown = Shown::script(&["--on-exit", "stop"], "exec sleep 1000");
    shown.waits_for("/healthz/ready", 200, "READY");
    eventually("two seconds in which nobody wakes up", || {
        let before = wake_ups(shown.running.pid());
        std::thread::sleep(Duration::from_secs(2));
        (wake_ups(shown.running.pid()) == before).then_some(())
    });
    shown.answers();
}

#[test]
fn each_form_of_a_request_is_answered_or_refused_and_each_connection_is_for_one() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    let ask = |text: &str| {
        let answer = shown.send(text.as_bytes());
        assert!(
            answer.matches("HTTP/1.").count() == 1,
            "{text:?}: {answer:?}"
        );
        parse(&answer)
    };
    let port = shown.address.port();
    for text in [
        request("/healthz/ready"),
        request("/healthz/ready/?verbose=1&x#y").replace("#y", ""),
        request("/healthz/ready").repeat(3),
        "GET /healthz/ready HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET http://127.0.0.1:{port}/healthz/ready HTTP/1.1\r\nhost: x\r\n\r\n"),
        "GET /healthz/ready HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc".to_owned(),
    ] {
        let answer = ask(&text);
        assert_eq!((answer.code, answer.word()), (200, "READY"), "{text:?}");
        let head = answer.head.to_ascii_lowercase();
        for header in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(head.contains(header), "{head}");
        }
        assert!(!head.contains("access-control"), "{head}");
    }
    let head = ask("HEAD /healthz/ready HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    let head = ask("HEAD /events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let answer = ask(&format!(
            "{method} /healthz/ready HTTP/1.1\r\nhost: localhost\r\n\r\n"
        ));
        assert_eq!(answer.code, 405, "{method}");
        assert!(answer.head.contains("allow: GET, HEAD"), "{answer:?}");
    }
    assert_eq!(ask(&request("/healthz%2Fready")).code, 404);
    assert!(ask(&request("/nothing")).body.contains("/healthz/current"));
    assert!(ask(&request("/")).body.contains("/healthz/current"));
    let rebound = "GET /status HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    assert_eq!(ask(rebound).code, 421);
    let long = ask(&request(&format!("/{}", "x".repeat(7_000))));
    assert_eq!(long.code, 404);
    let longer = ask(&request(&format!("/{}", "x".repeat(9_000))));
    assert!([414, 431].contains(&longer.code), "{longer:?}");
    let header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(ask(&header).code, 431);

    // One that has said all it has to say, as `nc -N` does.
    let mut stream = shown.connect();
    stream.write_all(request("/status").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(parse(&rest(&mut stream)).code, 200);
    // Nothing of all this was a request to do something.
    assert_eq!(shown.running.stderr.count("starting epoch"), 1);
}

#[test]
fn garbage_is_answered_or_cut_off_and_harms_nobody() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    let cases: [&[u8]; 8] = [
        b"",
        b"\0\0\0\0\r\n\r\n",
        b"\xff\xfe garbage \r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz/ready HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: nine\r\n\r\n",
    ];
    for case in cases {
        let mut stream = shown.connect();
        let _cut = stream.write_all(case);
        // Nothing more comes: what is not whole by now will never be.
        let _closed = stream.shutdown(Shutdown::Write);
        let answer = rest(&mut stream);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    shown.answers();
}

#[test]
fn with_a_thousand_idle_clients_probes_and_the_control_socket_are_answered() {
    allow_descriptors(2_500);
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    // What they have said, and then nothing: neither the rest, nor do they read the answer.
    for said in [
        "",
        "GET /healthz/re",
        "\0\u{ff}\r\n",
        &request("/status"),
        &request("/events"),
    ] {
        let connect = |_| {
            let mut stream = shown.connect();
            // It may be cut off before it has said it.
            let _cut = stream.write_all(said.as_bytes());
            stream
        };
        let idle: Vec<_> = (0..1_000).map(connect).collect();
        let started = Instant::now();
        shown.answers();
        assert_eq!(shown.get("/healthz/ready").code, 200);
        assert!(started.elapsed() < IDLE, "{said:?}");
        assert_eq!(place.status()["ready"], true);
        drop(idle);
    }
    replace(&place.path("server.conf"), "two");
    shown.running.says("epoch 1 is live");
}

#[test]
fn a_slow_client_is_cut_off_and_one_that_never_reads_its_events_holds_nobody_up() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    let _deaf: Vec<_> = (0..4).map(|_| Following::start(&shown, "")).collect();
    let mut slow = shown.connect();
    let started = Instant::now();
    let cut = eventually("the end of a client that sends a byte at a time", || {
        let sent = slow.write_all(b"x");
        shown.answers();
        let _nonblocking = slow.set_read_timeout(Some(Duration::from_millis(100)));
        let closed = matches!(slow.read(&mut [0; 64]), Ok(0)) || sent.is_err();
        closed.then(|| started.elapsed())
    });
    assert!(cut >= Duration::from_secs(5), "{cut:?}");
    replace(&place.path("server.conf"), "two");
    shown.running.says("epoch 1 is live");
    shown.answers();
}

#[test]
fn an_end_frees_the_address_at_once() {
    // Claimed: another program could take one that the system chose, once it is free.
    let port = Port::free();
    let address = port.addr().to_string();
    let flags = ["--status-address", &address, "--on-exit", "stop"];
    let mut shown = Shown::of(exec_script(&flags, "exec sleep 1000"));
    shown.waits_for("/healthz/ready", 200, "READY");
    shown.running.signal(Signal::TERM);
    assert_eq!(shown.running.code(), 0);
    let output = output_of([&["exec"], &flags[..], &["--", "true"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
