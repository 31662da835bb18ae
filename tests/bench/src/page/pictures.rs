//! The plots of the page.

use super::sections::supervisors;
use super::tables::number;
use crate::figures::Figures;
use crate::measures::envoys::{ALONE, BARE, HANDOVER, VALIDATED};
use crate::measures::{latency, live, load, memory};
use crate::plot::{Bar, Group, Scale, bars};
use crate::subjects::Subject;

/// The names of their files, and the plots.
pub(super) fn all(figures: &Figures) -> Vec<(&'static str, String)> {
    vec![
        ("start.svg", start(figures)),
        ("causes.svg", causes(figures)),
        ("live.svg", until_live(figures)),
        ("memory.svg", memory_of(figures)),
        ("load.svg", requests(figures)),
    ]
}

fn start(figures: &Figures) -> String {
    let group = group(
        figures,
        latency::NAME,
        latency::START,
        "start to child",
        &supervisors(),
    );
    bars(
        "Start of the supervisor to the child",
        Scale::Logarithmic,
        &[group],
    )
}

fn causes(figures: &Figures) -> String {
    let both = [Subject::Handover, Subject::Bare].map(Subject::name);
    let groups = [
        (
            latency::HUP,
            "HUP, or the own command to restart",
            &supervisors()[..],
        ),
        (
            latency::RENAME,
            "a file is renamed over the watched one",
            &both,
        ),
        (
            latency::IN_PLACE,
            "the watched file is written in place",
            &both,
        ),
        (latency::SWAP, "a ConfigMap is swapped", &both),
        (latency::KILL, "kill -9", &supervisors()),
    ];
    let groups =
        groups.map(|(what, heading, rows)| group(figures, latency::NAME, what, heading, rows));
    bars("Cause to child", Scale::Logarithmic, &groups)
}

fn until_live(figures: &Figures) -> String {
    let rows = [
        (live::CHANGE, HANDOVER, "change, Handover"),
        (live::HUP, HANDOVER, "HUP, Handover"),
        (live::CHANGE, VALIDATED, "change, validated hot restart"),
        (live::CHANGE, BARE, "change, bare hot restart"),
        (live::VALIDATION, live::ENVOY, "validation alone"),
    ];
    let bars_of = rows.map(|(what, subject, label)| bar(figures, live::NAME, what, subject, label));
    let group = Group {
        heading: "until the next epoch is LIVE".to_owned(),
        bars: bars_of.into(),
    };
    bars("Until Envoy is live", Scale::Linear, &[group])
}

fn memory_of(figures: &Figures) -> String {
    let groups = [memory::RSS, memory::PSS].map(|thing| {
        let what = memory::what(thing, memory::AT_START);
        let heading = format!("{thing} at the start");
        let rows = Subject::IN_MEMORY.map(Subject::name);
        group(figures, memory::NAME, &what, &heading, &rows)
    });
    bars("Memory of the supervisor", Scale::Linear, &groups)
}

fn requests(figures: &Figures) -> String {
    let mut groups = Vec::new();
    for (protocol, _) in load::PROTOCOLS {
        for quantile in [load::P50, load::P99, load::P999] {
            let what = load::what(protocol, quantile);
            groups.push(group(
                figures,
                load::NAME,
                &what,
                &what,
                &[ALONE, HANDOVER, VALIDATED, BARE],
            ));
        }
    }
    bars(
        "Requests in a hand-over and without",
        Scale::Logarithmic,
        &groups,
    )
}

fn group(figures: &Figures, measure: &str, what: &str, heading: &str, rows: &[&str]) -> Group {
    Group {
        heading: heading.to_owned(),
        bars: rows
            .iter()
            .map(|subject| bar(figures, measure, what, subject, subject))
            .collect(),
    }
}

fn bar(figures: &Figures, measure: &str, what: &str, subject: &str, label: &str) -> Bar {
    let unit = figures
        .find(measure, what, subject)
        .map(|figure| figure.unit);
    let stats = figures.stats(measure, what, subject).ok();
    let value = unit.zip(stats);
    Bar {
        label: label.to_owned(),
        is_ours: subject.starts_with("handover"),
        value: value.map(|(_, stats)| (stats.median, stats.p99)),
        shown: value.map_or_else(
            || "unknown".to_owned(),
            |(unit, stats)| number(unit, stats.median),
        ),
    }
}
