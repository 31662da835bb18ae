//! What has happened, as `handover events` and `handover logs` tell it.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::control::Place;
use crate::support::{Running, eventually, exec_script, handover_client};

/// Which the sentence of no health begins with.
const LIVE: &str = "epoch 0 is live after ";

const QUICK: [&str; 4] = ["--live-after", "1ms", "--retry-interval", "10ms"];

/// The words of events that are printed as JSON.
fn words(text: &str) -> Vec<String> {
    let values = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let words = values.map(|value| match value["event"].as_str() {
        Some("health") => value["health"].as_str().unwrap_or_default().to_owned(),
        Some(word) => word.to_owned(),
        None => value.to_string(),
    });
    words.collect()
}

#[test]
fn events_are_followed_to_the_end_of_the_instance() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let mut flags = vec![socket.as_str(), "--probation", "0"];
    flags.extend(QUICK);
    let mut running = exec_script(&flags, "exec sleep 600");
    running.says("epoch 0 is live");
    let mut following = Running::start(&mut handover_client([
        "events", "--follow", "--json", &socket,
    ]));
    following.stdout.wait_for("\"event\":\"live\"");
    running.signal(Signal::HUP);
    following.stdout.wait_for("\"event\":\"superseded\"");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
    assert_eq!(following.code(), 0);
    let words = words(&following.stdout.all().join("\n"));
    let count = |word: &str| words.iter().filter(|one| *one == word).count();
    for (word, times) in [("live", 2), ("superseded", 1), ("ending", 1)] {
        assert_eq!(count(word), times, "{word}: {words:?}");
    }
    for word in ["started", "READY", "TERMINATING"] {
        assert!(count(word) > 0, "{word}: {words:?}");
    }
    let none = place.ask(&["events", &socket]);
    assert_eq!(none.code, 69, "{none:?}");
}

#[test]
fn events_of_earlier_runs_come_first_and_the_last_lines_are_there() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let state = place.path("state");
    let state = state.to_str().unwrap();
    let mut flags = vec![socket.as_str(), "--state-dir", state];
    flags.extend(QUICK);
    let script =
        "echo \"I am $RESTART_EPOCH\"; [ \"$RESTART_EPOCH\" = 1 ] && exit 3; exec sleep 600";
    let mut first = exec_script(&flags, script);
    first.says("epoch 0 is live");
    first.signal(Signal::TERM);
    assert_eq!(first.code(), 0);
    let mut second = exec_script(&flags, script);
    second.says("epoch 0 is live");
    second.signal(Signal::HUP);
    second.says("epoch 1 failed");
    let asked = eventually("both runs", || {
        let asked = place.ask(&["events", &socket]);
        asked.stdout.contains("epoch 1 has failed").then_some(asked)
    });
    let text = asked.stdout;
    let at = |what: &str, nth: usize| {
        let found = text.match_indices(what).nth(nth);
        found
            .unwrap_or_else(|| panic!("{what} {nth} is not in {text}"))
            .0
    };
    let starts = [
        at("-- handover starts, as process ", 0),
        at("-- handover starts, as process ", 1),
    ];
    let end = at("-- handover has ended", 0);
    assert!(starts[0] < at(LIVE, 0) && at(LIVE, 0) < end, "{text}");
    assert!(end < starts[1] && starts[1] < at(LIVE, 1), "{text}");
    assert!(
        text.contains(": exited with code 3; its last line: I am 1\n"),
        "{text}"
    );
    // Each event once, although those of this run are in the file as well.
    let json = place.ask(&["events", "--json", &socket]).stdout;
    let ids: Vec<String> = json
        .lines()
        .filter_map(|line| {
            let value: Value = serde_json::from_str(line).unwrap();
            Some(value["id"].as_str()?.to_owned())
        })
        .collect();
    let each: BTreeSet<_> = ids.iter().collect();
    assert_eq!(each.len(), ids.len(), "{json}");

    let lines = eventually("the last lines", || {
        let lines = place.ask(&["logs", "--epoch", "1", &socket]);
        lines.stdout.contains("I am 1").then_some(lines)
    });
    assert!(!lines.stdout.contains("I am 0"), "{lines:?}");
    second.signal(Signal::KILL);
    second.code();
    let of_dir = |words: &[&str]| place.ask(&[words, &["--state-dir", state]].concat());
    let kept = of_dir(&["events"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    assert!(kept.stdout.contains("epoch 1 has failed"), "{kept:?}");
    // A crash loop may have pushed epoch 0 out.
    assert!(of_dir(&["logs"]).stdout.contains("I am 1"));
    let before = of_dir(&["logs", "--previous"]);
    assert!(
        before.stdout.contains("I am 0") && !before.stdout.contains("I am 1"),
        "{before:?}"
    );
    of_dir(&["logs", "--epoch", "7"]).is(69, "no lines of epoch 7 are in ");
    let empty = place.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let none = |command| place.ask(&[command, "--state-dir", empty]);
    none("events").is(69, "no events are kept in ");
    none("logs").is(69, "there is no last-lines in ");
}

/// A disk that is full, and a reader that goes.
#[test]
fn events_go_on_where_they_cannot_be_kept_and_nobody_reads_to_the_end() {
    let place = Place::new();
    let socket = place.flag("web.sock");
    let state = place.path("state");
    std::fs::create_dir_all(state.join("events")).unwrap();
    let mut flags = vec![socket.as_str(), "--state-dir", state.to_str().unwrap()];
    flags.extend(QUICK);
    let mut running = exec_script(&flags, "exec sleep 600");
    running.says("epoch 0 is live");
    let asked = eventually("the events", || {
        let asked = place.ask(&["events", &socket]);
        asked.stdout.contains("epoch 0 is live").then_some(asked)
    });
    assert_eq!(asked.code, 0, "{asked:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}
