use std::time::Instant;

use handover_test_support::limit::eventually;
use handover_test_support::log::Stream;
use handover_test_support::process_tag::{ProcessTag, process};
use handover_test_support::supervisor::{Launch, Signal};

use crate::LONG;

#[test]
fn lines_of_both_outputs_are_kept_until_the_last() {
    let mut shell = shell("echo one; echo two >&2; printf three; exit 7").start();
    assert_eq!(shell.wait_exit(LONG).code(), Some(7));
    assert!(!shell.is_running());
    let lines = shell.log().lines();
    let of = |stream| -> Vec<String> {
        lines
            .iter()
            .filter(|line| line.stream == stream)
            .map(|line| line.text.clone())
            .collect()
    };
    assert_eq!(of(Stream::Stdout), ["one", "three"]);
    assert_eq!(of(Stream::Stderr), ["two"]);
}

#[test]
fn lines_are_waited_for_in_order() {
    let shell = shell("echo live 0; echo live 1; exec sleep 600").start();
    let first = shell.wait_for_line("live", LONG);
    assert_eq!(
        shell.wait_for_line_after(&first, "live", LONG).text,
        "live 1"
    );
    assert_eq!(shell.wait_for_lines("live", 2, LONG).text, "live 1");
    assert_eq!(shell.count_lines("live"), 2);
}

#[test]
fn a_line_that_can_no_longer_come_is_not_waited_for() {
    let begun = Instant::now();
    let result = std::panic::catch_unwind(|| {
        shell("echo only this")
            .start()
            .wait_for_line("something else", LONG);
    });
    let message = *result.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("0 of 1 lines with \"something else\""),
        "{message}"
    );
    assert!(message.contains("and closed its outputs"), "{message}");
    assert!(begun.elapsed() < LONG);
}

#[test]
fn a_signal_reaches_the_process() {
    let script = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.01; done";
    let mut shell = shell(script).start();
    shell.wait_for_line("up", LONG);
    assert!(shell.is_running());
    shell.signal(Signal::TERM);
    assert_eq!(shell.wait_exit(LONG).code(), Some(3));
    assert_eq!(shell.count_lines("asked"), 1);
}

#[test]
fn children_are_those_of_the_process_itself() {
    let shell = shell("sleep 600 & echo $!; wait").start();
    let child: u32 = shell.wait_for_line("", LONG).text.parse().unwrap();
    assert_eq!(shell.children(), [child]);
}

#[test]
fn a_drop_kills_orphans_in_sessions_of_their_own() {
    let shell = shell("(setsid sleep 600 &); echo up; exec sleep 601").start();
    shell.wait_for_line("up", LONG);
    let tag = shell.tag().clone();
    eventually(LONG, "both sleepers", || {
        (sleepers(&tag) == 2).then_some(())
    });
    assert!(shell.children().is_empty(), "the orphan is nobody's child");
    drop(shell);
    assert_eq!(tag.processes(), []);
}

#[test]
fn a_child_that_hides_its_environment_is_found_and_killed() {
    let shell = shell("env -i sleep 600 & echo $!; wait").start();
    let child: u32 = shell.wait_for_line("", LONG).text.parse().unwrap();
    eventually(LONG, "the sleeper", || {
        (sleepers(shell.tag()) == 1).then_some(())
    });
    drop(shell);
    // Its new parent may take its time to wait for it.
    assert!(process(child).is_none_or(|child| child.is_zombie));
}

#[test]
fn the_configuration_of_the_program_under_test_is_not_inherited() {
    let name = "supervisor::the_configuration_of_the_program_under_test_is_not_inherited";
    if std::env::var_os("HANDOVER_PROBE").is_some() {
        let mut inner = shell("echo probe=$HANDOVER_PROBE kept=$UNRELATED").start();
        inner.wait_exit(LONG);
        return println!("{}", inner.log());
    }
    let outer = this_test(name)
        .env("HANDOVER_PROBE", "set")
        .env("UNRELATED", "set")
        .start();
    outer.wait_for_line("probe= kept=set", LONG);
}

#[test]
fn the_program_under_test_is_the_one_that_is_named() {
    let name = "supervisor::the_program_under_test_is_the_one_that_is_named";
    if std::env::var_os("HANDOVER_BIN").is_some() && std::env::var_os("INNER").is_some() {
        let inner = Launch::handover().args(["-c", "echo named"]).start();
        return println!("{}", inner.wait_for_line("named", LONG));
    }
    let outer = |bin: &str| {
        this_test(name)
            .env("INNER", "1")
            .env("HANDOVER_BIN", bin)
            .start()
    };
    outer("/bin/sh").wait_for_line("out named", LONG);
    outer("/nonexistent").wait_for_line("HANDOVER_BIN names no file: /nonexistent", LONG);
}

#[test]
fn a_failing_test_shows_the_log() {
    let name = "supervisor::a_failing_test_shows_the_log";
    if std::env::var_os("HANDOVER_FAIL").is_some() {
        let inner = shell("echo the reason; exec sleep 600").start();
        inner.wait_for_line("the reason", LONG);
        panic!("on purpose");
    }
    let mut outer = this_test(name).env("HANDOVER_FAIL", "1").start();
    assert!(!outer.wait_exit(LONG).success());
    let log = outer.log().to_string();
    let (_, shown) = log
        .split_once("--- log of sh")
        .expect("the log is introduced");
    assert!(shown.contains("out the reason"), "{log}");
}

fn shell(script: &str) -> Launch {
    Launch::program("sh").args(["-c", script])
}

fn this_test(name: &str) -> Launch {
    let test = std::env::current_exe().unwrap();
    Launch::program(test).args(["--exact", name, "--nocapture"])
}

fn sleepers(tag: &ProcessTag) -> usize {
    tag.processes()
        .iter()
        .filter(|process| process.command.starts_with("sleep"))
        .count()
}
