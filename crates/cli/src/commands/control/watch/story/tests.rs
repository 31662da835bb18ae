use serde_json::{Value, json};

use super::*;

/// An epoch with one stage, and an end if it has a result.
fn epoch(number: u32, stage: &str, at: &str, end: Option<(&str, &str)>) -> EpochHistory {
    let end = end.map_or(
        Value::Null,
        |(result, at)| json!({ "at": at, "result": result, "cause": "killed", "connections": null }),
    );
    let stages = json!([{ "stage": stage, "at": at }]);
    let epoch = json!({ "epoch": number, "stages": stages, "end": end });
    serde_json::from_value(epoch).unwrap()
}

fn numbers(shown: &[&EpochHistory]) -> Vec<u32> {
    shown.iter().map(|epoch| epoch.epoch).collect()
}

#[test]
fn in_a_crash_loop_the_epoch_that_serves_is_still_shown() {
    let at = "2026-01-02T10:00:00Z";
    let mut history = vec![epoch(0, "draining", at, None), epoch(1, "live", at, None)];
    history.extend((2..30).map(|number| epoch(number, "starting", at, Some(("failed", at)))));
    history.push(epoch(30, "starting", at, None));
    let shown = |most| numbers(&shown(&history, SystemTime::UNIX_EPOCH, most));
    assert_eq!(shown(5), [0, 1, 28, 29, 30]);
    assert_eq!(shown(2), [1, 30]);
    assert_eq!(shown(1), [1]);
    assert_eq!(shown(100), (0..31).collect::<Vec<_>>());
    assert!(shown(0).is_empty());
}

#[test]
fn what_has_ended_before_the_span_has_no_row() {
    let history = [
        epoch(
            0,
            "live",
            "2026-01-02T10:00:00Z",
            Some(("ended", "2026-01-02T10:00:01Z")),
        ),
        epoch(1, "live", "2026-01-02T10:00:00Z", None),
        epoch(
            2,
            "live",
            "2026-01-02T10:00:00Z",
            Some(("ended", "2026-01-02T10:00:09Z")),
        ),
    ];
    let begins = time("2026-01-02T10:00:05Z").unwrap();
    assert_eq!(numbers(&shown(&history, begins, 8)), [1, 2]);
}

#[test]
fn a_time_of_another_day_has_its_date() {
    let now = time("2026-01-02T00:00:05Z").unwrap();
    let clock = |text| clock(time(text).unwrap(), now);
    assert_eq!(clock("2026-01-02T00:00:00Z"), "00:00:00");
    assert_eq!(clock("2026-01-01T23:59:59Z"), "2026-01-01 23:59:59");
    assert_eq!(clock("2026-01-03T00:00:00Z"), "2026-01-03 00:00:00");
}

#[test]
fn how_an_unfit_or_late_process_ended_is_not_told_as_the_reason() {
    let outcome = |result| {
        let at = "2026-01-02T10:00:00Z";
        outcome(&epoch(0, "live", at, Some((result, at))).end.unwrap())
    };
    assert_eq!(outcome("unfit"), "found unfit");
    assert_eq!(outcome("late"), "not live in time");
    assert_eq!(outcome("rejected"), "rejected before it ran");
    assert_eq!(outcome("failed"), "failed: killed");
}

/// The line about the last failure, of an instance with these epochs.
fn failure(history: &[EpochHistory]) -> String {
    let mut status = super::super::draw::tests::status(&json!({}));
    status.history = history.to_vec();
    let now = time("2026-01-02T10:01:00Z").unwrap();
    let lines = verdict(&status, now).lines;
    let is_failure = |line: &&String| line.starts_with("Tried") || line.starts_with("Before");
    lines.iter().find(is_failure).cloned().unwrap_or_default()
}

#[test]
fn only_what_began_after_the_serving_epoch_was_tried() {
    let failed = |at| epoch(1, "starting", at, Some(("failed", "2026-01-02T10:00:50Z")));
    let serving = epoch(0, "live", "2026-01-02T10:00:30Z", None);
    let older = failed("2026-01-01T23:00:00Z");
    let same = failed("2026-01-02T10:00:30Z");
    let newer = failed("2026-01-02T10:00:40Z");
    let unknown = failed("soon");
    let told = [
        failure(&[older.clone(), serving.clone()]),
        failure(&[same, serving.clone()]),
        failure(&[serving.clone(), newer]),
        failure(&[unknown, serving]),
        failure(&[older]),
    ];
    insta::assert_snapshot!(told.join("\n"), @r"
    Before: epoch 1 at 2026-01-01 23:00:00, failed: killed after 11 h 0 min.
    Before: epoch 1 at 10:00:30, failed: killed after 20 s.
    Tried: epoch 1 at 10:00:40, failed: killed after 10 s.
    Before: epoch 1 at an unknown time, failed: killed.
    Tried: epoch 1 at 2026-01-01 23:00:00, failed: killed after 11 h 0 min.
    ");
}
