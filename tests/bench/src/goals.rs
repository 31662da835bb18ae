//! The goals, judged by the figures alone.

use crate::figures::{Figures, Stats};
use crate::measures::envoys::{ALONE, HANDOVER, VALIDATED};
use crate::measures::{latency, live, load, memory};
use crate::subjects::Subject;

/// One goal beside what was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    /// What is wanted, in words.
    pub(crate) text: String,
    /// The bound in numbers, and the figure; unknown figures are told in the verdict.
    pub(crate) bound: String,
    pub(crate) figure: String,
    pub(crate) verdict: Verdict,
}

/// Whether a goal is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// Something that it needs was not measured, for this reason.
    Unknown(String),
}

/// More than the bare loop, in milliseconds, until the first child.
const START_MARGIN: f64 = 1.5;
/// So many times what the bare loop takes.
const TIMES_BARE: f64 = 3.0;
/// More than the validation and a bare hot restart together, in milliseconds.
const LIVE_MARGIN: f64 = 5.0;
/// Memory of `handover exec`, in bytes.
const RSS_MOST: f64 = 4e6;
const PSS_MOST: f64 = 2e6;
/// So many times the p99 without a hand-over.
const TIMES_QUIET: f64 = 1.2;

/// All goals, by medians.
pub(crate) fn all(figures: &Figures) -> Vec<Goal> {
    let exec = Subject::Handover.name();
    let bare = Subject::Bare.name();
    let latency = |what, subject| median(figures, latency::NAME, what, subject);
    let mut goals = vec![milliseconds(
        "start to child: at most the bare loop and 1.5 ms",
        latency(latency::START, bare).map(|bare| bare + START_MARGIN),
        latency(latency::START, exec),
    )];
    for (what, text) in [
        (latency::HUP, "HUP to child: at most 3 times the bare loop"),
        (
            latency::RENAME,
            "a renamed file to child: at most 3 times the bare loop",
        ),
        (
            latency::IN_PLACE,
            "a file written in place to child: at most 3 times the bare loop",
        ),
        (
            latency::SWAP,
            "a swapped ConfigMap to child: at most 3 times the bare loop",
        ),
        (
            latency::KILL,
            "kill -9 to child: at most 3 times the bare loop",
        ),
    ] {
        let bound = latency(what, bare).map(|bare| bare * TIMES_BARE);
        goals.push(milliseconds(text, bound, latency(what, exec)));
    }
    let live = |what, subject| median(figures, live::NAME, what, subject);
    goals.push(milliseconds(
        "a change until Envoy is live: at most validation, bare hot restart and 5 ms",
        live(live::CHANGE, VALIDATED).map(|by_hand| by_hand + LIVE_MARGIN),
        live(live::CHANGE, HANDOVER),
    ));
    for (thing, most) in [(memory::RSS, RSS_MOST), (memory::PSS, PSS_MOST)] {
        let what = memory::what(thing, memory::AT_START);
        for subject in [Subject::HandoverExec, Subject::Handover].map(Subject::name) {
            goals.push(goal(
                &format!("{thing} of `{subject}`: at most {:.0} MB", most / 1e6),
                Ok(most),
                median(figures, memory::NAME, &what, subject),
                |bytes| format!("{:.2} MB", bytes / 1e6),
            ));
        }
    }
    for (protocol, _) in load::PROTOCOLS {
        let p99 = load::what(protocol, load::P99);
        let of = |subject| median(figures, load::NAME, &p99, subject);
        goals.push(milliseconds(
            &format!("p99 of {protocol} in a hand-over: at most 1.2 times the p99 without"),
            of(ALONE).map(|quiet| quiet * TIMES_QUIET),
            of(HANDOVER),
        ));
    }
    for (protocol, _) in load::PROTOCOLS {
        let lost = load::what(protocol, load::LOST);
        let lost = figures
            .stats(load::NAME, &lost, HANDOVER)
            .map(|lost| lost.sum);
        let text = format!("requests of {protocol} lost in all hand-overs: none");
        goals.push(goal(&text, Ok(0.0), lost, |count| format!("{count:.0}")));
    }
    goals
}

fn median(figures: &Figures, measure: &str, what: &str, subject: &str) -> Result<f64, String> {
    let stats: Result<Stats, String> = figures.stats(measure, what, subject);
    stats.map(|stats| stats.median)
}

fn milliseconds(text: &str, bound: Result<f64, String>, figure: Result<f64, String>) -> Goal {
    goal(text, bound, figure, |time| format!("{time:.2} ms"))
}

fn goal(
    text: &str,
    bound: Result<f64, String>,
    figure: Result<f64, String>,
    show: impl Fn(f64) -> String,
) -> Goal {
    let shown = |number: &Result<f64, String>| match number {
        Ok(number) => show(*number),
        Err(_) => "unknown".to_owned(),
    };
    Goal {
        text: text.to_owned(),
        bound: shown(&bound),
        figure: shown(&figure),
        verdict: match (bound, figure) {
            (Ok(bound), Ok(figure)) if figure <= bound => Verdict::Met,
            (Ok(_), Ok(_)) => Verdict::Missed,
            (Err(reason), _) | (_, Err(reason)) => Verdict::Unknown(reason),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_missed_above_it() {
        let verdict = |figure| milliseconds("", Ok(1.5), figure).verdict;
        assert_eq!(verdict(Ok(1.5)), Verdict::Met);
        assert_eq!(verdict(Ok(1.5001)), Verdict::Missed);
    }

    #[test]
    fn a_goal_without_its_figure_or_its_bound_is_not_judged() {
        let unknown = || Err("runit is not here".to_owned());
        for goal in [
            milliseconds("", Ok(1.0), unknown()),
            milliseconds("", unknown(), Ok(1.0)),
        ] {
            assert_eq!(
                goal.verdict,
                Verdict::Unknown("runit is not here".to_owned())
            );
            assert!([goal.bound, goal.figure].contains(&"unknown".to_owned()));
        }
    }
}
