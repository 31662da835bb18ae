use handover_supervisor::control::wire;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;

const PLAIN: Paint = Paint { colour: false };

/// An epoch that served, one that was killed, one that serves, and one that was rejected.
pub(in crate::commands::control::watch) fn status(change: &Value) -> Status {
    let at = |second: &str| format!("2026-01-02T10:00:{second}.000Z");
    let stage = |name: &str, second: &str| json!({ "stage": name, "at": at(second) });
    let mut status = json!({
        "api": wire::API, "version": "1.2.3", "name": "web", "pid": 7, "at": at("40"),
        "uptime_seconds": 36, "state": "live", "ready": true, "current_is_desired": false,
        "degraded": true, "drained": false, "held": "the desired configuration was given up",
        "problem": null, "retries_left": 9, "base_id": 3,
        "verdict": {
            "health": "DEGRADED",
            "why": "epoch 0 serves, but not what is desired: the desired configuration was given up",
        },
        "desired": { "source": "/etc/envoy.yaml", "hash": "b".repeat(64) },
        "current": { "source": "/etc/envoy.yaml", "hash": "a".repeat(64) },
        "epochs": [{
            "epoch": 0, "state": "live", "pid": 4711, "age_seconds": 15, "config_hash": "a".repeat(64),
            "active_connections": 12, "rss_bytes": 66_123_456, "released": false,
        }, {
            "epoch": 1, "state": "starting", "pid": null, "age_seconds": 0, "config_hash": null,
            "active_connections": null, "rss_bytes": null, "released": false,
        }],
        "history": [{
            "epoch": 0,
            "stages": [stage("starting", "04"), stage("probation", "05"), stage("live", "10"), stage("draining", "20")],
            "end": { "at": at("30"), "result": "handed_over", "cause": "handed_over", "connections": 0 },
        }, {
            "epoch": 1,
            "stages": [stage("starting", "19"), stage("live", "20")],
            "end": { "at": at("24"), "result": "failed", "cause": "killed", "connections": null },
        }, {
            "epoch": 0, "stages": [stage("starting", "25"), stage("live", "26")], "end": null,
        }, {
            "epoch": 1, "stages": [stage("starting", "35")],
            "end": { "at": at("36"), "result": "rejected", "cause": null, "connections": null },
        }],
        "last_exit": null,
        "last_failure": { "epoch": 1, "message": "no such field: \u{1b}[31mevil" },
        "counters": { "started": 4, "failed": 2, "retries": 1, "hand_overs": 1 },
    });
    for (name, value) in change.as_object().unwrap() {
        status[name] = value.clone();
    }
    serde_json::from_value(status).unwrap()
}

fn seen(change: &Value) -> Seen {
    Seen {
        status: status(change),
        age: Duration::ZERO,
        lost: None,
    }
}

/// The screen, without the spaces at the ends of its lines.
fn drawn(seen: &Seen, width: u16, height: u16, paint: Paint) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, seen, paint)).unwrap();
    let screen = terminal.backend().to_string();
    let lines = screen.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_screen_tells_what_serves_what_was_tried_and_why_it_failed() {
    insta::assert_snapshot!("degraded", drawn(&seen(&json!({})), 100, 40, PLAIN));
}

#[test]
fn what_is_old_says_so_and_since_when() {
    let mut seen = seen(&json!({}));
    seen.lost = Some("no instance is running\u{1b}[2J".to_owned());
    seen.age = Duration::from_secs(90);
    let screen = drawn(&seen, 100, 40, PLAIN);
    let first = screen.lines().next().unwrap();
    assert!(
        first.starts_with("No answer since 10:00:40 UTC: no instance is running"),
        "{first}"
    );
    assert!(screen.contains("(1 min 44 s)"), "{screen}");
    assert!(!screen.contains('\u{1b}'), "{screen}");
}

