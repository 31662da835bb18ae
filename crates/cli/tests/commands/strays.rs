//! Programs that are started by another one in a group or session of their own, as by `dumb-init`, `tini` and `su -c`.

use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use handover_test_support::limit;
use handover_test_support::ports::Port;
use rustix::process::Signal;

use crate::support::{LIMIT, Running, exec_script, executing, handover, skipped};

const WARNING: &str = "behind, in a process group of its own and with the sockets: it was killed";

/// The number at the end of the first line with this text.
fn number(handover: &Running, text: &str) -> u32 {
    let line = handover.stdout.wait_for(text);
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn it_speaks_for_the_program_that_has_started_it() {
    let server = env!("CARGO_BIN_EXE_handover");
    let script = format!("setsid --wait sh -c 'LISTEN_PID=$$ exec {server} demo-server'");
    let mut handover = exec_script(&["--listen", "127.0.0.1:0", "--notify"], &script);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
}

#[test]
fn it_does_not_stay_with_the_sockets_when_the_one_that_has_started_it_ends() {
    // It passes no signal on.
    let script = "setsid --wait sh -c 'echo inner $$; exec sleep 600'";
    let mut handover = exec_script(&["--listen", "127.0.0.1:0"], script);
    let first = number(&handover, "[epoch 0] inner ");
    handover.says("epoch 0 is live");
    assert!(runs(first));
    handover.signal(Signal::HUP);
    let second = number(&handover, "[epoch 1] inner ");
    handover.says("epoch 1 is live");
    let told = handover.says(WARNING);
    assert!(
        told.contains(&format!(
            "epoch 0 has ended, and left process {first} (sleep)"
        )),
        "{told}"
    );
    assert!(!runs(first));
    assert!(runs(second));

    // Nobody listens any more once all has ended.
    let address = handover.address();
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    assert!(!runs(second));
    TcpStream::connect(address).unwrap_err();
}

#[test]
fn one_that_is_killed_takes_it_along() {
    let script = "trap '' TERM; setsid --wait sh -c 'echo inner $$; exec sleep 600'; :";
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--drain-time",
        "300ms",
        "--abort-grace",
        "300ms",
    ];
    let mut handover = exec_script(&flags, script);
    let inner = number(&handover, "[epoch 0] inner ");
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 75);
    handover.says(WARNING);
    assert!(!runs(inner));
}

#[test]
fn one_that_ends_by_itself_takes_it_along_before_the_next_start() {
    let script = "setsid sh -c 'echo inner $$; exec sleep 600' & \
                  eval \"echo >&$READY_FD\"; sleep 2; exit 3";
    let handover = exec_script(&["--listen", "127.0.0.1:0", "--ready-fd"], script);
    let inner = number(&handover, "[epoch 0] inner ");
    handover.says(WARNING);
    handover.stdout.wait_for_nth(2, "inner ");
    assert!(!runs(inner));
}

/// It would keep the next one from its address.
#[test]
fn one_that_has_bound_its_address_itself_does_not_keep_it() {
    let server = env!("CARGO_BIN_EXE_handover");
    let port = Port::free();
    let address = port.addr();
    let script = format!(
        "trap '' TERM; setsid --wait sh -c 'echo inner $$; \
         exec {server} exec --listen {address} -- sleep 600'; :"
    );
    let flags = ["--drain-time", "300ms", "--abort-grace", "300ms"];
    let probe = ["--probe-tcp", &address.to_string()];
    let mut handover = exec_script(&[&flags[..], &probe].concat(), &script);
    let inner = number(&handover, "[epoch 0] inner ");
    handover.says("epoch 0 is live after");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 75);
    handover.says("behind, in a process group of its own and listening: it was killed");
    assert!(!runs(inner));
}

/// Some programs start a job in a session of its own so that it outlives them.
#[test]
fn a_job_without_the_sockets_goes_on() {
    let script = "setsid sh -c 'echo inner $$; exec sleep 600 3>&-' & echo; exec sleep 600";
    let mut handover = exec_script(&["--listen", "127.0.0.1:0"], script);
    let inner = number(&handover, "[epoch 0] inner ");
    handover.says("epoch 0 is live");
    let socket = format!("/proc/{inner}/fd/3");
    limit::eventually(LIMIT, "the job has closed its socket", || {
        (!Path::new(&socket).exists()).then_some(())
    });
    handover.signal(Signal::HUP);
    handover.says("epoch 1 is live");
    handover.says("epoch 0 ended");
    assert!(runs(inner));
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    assert_eq!(handover.stderr.count(WARNING), 0);
    assert!(runs(inner));
}

/// Root in a container lacks the capability to look at what another user runs.
#[test]
fn one_that_may_not_be_looked_at_is_told_and_runs_on() {
    if !rustix::process::geteuid().is_root() {
        let test = "strays::one_that_may_not_be_looked_at_is_told_and_runs_on";
        return skipped(test, "only root can start a program as another user");
    }
    let script = "setsid --wait sh -c 'echo inner $$; exec sleep 600'";
    let flags = ["exec", "--user", "65534", "--group", "65534"];
    let words = flags
        .into_iter()
        .chain(["--listen", "127.0.0.1:0", "--", "sh", "-c", script]);
    let mut launcher = Command::new("setpriv");
    launcher.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]);
    let mut handover = Running::start(&mut executing(launcher, &handover(words)));
    let inner = number(&handover, "[epoch 0] inner ");
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    let told = handover.says(&format!("left process {inner} (sleep) behind"));
    let why =
        "whether it is left with the sockets cannot be seen (Permission denied (os error 13))";
    assert!(
        told.contains(why) && told.contains("CAP_SYS_PTRACE"),
        "{told}"
    );
    assert!(runs(inner));
}

#[test]
fn a_stranger_that_says_ready_is_named() {
    let flags = [
        "exec",
        "--start-deadline",
        "1s",
        "--max-retries",
        "0",
        "--notify",
    ];
    let script = "echo at $NOTIFY_SOCKET; exec sleep 600";
    let words = flags.into_iter().chain(["--", "sh", "-c", script]);
    let mut handover = Running::start(&mut handover(words));
    let line = handover.stdout.wait_for(" at @");
    let name = line.rsplit('@').next().unwrap();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.send_to_addr(b"READY=1", &address).unwrap();
    assert_eq!(handover.code(), 69);
    let own = std::process::id();
    handover.says(&format!(
        "it was not live within 1s: the READY=1 that has come to NOTIFY_SOCKET is of process {own}, which is neither"
    ));
}
