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
