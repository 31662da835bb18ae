//! Hand-overs.

use rustix::process::{Pid, Signal, kill_process_group};

use crate::client::{Pending, get, load};
use crate::support::{
    Running, children_of, eventually, exec_deaf, exec_script, exec_server, handover, output_of,
    replace, stderr,
};

#[test]
fn hand_overs_under_load_lose_no_request() {
    let mut handover = exec_server(&[], &[]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    let load = load(address);
    for epoch in 1..=5 {
        let before = load.progress().ok;
        eventually("requests", || {
            (load.progress().ok > before + 50).then_some(())
        });
        handover.signal(Signal::HUP);
        eventually("the next epoch", || {
            (get(address, "/").ok()?.epoch == epoch).then_some(())
        });
        // With two epochs at once, the next one waits for the end of the older one.
        handover.says(&format!("epoch {} ended cleanly", epoch - 1));
    }
    load.stop_blocking().assert_no_loss();
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_long_request_is_finished_by_the_old_epoch() {
    let handover = exec_server(&[], &[]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    let slow = Pending::send(address, "/slow").unwrap();
    // A request that came later is answered, so the slow one is there.
    eventually("an answer", || get(address, "/").ok());
    handover.signal(Signal::HUP);
    handover.says("epoch 0 drains, 1 serves");
    assert_eq!(slow.answer().unwrap().epoch, 0);
    handover.says("epoch 0 ended cleanly");
}

#[test]
fn a_changed_file_leads_to_the_next_epoch_and_a_bad_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("server,1.conf");
    replace(&config, "one");
    let path = config.to_str().unwrap();
    let flags = [
        "--watch",
        path,
        "--max-retries",
        "1",
        "--retry-interval",
        "20ms",
    ];
    let handover = exec_server(&flags, &["--config", path]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    let load = load(address);
    let answers = |text: &str| {
        let answer = eventually("an answer", || get(address, "/").ok());
        answer.body.starts_with(text)
    };
    assert!(answers("one from epoch 0"));

    replace(&config, "two");
    eventually("the second text", || {
        answers("two from epoch 1").then_some(())
    });

    replace(&config, "broken on purpose");
    let failed = handover.says("epoch 2 failed");
    assert!(failed.contains("exited with code 65"), "{failed}");
    assert!(failed.contains("broken on purpose"), "{failed}");
    handover.says("gave up the configuration: its retries are spent; an older epoch serves on");
    assert!(answers("two from epoch 1"));

    std::fs::remove_file(&config).unwrap();
    handover.says("the running configuration serves on");
    assert!(answers("two from epoch 1"));

    replace(&config, "three");
    eventually("the third text", || {
        answers("three from epoch 2").then_some(())
    });
    load.stop_blocking().assert_no_loss();
}

#[test]
fn the_same_content_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("server.conf");
    replace(&config, "one");
    let path = config.to_str().unwrap();
    let handover = exec_server(&["--watch", path], &["--config", path]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    replace(&config, "one");
    replace(&config, "two");
    eventually("the second text", || {
        get(address, "/")
            .ok()?
            .body
            .starts_with("two from epoch 1")
            .then_some(())
    });
    assert_eq!(handover.stderr.count("starting epoch"), 2);
}

#[test]
fn a_program_that_dies_is_started_again_on_the_same_socket() {
    let handover = exec_server(&["--retry-interval", "10ms", "--log-format", "json"], &[]);
    let live = handover.says("epoch 0 is live");
    assert!(live.contains("\"epoch\":0"), "{live}");
    // Not taken by the server, this signal ends it.
    let children = children_of(handover.pid());
    let [pid] = children[..] else {
        panic!("{children:?}")
    };
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    handover.says("killed by signal 9 (SIGKILL)");
    handover.stderr.wait_for_nth(2, "epoch 0 is live");
}

#[test]
fn an_old_epoch_that_does_not_end_is_killed_after_the_drain_time() {
    let flags = ["--drain-time", "100ms"];
    let handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 0 did not end within 100ms and was killed");
    handover.says("epoch 0 ended cleanly");
    assert_eq!(handover.stderr.count("epoch 1 failed"), 0);
}

#[test]
fn a_program_finds_its_sockets_and_its_epoch() {
    let script = "echo $LISTEN_FDS $LISTEN_FDNAMES epoch=$RESTART_EPOCH; \
        [ $LISTEN_PID = $$ ] && readlink /proc/$$/fd/3 /proc/$$/fd/4; exec sleep 100";
    let flags = ["--listen", "127.0.0.1:0,[::1]:0", "--fd-name", "web"];
    let handover = exec_script(&flags, script);
    handover.stdout.wait_for("[epoch 0] 2 web:listen1 epoch=0");
    handover.stdout.wait_for_nth(2, "[epoch 0] socket:");
}

#[test]
fn with_max_epochs_a_further_change_waits() {
    let flags = ["--drain-time", "1s", "--log-level", "debug"];
    let handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.signal(Signal::HUP);
    handover.says("held: 2 epochs run already");
    handover.says("epoch 2 is live");
    assert_eq!(handover.stderr.count("epoch 0 did not end"), 1);
}

/// A program that ignores the signal it gets with its supervisor's end keeps the port.
#[test]
fn who_was_left_with_the_port_by_a_killed_supervisor_is_named_by_the_next() {
    let script = "trap '' TERM; echo program $$; while :; do sleep 0.05; done";
    let mut killed = exec_script(&["--listen", "127.0.0.1:0"], script);
    let address = killed.address().to_string();
    let line = killed.stdout.wait_for("program ");
    let pid = line.rsplit(' ').next().unwrap().to_owned();
    killed.signal(Signal::KILL);
    let supervisor = killed.pid();
    let orphan = OrphanGroup(Pid::from_raw(pid.parse().unwrap()).unwrap());
    eventually("the end of the supervisor", || {
        let stat = std::fs::read_to_string(format!("/proc/{supervisor}/stat"));
        stat.map_or(Some(()), |stat| stat.contains(") Z ").then_some(()))
    });
    let next = output_of(["exec", "--listen", &address, "--", "true"]);
    assert_eq!(next.status.code(), Some(71));
    let said = stderr(&next);
    let named = format!("{address} is held by pid {pid} (sh)");
    assert!(said.contains(&named), "`{named}` is not in:\n{said}");
    drop(orphan);
    assert_eq!(killed.code(), 128 + 9);
}

/// A program that closes its sockets a moment after the end of its supervisor.
#[test]
fn what_a_killed_supervisor_has_left_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", dir.path().join("web.sock").display());
    let script =
        "trap 'sleep 0.4; exit 0' TERM; eval \"echo >&$READY_FD\"; while :; do sleep 0.02; done";
    let listen = format!("127.0.0.1:0,udp:127.0.0.1:0,{path}");
    let mut killed = exec_script(&["--listen", &listen, "--ready-fd"], script);
    killed.says("epoch 0 is live");
    let at = |text: &str| {
        let line = killed.says(text);
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let (tcp, udp) = (at("listening on 127"), at("listening on udp:"));
    killed.signal(Signal::KILL);
    killed.code();
    let listen = [&*tcp, &*udp, &*path].join(",");
    let mut next = exec_script(&["--listen", &listen], "exec sleep 600");
    next.says(&format!("{tcp} is in use; waiting up to 2s for it"));
    next.says("epoch 0 is live");
    next.signal(Signal::TERM);
    assert_eq!(next.code(), 0);
}

/// A process group that ends with the test.
struct OrphanGroup(Pid);

impl Drop for OrphanGroup {
    fn drop(&mut self) {
        let _ended = kill_process_group(self.0, Signal::KILL);
    }
}

#[test]
fn the_notify_socket_is_read_to_the_end_of_the_epoch() {
    let mut handover = exec_server(&["--log-level", "debug"], &[]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    // An open connection keeps it for a second. It could end in the moment in which it speaks otherwise.
    let _kept = std::net::TcpStream::connect(address).unwrap();
    // A request that came later is answered, so the connection was accepted.
    eventually("an answer", || get(address, "/").ok());
    handover.signal(Signal::HUP);
    handover.says("epoch 0 drains, 1 serves");
    // It sends this once it is told to end, and fails where nobody listens.
    handover.says("the program says that it is about to end");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    // Neither has found nobody there. What one says and ends in the same moment may stay unread.
    assert_eq!(handover.stderr.count("[epoch"), 0);
}

#[test]
fn the_readiness_descriptor_is_read_to_the_end_of_the_epoch() {
    let script = "eval \"echo >&$READY_FD\"; sleep 0.3; eval \"echo more >&$READY_FD\"; \
        echo still there; exec sleep 100";
    let handover = exec_script(&["--ready-fd", "--max-retries", "0"], script);
    handover.says("epoch 0 is live");
    handover.stdout.wait_for("[epoch 0] still there");
}

/// The line about its flags that the kernel has for a passed socket.
const SHOW_FLAGS: &str = "grep flags /proc/$$/fdinfo/3; exec sleep 100";
/// `O_RDWR`, as the kernel shows it; `O_NONBLOCK` would add 4000.
const BLOCKING: &str = "[epoch 0] flags:\t02";
const NONBLOCKING: &str = "[epoch 0] flags:\t04002";

#[test]
fn passed_sockets_block_unless_asked_for_otherwise() {
    let listen = ["--listen", "127.0.0.1:0"];
    let handover = exec_script(&listen, SHOW_FLAGS);
    assert_eq!(handover.stdout.wait_for("flags:"), BLOCKING);
    let handover = exec_script(&[&listen[..], &["--nonblocking"]].concat(), SHOW_FLAGS);
    assert_eq!(handover.stdout.wait_for("flags:"), NONBLOCKING);
}

#[test]
fn what_a_dead_epoch_made_of_a_socket_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    // The server makes its socket nonblocking. The one after it does not expect that.
    let script = format!(
        "if mkdir {}; then echo $$; exec {} demo-server; fi; {SHOW_FLAGS}",
        first.display(),
        env!("CARGO_BIN_EXE_handover")
    );
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--live-after",
        "200ms",
        "--retry-interval",
        "10ms",
    ];
    let handover = exec_script(&flags, &script);
    let address = handover.address();
    let pid = handover.stdout.wait_for("[epoch 0] ");
    eventually("an answer", || get(address, "/").ok());
    let pid = pid.rsplit(' ').next().unwrap().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(handover.stdout.wait_for("flags:"), BLOCKING);
}

#[test]
fn what_its_own_parent_said_is_not_passed_on() {
    let script = "echo fd=$READY_FD socket=$NOTIFY_SOCKET dog=$WATCHDOG_USEC$WATCHDOG_PID \
        listen=$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES; exec sleep 100";
    let mut command = handover(["exec", "--live-after", "10ms", "--", "sh", "-c", script]);
    for (name, value) in [
        ("READY_FD", "9"),
        ("NOTIFY_SOCKET", "/nonexistent/notify"),
        ("WATCHDOG_USEC", "1"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "3"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", "a:b:c"),
    ] {
        command.env(name, value);
    }
    let mut handover = Running::start(&mut command);
    handover.says("epoch 0 is live");
    handover
        .stdout
        .wait_for("[epoch 0] fd= socket= dog= listen=");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

/// Ready only where it is epoch 0; it ends when it is told to.
const READY_ONCE: &str = "trap 'exit 0' TERM; [ $RESTART_EPOCH = 0 ] && echo >&3; \
    while :; do sleep 0.02; done";

/// Far below the fifty seconds that a stop takes which waits for a start.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(25);

#[test]
fn a_stop_beside_an_epoch_that_never_becomes_ready_drains_at_once() {
    let flags = ["--ready-fd=3", "--drain-time", "50s"];
    let mut handover = exec_script(&flags, READY_ONCE);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    eventually("the second process", || {
        (children_of(handover.pid()).len() == 2).then_some(())
    });
    let asked = std::time::Instant::now();
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(handover.stderr.count("cut"), 0);
}

#[test]
fn a_stop_of_the_only_epoch_that_never_becomes_ready_ends_it_at_once() {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let mut handover = exec_script(&["--ready-fd=3", "--drain-time", "50s"], script);
    eventually("the process", || {
        (children_of(handover.pid()).len() == 1).then_some(())
    });
    let asked = std::time::Instant::now();
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
}

#[test]
fn a_start_that_never_becomes_ready_gives_way_to_the_next_change() {
    let dir = tempfile::tempdir().unwrap();
    let corrected = dir.path().join("corrected");
    let script = format!(
        "trap 'exit 0' TERM; {{ [ $RESTART_EPOCH = 0 ] || [ -e '{}' ]; }} && echo >&3; \
         while :; do sleep 0.02; done",
        corrected.display()
    );
    let flags = ["--ready-fd=3", "--give-way-after", "300ms"];
    let mut handover = exec_script(&flags, &script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("starting epoch 1");
    eventually("the second process", || {
        (children_of(handover.pid()).len() == 2).then_some(())
    });
    std::fs::write(&corrected, "").unwrap();
    let asked = std::time::Instant::now();
    handover.signal(Signal::HUP);
    handover.says("gives way to a newer configuration");
    handover.says("epoch 1 is live");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(handover.stderr.count("retries left"), 0);
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_start_deadline_that_passed_while_the_supervisor_was_stopped_ends_no_ready_epoch() {
    let script = "trap 'exit 0' TERM; [ $RESTART_EPOCH = 0 ] || sleep 3; echo >&3; \
        while :; do sleep 0.02; done";
    let mut handover = exec_script(&["--ready-fd=3", "--start-deadline", "12s"], script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("starting epoch 1");
    eventually("the second process", || {
        (children_of(handover.pid()).len() == 2).then_some(())
    });
    handover.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_secs(14));
    handover.signal(Signal::CONT);
    handover.says("epoch 1 is live");
    assert_eq!(handover.stderr.count("not live in time"), 0);
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn an_old_epoch_that_ended_while_the_supervisor_was_stopped_was_not_killed() {
    let script = "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.02; done";
    let flags = ["--live-after", "10ms", "--drain-time", "8s"];
    let mut handover = exec_script(&flags, script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 0 drains, 1 serves");
    handover.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_secs(10));
    handover.signal(Signal::CONT);
    handover.says("epoch 0 ended cleanly");
    assert_eq!(handover.stderr.count("did not end within"), 0);
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_program_that_was_not_asked_before_the_supervisor_was_stopped_has_all_of_its_time() {
    let script = "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.02; done";
    let flags = ["--live-after", "10ms", "--drain-time", "3s"];
    let mut handover = exec_script(&[&flags[..], &["--drain-cmd", "sleep 1"]].concat(), script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 0 drains, 1 serves");
    eventually("the command", || {
        (children_of(handover.pid()).len() == 3).then_some(())
    });
    handover.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_secs(5));
    handover.signal(Signal::CONT);
    handover.says("epoch 0 ended cleanly");
    assert_eq!(handover.stderr.count("did not end within"), 0);
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}
