//! The demonstration, as its first viewer sees it.

use rustix::process::Signal;

use crate::support::{Running, handover, output_of, stderr, stdout};

#[track_caller]
fn assert_is_complete(printed: &str, hand_overs: u32) {
    let hand_overs = format!("hand-overs {hand_overs},");
    assert!(printed.contains(&hand_overs), "{printed}");
    assert!(printed.contains("configurations given up 1\n"), "{printed}");
    assert!(printed.ends_with("no request was lost\n"), "{printed}");
    let all = printed
        .lines()
        .find(|line| line.starts_with("  all "))
        .unwrap();
    let columns: Vec<&str> = all.split_whitespace().collect();
    let requests: usize = columns[1].replace(',', "").parse().unwrap();
    assert!(requests > 100, "{printed}");
    assert_eq!(columns[2], "0", "{printed}");
}

#[test]
fn it_loses_no_request() {
    let output = output_of(["demo", "--no-progress"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let printed = stdout(&output);
    assert_is_complete(&printed, 5);
    assert!(printed.contains("broken on purpose"), "{printed}");
    assert!(printed.contains("failed starts 3,"), "{printed}");
    assert_eq!(stderr(&output), "");
}

/// With nothing installed: the search path is empty.
#[test]
fn a_fake_envoy_is_handed_over_and_loses_no_request() {
    let mut command = handover(["demo", "--fake-envoy", "--no-progress", "--hand-overs", "2"]);
    let output = command.env("PATH", "").output().unwrap();
    let printed = stdout(&output);
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}{errors}");
    assert_is_complete(&printed, 2);
    // What is slow takes 400 ms, so there are few of it.
    let requests = |kind: &str| {
        let line = printed.lines().find(|line| line.starts_with(kind)).unwrap();
        let number = line.strip_prefix(kind).unwrap().split_whitespace().next();
        number.unwrap().replace(',', "").parse::<u32>().unwrap()
    };
    let (slow, all) = (requests("  slow requests "), requests("  all "));
    assert!(0 < slow && slow * 10 < all, "{printed}");
    for text in [
        "/handover-fake-envoy --drain-time",
        "no such field: 'no_such_field'",
    ] {
        assert!(printed.contains(text), "{text}: {printed}");
    }
    assert_eq!(errors, "");
}

/// Its own variable gives it faults.
#[test]
fn a_fault_of_the_fake_envoy_is_shown_and_costs_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let fault = "--fake-fault crash@config:epoch=1,once --fake-state";
    let mut command = handover(["demo", "--fake-envoy", "--no-progress", "--hand-overs", "1"]);
    let command = command.env(
        "HANDOVER_FAKE_ENVOY",
        format!("{fault} {}", state.display()),
    );
    let output = command.output().unwrap();
    let printed = stdout(&output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{printed}{}",
        stderr(&output)
    );
    assert_is_complete(&printed, 1);
    assert!(printed.contains("failed starts 2,"), "{printed}");
}

#[test]
fn a_fake_envoy_and_a_real_one_are_not_both_shown() {
    let output = output_of(["demo", "--fake-envoy", "--envoy", "/bin/true"]);
    assert_eq!(output.status.code(), Some(64));
    let errors = stderr(&output);
    assert!(
        errors.contains("cannot be used with '--envoy <FILE>'"),
        "{errors}"
    );
}

/// Nobody but the program itself makes the link, but somebody else may.
#[test]
fn by_the_name_of_the_fake_envoy_it_is_the_fake_envoy() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("handover-fake-envoy");
    std::os::unix::fs::symlink(handover([""; 0]).get_program(), &link).unwrap();
    let mut command = std::process::Command::new(link);
    let output = command.arg("--hot-restart-version").output().unwrap();
    assert_eq!(
        (output.status.code(), &*stderr(&output)),
        (Some(0), "11.104")
    );
}

#[test]
fn it_can_be_interrupted_and_leaves_nothing() {
    let mut running = Running::start(&mut handover(["demo", "--hand-overs", "1000"]));
    let title = running.stdout.wait_for("--watch ");
    running.stdout.wait_for("epoch 1 is live");
    running.signal(Signal::INT);
    assert_eq!(running.code(), 130);
    running.stdout.wait_for("no request was lost");
    let config = title
        .split("--watch ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(!std::path::Path::new(config).parent().unwrap().exists());
}

#[test]
fn the_environment_has_no_say_in_what_is_shown() {
    let mut command = handover(["demo", "--hand-overs", "1", "--interval", "50ms"]);
    command
        .env("HANDOVER_LISTEN", "nowhere")
        .env("HANDOVER_MAX_RETRIES", "9");
    let mut running = Running::start(&mut command);
    assert_eq!(running.code(), 0, "{:?}", running.stderr.all());
}
