//! A wrong command line ends with 64 and says what is wrong.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::support::{finish, handover, output_of, stderr};

#[track_caller]
fn is_refused(command: &str, reason: &str) {
    let output = output_of(command.split_whitespace());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains(reason), "`{reason}` is not in:\n{said}");
}

#[test]
fn an_unknown_command_is_refused() {
    is_refused("supervise", "unrecognized subcommand 'supervise'");
}

#[test]
fn an_unknown_flag_is_refused() {
    is_refused("exec --watsh x -- true", "unexpected argument '--watsh'");
}

#[test]
fn exec_needs_a_program() {
    is_refused("exec --listen 127.0.0.1:0", "<CMD>");
}

#[test]
fn a_duration_needs_a_unit() {
    is_refused("exec --drain-time 5 -- true", "such as 45s or 300ms");
    is_refused("exec --start-deadline never -- true", "or `none`");
}

#[test]
fn a_signal_is_known_by_name() {
    is_refused(
        "exec --stop-signal STOPP -- true",
        "`STOPP` is not a signal",
    );
}

#[test]
fn an_address_needs_a_port() {
    is_refused("exec --listen localhost -- true", "has no port");
    is_refused("resolve localhost", "has no port");
}

#[test]
fn a_socket_that_cannot_be_passed_is_named() {
    for (address, to_listen, to_probe) in [
        (
            "/run/x.sock",
            "for a Unix socket, write unix:PATH",
            "Unix sockets are not supported",
        ),
        (
            "@name",
            "for a Unix socket, write unix:PATH",
            "Unix sockets are not supported",
        ),
        (
            "udp://127.0.0.1:53",
            "for UDP, write udp:HOST:PORT",
            "UDP sockets are not supported",
        ),
        ("fd://3", "exec passes all of them on", "give HOST:PORT"),
        (
            "8080",
            "there is no host before the port",
            "there is no host before the port",
        ),
        (
            "*:8080",
            "all addresses are 0.0.0.0:PORT or [::]:PORT",
            "all addresses are 0.0.0.0:PORT or [::]:PORT",
        ),
    ] {
        is_refused(&format!("exec --listen {address} -- true"), to_listen);
        is_refused(&format!("exec --probe-tcp {address} -- true"), to_probe);
    }
    for address in ["unix:/x", "udp:127.0.0.1:53"] {
        is_refused(
            &format!("exec --probe-tcp {address} -- true"),
            "sockets are not supported",
        );
    }
}

#[test]
fn a_name_without_a_socket_is_refused() {
    is_refused("exec --fd-name web -- true", "1 names for 0 sockets");
}

#[test]
fn a_name_that_cannot_be_passed_is_refused() {
    is_refused(
        "exec --listen 127.0.0.1:0 --fd-name a:b -- true",
        "without `:`",
    );
}

#[test]
fn two_ways_of_readiness_contradict_each_other() {
    is_refused("exec --notify --ready-fd -- true", "cannot be used with");
    is_refused(
        "exec --probe-tcp a:1 --probe-http http://a:1/ -- true",
        "cannot be used with",
    );
}

#[test]
fn a_readiness_descriptor_cannot_be_a_socket() {
    is_refused(
        "exec --listen 127.0.0.1:0 --ready-fd=3 -- true",
        "use 4 or a higher number",
    );
    is_refused(
        "exec --ready-fd=1 -- true",
        "the number of a descriptor, 3 or more",
    );
}

#[test]
fn a_probe_of_a_shared_socket_would_say_nothing() {
    for ip in ["127.0.0.1", "0.0.0.0"] {
        is_refused(
            &format!("exec --listen {ip}:7 --probe-tcp 127.0.0.1:7 -- true"),
            "is passed to every epoch",
        );
        is_refused(
            &format!("exec --listen {ip}:7 --probe-http http://127.0.0.1:7/ready -- true"),
            "is passed to every epoch",
        );
    }
}

#[test]
fn a_probe_needs_a_whole_url() {
    is_refused(
        "exec --probe-http https://a:1/ -- true",
        "write http://HOST:PORT/PATH",
    );
}

