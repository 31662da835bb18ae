//! What `exec` gives to its program, and how it asks the program to end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;

use crate::client::{Pending, get};
use crate::support::{
    Running, eventually, exec_deaf, exec_script, exec_server, handover, output_of, replace, stderr,
};

#[test]
fn variables_and_arguments_name_the_epoch_and_its_descriptors() {
    let flags = [
        "--listen",
        "127.0.0.1:0,127.0.0.1:0",
        "--fd-name",
        "web,admin",
        "--env",
        "NGINX={fd:web};{fd:admin};",
        "--env",
        "NAME=epoch-{epoch}-{{kept}}",
        "--arg-epoch",
        "--restart-epoch={epoch}",
    ];
    // The script's own arguments are behind its name.
    let script = "echo nginx=$NGINX name=$NAME arg=$0; exec sleep 600";
    let handover = exec_script(&flags, script);
    handover.says("epoch 0 is live");
    handover
        .stdout
        .wait_for("nginx=3;4; name=epoch-0-{kept} arg=--restart-epoch=0");
    handover.signal(Signal::HUP);
    handover
        .stdout
        .wait_for("nginx=3;4; name=epoch-1-{kept} arg=--restart-epoch=1");
}

/// As in docs/commands.md.
#[test]
fn a_file_of_variables_is_read_for_each_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (file, server) = (dir.path().join("app.env"), dir.path().join("server"));
    replace(&file, "COLOUR='deep blue'\nSIZE=1\n");
    replace(
        &server,
        "#!/bin/sh\necho \"$COLOUR, $SIZE, $LISTEN_FDS at $(($LISTEN_PID - $$))\"\nexec sleep 600\n",
    );
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let words = [
        "exec",
        "--listen",
        "127.0.0.1:0",
        "--watch",
        "app.env",
        "--",
        "sh",
        "-c",
    ];
    let script = "set -a; . ./app.env; exec ./server";
    let mut command = handover(words.into_iter().chain([script]));
    let handover = Running::start(command.current_dir(dir.path()));
    handover.stdout.wait_for("deep blue, 1, 1 at 0");
    handover.says("epoch 0 is live");
    replace(&file, "COLOUR=red\n");
    handover.stdout.wait_for("red, , 1 at 0");
}

#[test]
fn the_program_runs_in_the_directory_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let handover = exec_script(
        &["--cwd", path.to_str().unwrap()],
        "echo dir=$(pwd -P); exec sleep 600",
    );
    handover.stdout.wait_for(&format!("dir={}", path.display()));
}

