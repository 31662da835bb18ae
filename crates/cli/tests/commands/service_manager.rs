//! What a service manager is told, by a socket of the test in place of systemd. `systemd.rs` has the same
//! with a real one.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Running, eventually, finish, from_shell, handover, replace, stderr, stdout};

const BINARY: &str = env!("CARGO_BIN_EXE_handover");

/// The socket of a service manager.
struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        Self { dir, socket }
    }

    fn address(&self) -> String {
        self.dir.path().join("notify").to_str().unwrap().to_owned()
    }

    fn next(&self) -> Option<String> {
        let mut text = [0; 4096];
        let count = self.socket.recv(&mut text).ok()?;
        Some(String::from_utf8(text[..count].to_vec()).unwrap())
    }

    /// Waits for a message that begins so; returns all up to it.
    fn hears(&self, begin: &str) -> Vec<String> {
        let mut heard = Vec::new();
        eventually(&format!("{begin} from handover"), || {
            heard.push(self.next()?);
            heard.last()?.starts_with(begin).then_some(())
        });
        heard
    }

    /// Begins with a quiet socket.
    fn forget(&self) {
        while self.next().is_some() {}
    }
}

/// Of these messages, those about the state.
fn states(heard: &[String]) -> Vec<&str> {
    let first = heard.iter().filter_map(|text| text.lines().next());
    first
        .filter(|line| ["READY=1", "RELOADING=1", "STOPPING=1"].contains(line))
        .collect()
}

fn exec(manager: &Manager, flags: &[&str], program: &[&str]) -> Running {
    let words = ["exec", "--listen", "127.0.0.1:0"].iter().chain(flags);
    let words = words.chain(&["--"]).chain(program);
    let mut command = handover(words);
    Running::start(command.env("NOTIFY_SOCKET", manager.address()))
}

#[test]
fn each_reload_is_followed_by_ready_and_the_end_is_told_first() {
    let manager = Manager::new();
    let config = manager.dir.path().join("server.conf");
    replace(&config, "one");
    let path = config.to_str().unwrap();
    let flags = ["--notify", "--watch", path, "--max-retries", "0"];
    let server = [BINARY, "demo-server", "--config", path];
    let mut handover = exec(&manager, &flags, &server);
    let start = manager.hears("READY=1");
    assert_eq!(states(&start), ["READY=1"]);
    assert!(
        start.contains(&"STATUS=nothing serves".to_owned()),
        "{start:?}"
    );
    assert!(
        start.contains(&"EXTEND_TIMEOUT_USEC=30000000".to_owned()),
        "{start:?}"
    );
    manager.hears("STATUS=epoch 0 serves");

    handover.signal(Signal::HUP);
    let reload = manager.hears("READY=1");
    assert_eq!(states(&reload), ["RELOADING=1", "READY=1"]);
    let reloading = reload
        .iter()
        .find(|text| text.starts_with("RELOADING=1"))
        .unwrap();
    let stamp = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(stamp.parse::<u64>().unwrap() > 0, "{reloading}");
    handover.says("epoch 0 ended cleanly");

    // A reload that fails leaves what serves, which is ready.
    manager.forget();
    replace(&config, "broken on purpose");
    let failed = manager.hears("READY=1");
    assert_eq!(states(&failed), ["RELOADING=1", "READY=1"]);
    let status = "STATUS=epoch 1 serves another configuration than the desired one";
    assert!(failed.contains(&status.to_owned()), "{failed:?}");

    // So does one whose files cannot be read.
    std::fs::remove_file(&config).unwrap();
    let failed = manager.hears("READY=1");
    assert_eq!(states(&failed), ["RELOADING=1", "READY=1"]);

    handover.signal(Signal::TERM);
    let end = manager.hears("EXTEND_TIMEOUT_USEC=");
    assert_eq!(states(&end), ["STOPPING=1"]);
    assert!(end.contains(&"STATUS=draining".to_owned()), "{end:?}");
    assert_eq!(handover.code(), 0);
}

/// How often the watchdog is served in these tests: at half of its limit.
const EVERY: Duration = Duration::from_secs(1);

/// Whether every thread of a process was stopped by a signal. One that ends meanwhile was not.
fn is_stopped(pid: u32) -> bool {
    let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| {
        let stat = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat")));
        let stat = stat.unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('T'))
    })
}

#[test]
fn the_watchdog_is_served_while_the_loop_turns_and_not_while_it_is_stopped() {
    let manager = Manager::new();
    let words = ["exec", "--live-after", "10ms", "--", "sleep", "1000"];
    let mut command = handover(words);
    command.env("NOTIFY_SOCKET", manager.address());
    let limit = EVERY * 2;
    command.env("WATCHDOG_USEC", limit.as_micros().to_string());
    let handover = Running::start(&mut command);
    manager.hears("READY=1");
    let begun = Instant::now();
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    // Two times between three reports, which a burst would not take. This test may be late by one of them.
    assert!(begun.elapsed() >= EVERY, "{:?}", begun.elapsed());
    handover.signal(Signal::STOP);
    eventually("the stop", || is_stopped(handover.pid()).then_some(()));
    // What was sent before the stop.
    manager.forget();
    std::thread::sleep(EVERY * 3);
    assert_eq!(manager.next(), None);
    handover.signal(Signal::CONT);
    manager.hears("WATCHDOG=1");
    // One report makes up for all that were missed. This test may be late by most of the time.
    let begun = Instant::now();
    manager.hears("WATCHDOG=1");
    assert!(begun.elapsed() >= EVERY / 10, "{:?}", begun.elapsed());
    assert_eq!(handover.stderr.count("starting epoch"), 1);
}

