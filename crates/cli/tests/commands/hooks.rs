//! The commands of the user at moments of an epoch's life.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::control::Place;
use crate::flags::run;
use crate::support::{Running, eventually, exec_script};

/// A hook that keeps what it finds on its standard input.
fn keeps(file: &Path) -> String {
    format!("cat >> '{}'; echo >> '{}'", file.display(), file.display())
}

/// What hooks were told so far.
fn told(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be on its way.
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The moments and the epochs.
fn moments(file: &Path) -> Vec<String> {
    let all = told(file).into_iter();
    all.map(|told| match told["epoch"].as_u64() {
        Some(epoch) => format!("{} {epoch}", told["event"].as_str().unwrap()),
        None => told["event"].as_str().unwrap().to_owned(),
    })
    .collect()
}

#[track_caller]
fn comes(file: &Path, moment: &str) {
    eventually(moment, || {
        let moments = moments(file);
        moments.iter().any(|one| one == moment).then_some(())
    });
}

fn started(place: &Place, flags: &[&str], script: &str) -> Running {
    let socket = place.flag("web.sock");
    let quick = ["--live-after", "1ms", "--retry-interval", "10ms"];
    let always = [quick.as_slice(), &[socket.as_str()]].concat();
    exec_script(&[&always, flags].concat(), script)
}

#[test]
fn each_moment_has_its_hook_in_order() {
    let place = Place::new();
    let file = place.path("told");
    let keeps = keeps(&file);
    let flags = [
        "--hook-pre-start",
        &keeps,
        "--hook-live",
        &keeps,
        "--hook-pre-drain",
        &keeps,
        "--hook-post-exit",
        &keeps,
    ];
    let mut running = started(&place, &flags, "exec sleep 600");
    comes(&file, "live 0");
    running.signal(Signal::HUP);
    comes(&file, "live 1");
    comes(&file, "post-exit 0");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
    let moments = moments(&file);
    assert_eq!(moments[..2], ["pre-start", "live 0"], "{moments:?}");
    let at = |moment: &str| {
        let found = moments.iter().position(|one| one == moment);
        found.unwrap_or_else(|| panic!("{moment} is not in {moments:?}"))
    };
    assert!(at("live 1") < at("pre-drain 1"), "{moments:?}");
    // The epoch ends after the drain has begun, and the end waits for its hook.
    assert!(at("pre-drain 1") < at("post-exit 1"), "{moments:?}");
    let exit = told(&file)
        .into_iter()
        .find(|told| told["event"] == "post-exit");
    let exit = exit.unwrap();
    assert_eq!(exit["epoch"], 0, "{exit}");
    let keys: Vec<_> = exit.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "configuration",
            "epoch",
            "event",
            "exit",
            "instance",
            "reason",
            "time"
        ]
    );
}

#[test]
fn a_hook_before_the_start_can_refuse_a_configuration() {
    let place = Place::new();
    let veto = place.path("veto");
    let hook = format!(
        "test ! -e '{}' || {{ echo frozen; exit 3; }}",
        veto.display()
    );
    let running = started(&place, &["--hook-pre-start", &hook], "exec sleep 600");
    running.says("epoch 0 is live");
    std::fs::write(&veto, "").unwrap();
    let refused = place.ask(&["reload", "--wait"]);
    refused.is(65, "pre-start");
    assert!(refused.stderr.contains("frozen"), "{refused:?}");
    let status = place.status();
    assert_eq!(status["ready"], true, "{status}");
    std::fs::remove_file(&veto).unwrap();
    place.ask(&["reload", "--wait"]).is(0, "epoch 1 is live");
    // At the first start there is nothing that could serve on.
    std::fs::write(&veto, "").unwrap();
    let other = Place::new();
    let mut first = started(&other, &["--hook-pre-start", &hook], "exec sleep 600");
    assert_eq!(first.code(), 65);
    assert_eq!(first.stderr.count("starting epoch 0"), 0);
}

#[test]
fn an_unfit_epoch_and_a_configuration_that_is_given_up_have_theirs() {
    let place = Place::new();
    let file = place.path("told");
    let bad = place.path("bad");
    let keeps = keeps(&file);
    let verify = format!("test ! -e '{}'", bad.display());
    let flags = [
        "--hook-unfit",
        &keeps,
        "--hook-gave-up",
        &keeps,
        "--verify",
        &verify,
        "--verify-failures",
        "1",
        "--probation",
        "2s",
        "--max-retries",
        "0",
    ];
    let broken = place.path("broken");
    let script = format!("test -e '{}' && exit 3; exec sleep 600", broken.display());
    let mut running = started(&place, &flags, &script);
    running.says("epoch 0 has passed its probation");
    std::fs::write(&bad, "").unwrap();
    running.signal(Signal::HUP);
    comes(&file, "unfit 1");
    std::fs::write(&broken, "").unwrap();
    running.signal(Signal::HUP);
    comes(&file, "gave-up 2");
    let unfit = told(&file)
        .into_iter()
        .find(|told| told["event"] == "unfit");
    let reason = unfit.unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("test ! -e"), "{reason}");
    running.signal(Signal::KILL);
    running.code();
}

#[test]
fn a_hook_that_hangs_or_fails_is_told_and_holds_nothing_up() {
    let place = Place::new();
    let flags = [
        "--hook-live",
        "echo nobody answers >&2; sleep 600",
        "--hook-post-exit",
        "exit 3",
        "--hook-timeout",
        "300ms",
    ];
    let mut running = started(&place, &flags, "exec sleep 600");
    running.says("epoch 0 is live");
    running.says("the hook live has failed");
    running.signal(Signal::HUP);
    running.says("epoch 1 is live");
    running.says("the hook post-exit has failed");
    let events = place.ask(&["events"]);
    assert!(events.stdout.contains("hook_failed"), "{events:?}");
    assert!(events.stdout.contains("nobody answers"), "{events:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}

#[test]
fn the_hooks_of_run_are_run_for_envoy() {
    let place = Place::new();
    let file = place.path("told");
    let keeps = keeps(&file);
    let dir = file.parent().unwrap();
    let mut command = run(
        dir,
        "hangs",
        &["--start-deadline", "300ms", "--max-retries", "0"],
    );
    let hooks = [
        "--hook-pre-start",
        "--hook-live",
        "--hook-unfit",
        "--hook-pre-drain",
        "--hook-post-exit",
        "--hook-gave-up",
    ];
    for hook in hooks {
        command.args([hook, &keeps]);
    }
    let mut running = Running::start(command.args(["--hook-timeout", "20s"]));
    assert_eq!(running.code(), 69);
    let moments = moments(&file);
    assert_eq!(moments.first().map(String::as_str), Some("pre-start"));
    for moment in ["post-exit 0", "gave-up 0"] {
        assert!(moments.iter().any(|one| one == moment), "{moments:?}");
    }
}

#[test]
fn a_further_signal_at_the_end_waits_for_no_hook() {
    let place = Place::new();
    let begun = place.path("begun");
    let hook = format!("touch '{}'; sleep 600", begun.display());
    let flags = ["--hook-post-exit", &hook, "--hook-timeout", "10m"];
    let mut running = started(&place, &flags, "exec sleep 600");
    running.says("epoch 0 is live");
    running.signal(Signal::TERM);
    eventually("the hook", || begun.exists().then_some(()));
    running.signal_again(Signal::TERM);
    assert_eq!(running.code(), 0);
    running.says("the hooks that are left at the end were not done in time");
}
