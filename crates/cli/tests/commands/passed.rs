//! Sockets that the parent of the supervisor has passed to it.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::client::{get, load};
use crate::flags::run;
use crate::support::{Running, eventually, finish, from_shell, handover, stderr};

const BINARY: &str = env!("CARGO_BIN_EXE_handover");

/// The same command, to which a shell passes this descriptor as number 3, as a service manager does.
fn passing(fd: impl Into<OwnedFd>, variables: &str, command: &Command) -> Command {
    let mut command = from_shell(&format!("LISTEN_PID=$$ {variables}"), command);
    // Not 3 itself, whose flag would stay.
    let fd: OwnedFd = fd.into();
    let fd = rustix::io::fcntl_dupfd_cloexec(&fd, 10).unwrap();
    let pass = move || {
        #[expect(unsafe_code, reason = "a descriptor of a certain number")]
        // SAFETY: both are only numbers, and the first one is open.
        match unsafe { libc::dup2(fd.as_raw_fd(), 3) } {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    #[expect(unsafe_code, reason = "descriptors are passed between fork and exec")]
    // SAFETY: between fork and exec, this makes one call that is allowed there.
    unsafe {
        command.pre_exec(pass);
    }
    command
}

fn refused(fd: impl Into<OwnedFd>, variables: &str, args: &[&str]) -> String {
    let output = finish(&mut passing(fd, variables, &handover(args)));
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    stderr(&output)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_passed_socket_is_handed_over_without_a_loss() {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let args = ["exec", "--notify", "--", BINARY, "demo-server"];
    let variables = "LISTEN_FDS=1 LISTEN_FDNAMES=web";
    let mut handover = Running::start(&mut passing(listener, variables, &handover(args)));
    handover.says("took over the socket web: listening on 127.0.0.1:");
    handover.says("epoch 0 is live");
    let load = load(address);
    for epoch in 1..=2 {
        handover.signal(Signal::HUP);
        eventually("the next epoch", || {
            (get(address, "/").ok()?.epoch == epoch).then_some(())
        });
        handover.says(&format!("epoch {} ended cleanly", epoch - 1));
    }
    load.stop_blocking().assert_no_loss();
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn passed_sockets_come_first_and_then_those_of_the_flags() {
    let script = "echo fds=$LISTEN_FDS names=$LISTEN_FDNAMES; exec sleep 100";
    let args = [
        "exec",
        "--listen",
        "127.0.0.1:0,[::1]:0",
        "--fd-name",
        "admin",
    ];
    let args: Vec<&str> = args.into_iter().chain(["--", "sh", "-c", script]).collect();
    for (names, expected) in [
        ("LISTEN_FDNAMES=web", "fds=3 names=web:admin:listen2"),
        ("", "fds=3 names=listen0:admin:listen2"),
    ] {
        let variables = format!("LISTEN_FDS=1 {names}");
        let handover = Running::start(&mut passing(listener(), &variables, &handover(&args)));
        handover.stdout.wait_for(expected);
    }
}

#[test]
fn what_is_for_another_process_is_not_taken_over() {
    let script = "echo fds=${LISTEN_FDS-none}; exec sleep 100";
    let args = ["exec", "--", "sh", "-c", script];
    let handover = Running::start(&mut passing(
        listener(),
        "LISTEN_FDS=1 LISTEN_PID=1",
        &handover(args),
    ));
    handover.stdout.wait_for("fds=none");
}

#[test]
fn a_passed_socket_for_datagrams_is_passed_on() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let script = "echo names=$LISTEN_FDNAMES; exec sleep 100";
    let variables = "LISTEN_FDS=1 LISTEN_FDNAMES=dns";
    let command = handover(["exec", "--", "sh", "-c", script]);
    let handover = Running::start(&mut passing(udp, variables, &command));
    handover.says(&format!(
        "took over the socket dns: listening on udp:{address}"
    ));
    handover.stdout.wait_for("names=dns");
}

#[test]
fn what_is_no_listening_socket_is_refused_by_name() {
    let args = ["exec", "--", "sleep", "100"];
    let file = std::fs::File::open("/dev/null").unwrap();
    let message = refused(file, "LISTEN_FDS=1 LISTEN_FDNAMES=dns", &args);
    assert!(
        message.contains("descriptor 3 (dns) is no socket"),
        "{message}"
    );
    let message = refused(listener(), "LISTEN_FDS=2 LISTEN_FDNAMES=a", &args);
    assert!(
        message.contains("LISTEN_FDNAMES has 1 names, but LISTEN_FDS=2"),
        "{message}"
    );
    let message = refused(listener(), "LISTEN_FDS=200", &args);
    assert!(
        message.contains("LISTEN_FDS=200, but descriptor "),
        "{message}"
    );
    let message = refused(listener(), "LISTEN_FDS=many", &args);
    assert!(
        message.contains("LISTEN_FDS=many is no number"),
        "{message}"
    );
}

#[test]
fn an_address_that_was_passed_is_not_bound_again() {
    let listener = listener();
    let address = listener.local_addr().unwrap().to_string();
    let args = ["exec", "--listen", &address, "--", "sleep", "100"];
    let message = refused(listener, "LISTEN_FDS=1 LISTEN_FDNAMES=web", &args);
    assert!(
        message.contains("the service manager passes a socket"),
        "{message}"
    );
    assert!(message.contains("(web): leave --listen out"), "{message}");
}

#[test]
fn run_warns_once_of_sockets_that_envoy_cannot_take() {
    for (variables, warning) in [
        (
            "LISTEN_FDS=1 LISTEN_FDNAMES=web",
            "the service manager passes sockets (web), but Envoy binds the addresses of its configuration itself; \
             they are not used: remove the socket unit, as its clients wait in vain",
        ),
        // A remedy for a command that takes sockets would be none here.
        (
            "LISTEN_FDS=many",
            "`many` is no number of descriptors; `run` takes no sockets, as Envoy binds the addresses of its \
             configuration itself: start handover without this variable",
        ),
        (
            "LISTEN_FDS=200",
            "there should be 200 descriptors, but descriptor ",
        ),
        (
            "LISTEN_FDS=2 LISTEN_FDNAMES=a",
            "there should be 2 descriptors, but LISTEN_FDNAMES has 1 names; `run` takes no sockets",
        ),
    ] {
        let args = ["run", "--config-path", "/none", "--envoy-path", "/none"];
        let output = finish(&mut passing(listener(), variables, &handover(args)));
        let said = stderr(&output);
        assert!(
            said.contains(&format!("WARN  LISTEN_FDS: {warning}")),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(127), "{said}");
    }
}

/// The checks beside the start named the variable once more, with another remedy.
#[test]
fn the_checks_beside_a_start_leave_passed_sockets_to_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = run(dir.path(), "hangs", &[]);
    command.env("RESTART_EPOCH", "3");
    let mut running = Running::start(&mut passing(listener(), "LISTEN_FDS=1", &command));
    let line = running.says("doctor: foreign-variables: RESTART_EPOCH=3 is ignored");
    assert!(!line.contains("LISTEN_FDS"), "{line}");
    assert_eq!(running.stderr.count("LISTEN_FDS"), 1);
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    running.code();
}