#[test]
fn an_instance_without_epochs_and_one_of_an_older_version_can_be_shown() {
    let none = json!({ "epochs": [], "history": [], "verdict": null, "ready": false, "at": "" });
    let screen = drawn(&seen(&none), 80, 30, PLAIN);
    assert!(
        screen.contains("Not ready. Nothing is seen to serve."),
        "{screen}"
    );
    assert!(screen.contains("none was started yet"), "{screen}");
    let wrong = json!({ "history": [
        { "epoch": 5, "stages": [], "end": null },
        { "epoch": 6, "stages": [{ "stage": "new", "at": "soon" }],
          "end": { "at": "never", "result": "new", "cause": "a_new_one", "connections": 1 } },
    ] });
    let screen = drawn(&seen(&wrong), 80, 30, PLAIN);
    assert!(screen.contains("ended otherwise"), "{screen}");
}

#[test]
fn any_size_can_be_drawn() {
    let many: Vec<_> = (0..40)
        .map(|number| {
            json!({ "epoch": number, "stages": [
        { "stage": "starting", "at": "2026-01-02T10:00:39Z" }], "end": null })
        })
        .collect();
    let seen = seen(&json!({ "history": many }));
    for width in [0, 1, 2, 10, 39, 40, 80, 300] {
        for height in [0, 1, 2, 5, 10, 24, 100] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let paint = Paint { colour: true };
            terminal.draw(|frame| draw(frame, &seen, paint)).unwrap();
        }
    }
}

#[test]
fn colours_only_add_to_what_is_there_without_them() {
    let seen = seen(&json!({}));
    let of = |paint| {
        let mut terminal = Terminal::new(TestBackend::new(100, 40)).unwrap();
        terminal.draw(|frame| draw(frame, &seen, paint)).unwrap();
        terminal.backend().buffer().clone()
    };
    let (with, without) = (of(Paint { colour: true }), of(PLAIN));
    let is_coloured = |buffer: &ratatui::buffer::Buffer| {
        buffer.content().iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(is_coloured(&with) && !is_coloured(&without));
    let text = |buffer: &ratatui::buffer::Buffer| {
        let cells = buffer.content().iter();
        cells
            .map(|cell| cell.symbol().to_owned())
            .collect::<String>()
    };
    assert_eq!(text(&with), text(&without));
}

#[test]
fn a_usual_terminal_shows_the_verdict_an_event_and_the_keys() {
    let crashes = (0..30).map(|number| {
        let at = "2026-01-02T10:00:39Z";
        json!({ "epoch": number, "stages": [{ "stage": "starting", "at": at }],
            "end": { "at": at, "result": "failed", "cause": "killed", "connections": null } })
    });
    let serving = json!({ "epoch": 77, "end": null, "stages": [
        { "stage": "starting", "at": "2026-01-01T10:00:00Z" },
        { "stage": "probation", "at": "2026-01-01T10:00:01Z" },
    ] });
    let mut history = vec![serving];
    history.extend(crashes);
    let epoch = json!({
        "epoch": 77, "state": "live", "pid": 4_194_304, "age_seconds": 86_399,
        "config_hash": "a".repeat(64), "active_connections": 12345, "rss_bytes": 66_123_456_789_u64,
        "released": false,
    });
    let seen = seen(&json!({ "history": history, "epochs": [epoch] }));
    insta::assert_snapshot!("usual", drawn(&seen, 80, 24, PLAIN));
}

#[test]
fn a_long_path_is_wrapped_and_no_column_is_cut() {
    let mut seen = seen(&json!({}));
    seen.status.desired.source = format!("/etc/{}/envoy.yaml", "long ".repeat(20));
    let screen = drawn(&seen, 60, 50, PLAIN);
    assert!(screen.contains("(bbbbbbbbbbbb)"), "{screen}");
    for (width, last) in [
        (80, "memory     configuration"),
        (60, "connections configuration"),
    ] {
        let screen = drawn(&seen, width, 50, PLAIN);
        let head = screen.lines().find(|line| line.contains("epoch  state"));
        assert!(head.is_some_and(|head| head.contains(last)), "{screen}");
        assert!(screen.contains("aaaaaaaaaaaa "), "{screen}");
    }
}

#[test]
fn a_text_that_is_cut_says_so() {
    assert_eq!(cut("failed".to_owned(), 6), "failed");
    assert_eq!(cut("failed".to_owned(), 5), "fail…");
    assert_eq!(cut("failed".to_owned(), 0), "…");
}