#[test]
fn why_the_start_has_failed_is_told_with_its_numbers() {
    let manager = Manager::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = handover(["exec", "--listen", &address, "--", "sleep", "100"]);
    let output = finish(command.env("NOTIFY_SOCKET", manager.address()));
    assert_eq!(output.status.code(), Some(71));
    let heard = manager.hears("STATUS=--listen: ");
    let last = heard.last().unwrap();
    assert!(last.contains(&address), "{last}");
    let errno = rustix::io::Errno::ADDRINUSE.raw_os_error();
    assert!(
        last.ends_with(&format!("\nEXIT_STATUS=71\nERRNO={errno}")),
        "{last}"
    );
}

#[test]
fn a_socket_that_is_gone_or_never_read_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let script = "echo notify=${NOTIFY_SOCKET-none} watchdog=${WATCHDOG_USEC-none}; exec sleep 100";
    let start = |address: &str| {
        let words = ["exec", "--live-after", "10ms", "--", "sh", "-c", script];
        let mut command = handover(words);
        command.env("WATCHDOG_USEC", "2000");
        Running::start(command.env("NOTIFY_SOCKET", address))
    };
    let end = |mut handover: Running| {
        handover.stdout.wait_for("notify=none watchdog=none");
        handover.says("epoch 0 is live");
        handover.signal(Signal::HUP);
        handover.says("epoch 1 is live");
        handover.signal(Signal::TERM);
        assert_eq!(handover.code(), 0);
        handover
    };
    // Reports come each millisecond, and the problem is logged once.
    let handover = end(start(path.to_str().unwrap()));
    assert_eq!(handover.stderr.count("NOTIFY_SOCKET="), 1);
    let handover = end(start("@handover-nobody-listens-here"));
    assert_eq!(handover.stderr.count("NOTIFY_SOCKET="), 1);
    let handover = end(start("not/absolute"));
    assert_eq!(handover.stderr.count("neither an absolute path nor"), 1);
    let never_read = UnixDatagram::bind(&path).unwrap();
    end(start(path.to_str().unwrap()));
    drop(never_read);
}

/// Standard error leads to the journal.
const OF_STDERR: &str = "JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)";

fn has_level(line: &str) -> bool {
    line.starts_with('<') && line.get(2..3) == Some(">")
}

#[test]
fn the_journal_gets_a_level_for_each_line_and_no_time() {
    let lines = |variable: &str| {
        let program = "echo plain >&2; echo '<3>broken' >&2; exit 3";
        let words = ["exec", "--max-retries", "0", "--", "sh", "-c", program];
        let output = finish(&mut from_shell(variable, &handover(words)));
        stderr(&output)
    };
    let journal = lines(OF_STDERR);
    let begins = |line: &str| journal.lines().any(|said| said.starts_with(line));
    assert!(begins("<6>starting epoch 0"), "{journal}");
    assert!(begins("<6>[epoch 0] plain"), "{journal}");
    assert!(begins("<3>[epoch 0] broken"), "{journal}");
    assert!(begins("<3>gave up on sh"), "{journal}");
    assert!(journal.lines().all(has_level), "{journal}");
    // The variable of somebody else's stream counts for nothing.
    let other = lines("JOURNAL_STREAM=1:1");
    assert!(
        !other.lines().any(|line| line.starts_with("<6>")),
        "{other}"
    );
    assert!(other.contains("[epoch 0] <3>broken"), "{other}");
}

/// The parser of the command line prints its errors itself, so they had no level: a unit with a wrong flag
/// failed without an entry in `journalctl -p err`.
#[test]
fn an_error_of_a_command_or_of_its_flags_has_its_level_in_the_journal() {
    let failing: [(&[&str], &str); 4] = [
        (&["status", "--socket", "/none/such"], "<3>error: "),
        (
            &["exec", "--watsh", "x", "--", "true"],
            "<3>error: unexpected argument '--watsh'",
        ),
        // One with a character that a terminal would obey.
        (
            &["exec", "--wat\u{202e}sh", "--", "true"],
            "<3>error: unexpected argument '--wat\\u{202e}sh'",
        ),
        // One that a variable has caused, with a line about it.
        (
            &["exec", "--", "true"],
            "<3>note: the variable HANDOVER_DRAIN_TIME is set to \"5\"",
        ),
    ];
    for (words, line) in failing {
        let mut command = from_shell(OF_STDERR, &handover(words));
        if line.contains("DRAIN_TIME") {
            command.env("HANDOVER_DRAIN_TIME", "5");
        }
        let said = stderr(&finish(&mut command));
        assert!(said.lines().any(|said| said.starts_with(line)), "{said}");
        let all = said.lines().all(|line| line.starts_with("<3>"));
        assert!(all, "{said}");
    }
    // Help is for standard output, and no line of it is an error.
    let output = finish(&mut from_shell(OF_STDERR, &handover(["status", "--help"])));
    assert!(stdout(&output).starts_with("Show"), "{output:?}");
    assert_eq!(stderr(&output), "");
}
