use std::path::Path;

use super::*;
use crate::figures::{FORMAT, Fact, Failure, Figure, Unit};
use crate::measures::{latency, load, memory};

/// A run in which a supervisor is missing and two measures have failed.
fn example() -> Figures {
    let mut figures = Figures {
        format: FORMAT,
        date: "2026-01-02T03:04:05Z".to_owned(),
        command: "cargo xtask bench".to_owned(),
        quick: false,
        seconds: 321.0,
        facts: vec![Fact {
            name: "processors".to_owned(),
            value: "2".to_owned(),
        }],
        figures: Vec::new(),
        failures: vec![Failure {
            measure: "live".to_owned(),
            reason: "epoch 1 was not live in 30s".to_owned(),
        }],
    };
    let mut add = |measure: &str, what: &str, subject: &str, unit, value| {
        figures.figures.push(Figure {
            measure: measure.to_owned(),
            what: what.to_owned(),
            subject: subject.to_owned(),
            unit,
            value,
        });
    };
    let unit = Unit::Milliseconds;
    for (what, exec, bare) in [
        (latency::START, [4.0, 5.0, 6.0], [0.9, 1.0, 1.4]),
        (latency::HUP, [1.1, 1.2, 1.3], [0.4, 0.5, 0.6]),
        (latency::KILL, [1.6, 1.7, 9.0], [0.4, 0.5, 0.6]),
    ] {
        add(
            "latency",
            what,
            "handover exec",
            unit,
            Value::Samples(exec.into()),
        );
        add(
            "latency",
            what,
            "bare loop",
            unit,
            Value::Samples(bare.into()),
        );
        let missing = "`runsv` is not installed".to_owned();
        add("latency", what, "runit", unit, Value::Unknown(missing));
    }
    for (thing, bytes) in [(memory::RSS, 3_900_000.0), (memory::PSS, 2_100_000.0)] {
        let what = memory::what(thing, memory::AT_START);
        for (subject, share) in [("handover exec", 1.0), ("handover-exec", 0.5)] {
            let value = Value::Samples(vec![bytes * share]);
            add("memory", &what, subject, Unit::Bytes, value);
        }
    }
    for (subject, p99, lost) in [("no change", 2.0, 0.0), ("handover run", 2.5, 1.0)] {
        for (thing, unit, number) in [
            (load::REQUESTS, Unit::Count, 2_500.0),
            (load::LOST, Unit::Count, lost),
            (load::P50, unit, 0.5),
            (load::P99, unit, p99),
            (load::P999, unit, 8.0),
        ] {
            let what = load::what("HTTP/1.1", thing);
            add(
                "load",
                &what,
                subject,
                unit,
                Value::Samples(vec![number, number]),
            );
        }
    }
    figures
}

#[test]
fn the_page_shows_what_was_measured_what_is_unknown_and_why() {
    insta::assert_snapshot!("page", markdown(&example()));
}

#[test]
fn a_plot_shows_a_bar_for_each_figure_and_names_what_is_unknown() {
    let pictures = pictures::all(&example());
    let (name, start) = pictures.first().unwrap();
    assert_eq!(*name, "start.svg");
    insta::assert_snapshot!("start", start);
}

#[test]
fn a_quick_run_says_that_nothing_can_be_judged_by_it() {
    let quick = Figures {
        quick: true,
        ..example()
    };
    assert!(markdown(&quick).contains("**This was a quick run."));
    assert!(!markdown(&example()).contains("quick run."));
}

/// No figure of the page, and no verdict, was written by hand.
#[test]
fn the_page_in_docs_is_what_its_figures_give() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let figures = Figures::read(&docs.join("performance/figures.json")).unwrap();
    let page = fs_err::read_to_string(docs.join("performance.md")).unwrap();
    let remedy = "docs/performance.md differs: run `cargo xtask bench --page`";
    assert!(page == markdown(&figures), "{remedy}");
    for (name, svg) in pictures::all(&figures) {
        let there = fs_err::read_to_string(docs.join("performance").join(name)).unwrap();
        assert!(there == svg, "{remedy}: {name}");
    }
    assert!(
        !figures.quick,
        "the figures in docs are those of a quick run"
    );
}