/// A socket that is bound for a command line which is refused takes connections, and resets them. Each of these
/// command lines would fail otherwise at a socket that is taken.
#[test]
fn the_command_line_is_judged_before_anything_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("taken.sock");
    let _taken_too = UnixListener::bind(&socket).unwrap();
    let socket = socket.display();
    let done = dir.path().join("done");
    std::fs::write(&done, "").unwrap();
    let done = done.display();
    for places in [
        format!("--status-address {address}"),
        format!("--socket {socket}"),
    ] {
        let exec = format!("exec --listen 127.0.0.1:0 {places}");
        is_refused(
            &format!("{exec} --ready-fd=3 -- true"),
            "use 4 or a higher number",
        );
        is_refused(
            &format!("{exec} --probe-http https://a:1/ -- true"),
            "write http://HOST:PORT/PATH",
        );
        is_refused(
            &format!("{exec} --exit-with-file {done} -- true"),
            "--exit-with-file",
        );
        let run = format!("run --config-path /dev/null {places}");
        is_refused(
            &format!("{run} --envoy-path /bin/true --drain-time 60s"),
            "must be shorter than the parent shutdown time",
        );
        let output = output_of(format!("{run} --envoy-path no-such-envoy").split_whitespace());
        assert_eq!(output.status.code(), Some(127), "{}", stderr(&output));
    }
}

#[test]
fn a_crash_loop_needs_its_brake() {
    is_refused(
        "exec --reset-after 0s -- true",
        "a crash loop would never be slowed down",
    );
}

#[test]
fn run_needs_a_drain_that_ends_before_the_shutdown() {
    let config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let path = config.path().to_str().unwrap();
    is_refused(
        &format!("run --config-path {path} --envoy-path /bin/true --drain-time 60s"),
        "must be shorter than the parent shutdown time",
    );
}

#[test]
fn the_variable_of_istio_counts_whole_seconds() {
    let flags = ["run", "--config-path", "/nonexistent", "--envoy-path", "x"];
    let output = finish(handover(flags).env("TERMINATION_DRAIN_DURATION_SECONDS", "5s"));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    let expected =
        "TERMINATION_DRAIN_DURATION_SECONDS is \"5s\", which is no number of whole seconds";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_listener_that_does_not_hold_a_drain_has_a_name_or_a_port() {
    let run = "run --config-path /nonexistent";
    is_refused(
        &format!("{run} --drain-exclude-listener a,*"),
        "the name is empty",
    );
    is_refused(
        &format!("{run} --drain-exclude-listener a*b"),
        "nothing can follow it",
    );
    is_refused(&format!("{run} --drain-exclude-port 0"), "0 is not in 1");
}

#[test]
fn a_variable_is_as_good_as_a_flag_and_the_flag_wins() {
    let mut command = handover(["exec", "--", "true"]);
    let output = finish(command.env("HANDOVER_DRAIN_TIME", "5"));
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("'--drain-time <TIME>'"));

    let flags = ["exec", "--on-exit", "stop", "--", "sh", "-c", "exit 3"];
    let output = finish(handover(flags).env("HANDOVER_ON_EXIT", "stay"));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

/// A terminal would obey what is in a path, and its reader see what nobody wrote.
#[test]
fn what_a_message_repeats_commands_no_terminal() {
    let escapes = "a\u{1b}]0;owned\u{7}\u{1b}[2K\rb\u{9b}31m\u{202e}c\nINFO all is well";
    let commands: [&[&str]; 5] = [
        &["status", "--socket", escapes],
        &[
            "validate",
            "--config-path",
            escapes,
            "--envoy-path",
            escapes,
        ],
        &["run", "--config-path", escapes, "--envoy-path", escapes],
        &["exec", "--watch", escapes, "--", escapes],
        &["exec", escapes],
    ];
    for command in commands {
        let output = output_of(command);
        let said = stderr(&output);
        assert_ne!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("\\u{9b}"), "{command:?}: {said}");
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.contains(obeyed), "{command:?}: {said:?}");
        assert!(!said.lines().any(|line| line.starts_with("INFO")), "{said}");
    }
}