#[test]
fn what_cannot_be_given_to_a_program_is_refused() {
    let refused = |flags: &[&str], expected: &str| {
        let words = ["exec"].iter().chain(flags).chain(&["--", "true"]);
        let output = output_of(words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    refused(&["--env", "A"], "give a name, `=` and a value");
    refused(
        &["--env", "LISTEN_FDS=3"],
        "handover sets LISTEN_FDS itself",
    );
    refused(&["--env", "A={epcoh}"], "`{epcoh}` is not known");
    refused(
        &["--env", "A={fd:web}"],
        "{fd:web} is no socket: there is none",
    );
    refused(
        &["--listen", "127.0.0.1:0", "--env", "A={fd:web}"],
        "there are listen0; name one with --fd-name",
    );
    refused(&["--arg-epoch", "--plain"], "it is the same for each epoch");
    refused(
        &["--cwd", "/no such directory"],
        "give a directory that exists",
    );
    refused(&["--stop", "TERM"], "give a signal, `@` and a time");
    refused(
        &["--stop", "TERM@5s", "--stop", "QUIT@0s"],
        "put the steps in order",
    );
    refused(
        &["--stop", "TERM@20s"],
        "--drain-time 10s kills the program before",
    );
    refused(
        &["--drain-while-connected", "10s"],
        "has no effect, as every epoch gets --drain-time 10s",
    );
    refused(
        &["--stop", "TERM@0s", "--stop-signal", "QUIT"],
        "cannot be used with",
    );
}

/// Goes on after QUIT and USR2, and says which signals have come.
const STUBBORN: &str = "trap 'echo got quit' QUIT; trap 'echo got usr2' USR2; trap 'echo got term; exit 0' TERM; \
     eval \"echo >&$READY_FD\"; while :; do sleep 0.05; done";

#[test]
fn a_program_is_asked_to_end_in_steps() {
    let flags = [
        "--ready-fd",
        "--stop",
        "QUIT@0s",
        "--stop",
        "USR2@200ms",
        "--stop",
        "TERM@400ms",
    ];
    let mut handover = exec_script(&flags, STUBBORN);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 0 ended cleanly");
    handover.signal(Signal::TERM);
    assert_eq!(handover.code(), 0);
    let got: Vec<_> = handover.stdout.all();
    let of = |epoch: u32| -> Vec<&str> {
        let marked = format!("[epoch {epoch}] got ");
        let lines = got.iter();
        lines
            .filter_map(|line| Some(line.split_once(&marked)?.1))
            .collect()
    };
    assert_eq!(of(0), ["quit", "usr2", "term"]);
    assert_eq!(of(1), ["quit", "usr2", "term"]);
}

#[test]
fn a_stop_in_a_hurry_begins_with_the_last_step() {
    let flags = ["--ready-fd", "--stop", "QUIT@0s", "--stop", "TERM@9s"];
    let mut handover = exec_script(&flags, STUBBORN);
    handover.says("epoch 0 is live");
    handover.signal(Signal::TERM);
    handover.stdout.wait_for("got quit");
    handover.signal_again(Signal::TERM);
    handover.stdout.wait_for("got term");
    handover.code();
}

#[test]
fn a_command_drains_before_the_signal_and_its_failure_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let code = dir.path().join("code");
    replace(&code, "0");
    let drain = format!(
        "echo drains epoch $RESTART_EPOCH of $MAINPID; exit $(cat {})",
        code.display()
    );
    let script = "echo pid=$$; trap 'echo got term; exit 0' TERM; while :; do sleep 0.05; done";
    let mut handover = exec_script(&["--drain-cmd", &drain], script);
    let line = handover.stdout.wait_for("pid=");
    let pid = line.rsplit('=').next().unwrap();
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover
        .stdout
        .wait_for(&format!("drains epoch 0 of {pid}"));
    // What the program writes has a stream of its own, which may be read after the log.
    handover.stdout.wait_for("[epoch 0] got term");
    handover.says("epoch 0 ended cleanly");
    let lines = handover.stdout.all();
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(place("drains epoch 0") < place("[epoch 0] got term"));

    replace(&code, "3");
    handover.signal(Signal::TERM);
    handover.says("the command that prepares epoch 1 for its end failed: exited with code 3");
    assert_eq!(handover.code(), 0);
}

#[test]
fn a_drain_command_that_hangs_has_the_time_of_the_drain() {
    let flags = ["--drain-cmd", "sleep 600", "--drain-time", "300ms"];
    let handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("failed: it took longer than 300ms");
    handover.says("epoch 0 did not end within 300ms and was killed");
}

#[test]
fn an_old_epoch_with_connections_goes_on_after_the_drain_time() {
    let flags = [
        "--drain-time",
        "50ms",
        "--drain-while-connected",
        "30s",
        "--live-after",
        "10ms",
    ];
    let handover = exec_server(&flags, &[]);
    let address = handover.address();
    handover.says("epoch 0 is live");
    let slow = Pending::send(address, "/slow").unwrap();
    // A request that came later is answered, so the slow one is there.
    eventually("an answer", || get(address, "/").ok());
    handover.signal(Signal::HUP);
    handover.says("epoch 0 goes on: it still has 1 connection");
    assert_eq!(slow.answer().unwrap().epoch, 0);
    handover.says("epoch 0 ended cleanly");
    assert_eq!(handover.stderr.count("was killed"), 0);
}

#[test]
fn an_old_epoch_without_connections_has_no_more_than_the_drain_time() {
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--drain-time",
        "100ms",
        "--drain-while-connected",
        "600s",
    ];
    let handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover.says("epoch 0 did not end within 100ms and was killed");
    handover.says("epoch 0 ended cleanly");
}

#[test]
fn an_old_epoch_whose_connections_cannot_be_counted_goes_on_to_the_limit() {
    let flags = [
        "--listen",
        "udp:127.0.0.1:0",
        "--drain-time",
        "100ms",
        "--drain-while-connected",
        "400ms",
    ];
    let handover = exec_deaf(&flags);
    handover.says("epoch 0 is live");
    handover.signal(Signal::HUP);
    handover
        .says("epoch 0 goes on: whether it still has connections is unknown: the socket listen0");
    handover.says("epoch 0 did not end within 400ms and was killed");
}
