//! The sections with figures: what each shows, and how it was measured.

use std::fmt::Write as _;

use super::tables::{DASH, columns, count, list, number, table};
use crate::figures::{Figures, Unit};
use crate::measures::envoys::{ALONE, BARE, HANDOVER, VALIDATED};
use crate::measures::{agents, bursts, children, core, idle, latency, live, load, memory};
use crate::subjects::Subject;

/// The headings and the text below them, in the order of the page.
pub(super) fn all(figures: &Figures) -> Vec<(&'static str, String)> {
    vec![
        ("From a cause to the child", causes(figures)),
        ("Many changes in a row", in_a_row(figures)),
        ("Until Envoy is live", until_live(figures)),
        ("Memory and descriptors", memory_of(figures)),
        ("While nothing happens", nothing(figures)),
        ("Requests in a hand-over", requests(figures)),
        ("Many agents in one process", many(figures)),
        ("The state machine", machine(figures)),
    ]
}

/// The names of all supervisors.
pub(super) fn supervisors() -> [&'static str; 6] {
    Subject::ALL.map(Subject::name)
}

fn picture(name: &str, words: &str) -> String {
    format!("![{words}](performance/{name})\n\n")
}

fn causes(figures: &Figures) -> String {
    let mut text = "\
The time from a cause to the first instruction of the child. The child is a static program of less than 2 kB. Its first act is to read
the clock. The bare loop is a program of this repository that starts the child by `posix_spawn` and waits for signals and changes.
It has no configuration, no log and no policy, so its times are those of the system.

"
    .to_owned();
    text.push_str(&picture(
        "start.svg",
        "Start of the supervisor to the child",
    ));
    text.push_str(&picture(
        "causes.svg",
        "Signal, changed file and death to the child",
    ));
    let things = [
        latency::START,
        latency::HUP,
        latency::RENAME,
        latency::IN_PLACE,
        latency::SWAP,
        latency::KILL,
    ];
    let table = table(
        figures,
        latency::NAME,
        "",
        &supervisors(),
        &columns(&things),
    );
    text.push_str(&table);
    text.push_str(
        "
Handover runs with `--live-after 1ms --reset-after 50ms --watch FILE`, so that a child counts as proven when it is killed. For runit and
s6 the signal is their own command to restart, which ends the child before the next one starts. So is HUP for supervisord. Every child
has run for more than a second before it is replaced or killed, because runit and s6 start at most one a second.
",
    );
    text
}

fn in_a_row(figures: &Figures) -> String {
    let mut text = "\
A file is replaced many times. `children` is how many children that leads to. `until current` is the time from the last change to
the first instruction of a child that has read it.

"
    .to_owned();
    let rows = [Subject::Handover, Subject::Bare].map(Subject::name);
    for burst in &bursts::BURSTS {
        let columns = [bursts::CHILDREN, bursts::CURRENT]
            .map(|kind| (kind.to_owned(), bursts::what(burst, kind)));
        text.push_str(&table(figures, bursts::NAME, burst.name, &rows, &columns));
        text.push('\n');
    }
    text.push_str("The bare loop starts a child for each event. The kernel merges events that follow each other unread.\n");
    text
}

fn until_live(figures: &Figures) -> String {
    let mut text = "\
The time until the next epoch of Envoy is seen as `LIVE` at its admin endpoint, which is asked every millisecond. Handover validates each
configuration before it starts it. The bare hot restart is the next Envoy with the same arguments, started at once and without validation.
The validated hot restart is a validation and then that, as one would do it by hand. It is what the goal is judged by: the start of an
Envoy takes one of two times here, depending on the processor, so the sum of two medians says little of what both take together.

"
    .to_owned();
    text.push_str(&picture(
        "live.svg",
        "A changed configuration until Envoy is live",
    ));
    let things = columns(&[live::CHANGE, live::HUP, live::VALIDATION]);
    let rows = [HANDOVER, VALIDATED, BARE, live::ENVOY];
    text.push_str(&table(figures, live::NAME, "", &rows, &things));
    text
}

fn memory_of(figures: &Figures) -> String {
    let mut text = "\
Of the supervisor alone, with the small child. `handover-exec` is `handover exec` of the binary without Envoy. A MB is a million bytes.
RSS counts all pages, PSS divides those that other processes use as well. A hand-over is a HUP, the next child, and the end of the
one before.

"
    .to_owned();
    text.push_str(&picture("memory.svg", "Memory of the supervisors"));
    for thing in [memory::RSS, memory::PSS, memory::DESCRIPTORS] {
        let moments = [memory::AT_START, memory::AFTER_50, memory::AFTER_1000];
        let columns: Vec<_> = moments
            .iter()
            .map(|moment| ((*moment).to_owned(), memory::what(thing, moment)))
            .collect();
        text.push_str(&table(
            figures,
            memory::NAME,
            thing,
            &Subject::IN_MEMORY.map(Subject::name),
            &columns,
        ));
        text.push('\n');
    }
    text.push_str(
        "`handover run` beside Envoy, before and after the hand-overs of the section above:\n\n",
    );
    let mut things = Vec::new();
    for thing in [memory::RSS, memory::PSS] {
        for moment in [memory::AT_START, live::AT_END] {
            things.push(memory::what(thing, moment));
        }
    }
    let things: Vec<&str> = things.iter().map(String::as_str).collect();
    text.push_str(&table(
        figures,
        live::NAME,
        "",
        &[HANDOVER],
        &columns(&things),
    ));
    text
}

fn nothing(figures: &Figures) -> String {
    let mut text = "\
What the supervisors do in 30 seconds in which nothing happens, all at the same time. A wakeup is a voluntary context switch of one
of the threads. `handover run` has an Envoy that is past its probation.

"
    .to_owned();
    let mut rows = supervisors().to_vec();
    rows.push(HANDOVER);
    let things = columns(&[idle::WAKEUPS, idle::PROCESSOR]);
    text.push_str(&table(figures, idle::NAME, "", &rows, &things));
    text
}

fn requests(figures: &Figures) -> String {
    let rate = count(f64::from(load::RATE));
    let mut text = format!(
        "\
{rate} requests a second go through a real Envoy to an upstream, and all of it runs on this machine. They begin at fixed times,
whatever became of those before. Each one counts from the time at which it was due, so a stall of the server is part of each
request that it delays. A window is the 2.5 seconds after the change, until the old Envoy has ended. The times are medians over the
windows, the counts are sums. In the plot, a line reaches to the slowest window.

"
    );
    text.push_str(&picture("load.svg", "Requests in a hand-over and without"));
    let mut body = String::new();
    for (protocol, _) in load::PROTOCOLS {
        for subject in [ALONE, HANDOVER, VALIDATED, BARE] {
            body.push_str(&row_of_load(figures, protocol, subject).unwrap_or_default());
        }
    }
    if body.is_empty() {
        let _infallible = writeln!(text, "Unknown: {}.", figures.why_missing(load::NAME));
        return text;
    }
    text.push_str(
        "| | | requests | lost | p50 | p99 | p99.9 | windows |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    text.push_str(&body);
    text
}

fn row_of_load(figures: &Figures, protocol: &str, subject: &str) -> Option<String> {
    let of = |thing| {
        figures
            .stats(load::NAME, &load::what(protocol, thing), subject)
            .ok()
    };
    let requests = of(load::REQUESTS)?;
    let sum = |thing| of(thing).map_or_else(|| DASH.to_owned(), |stats| count(stats.sum));
    let time = |thing| {
        let stats = of(thing);
        stats.map_or_else(
            || DASH.to_owned(),
            |stats| number(Unit::Milliseconds, stats.median),
        )
    };
    let (all, lost) = (sum(load::REQUESTS), sum(load::LOST));
    let times = [load::P50, load::P99, load::P999].map(time).join(" | ");
    let windows = requests.n;
    Some(format!(
        "| {protocol} | {subject} | {all} | {lost} | {times} | {windows} |\n"
    ))
}

fn many(figures: &Figures) -> String {
    let mut text = "\
Agents of the library `handover-tokio` in one thread, each with a server of its own that is live at once. A change is applied to one
agent after the other, and waited for.

"
    .to_owned();
    let things = columns(&[agents::MEMORY, agents::COST]);
    let rows = agents::COUNTS.map(|(name, _)| name);
    text.push_str(&table(figures, agents::NAME, "", &rows, &things));
    text.push_str("\nThe same with real children, started by `handover-process`:\n\n");
    let things = [
        children::ALL_STARTED,
        children::CHANGE,
        children::DESCRIPTORS,
    ];
    let rows = children::COUNTS.map(|(name, _)| name);
    text.push_str(&table(
        figures,
        children::NAME,
        "",
        &rows,
        &columns(&things),
    ));
    text
}

fn machine(figures: &Figures) -> String {
    let mut text = "\
What a step of the state machine costs, all its outputs taken. A sample is the mean of 1,000 steps. `tests/tests/cost.rs` guards three
limits: steps allocate nothing in the steady state, a configuration is cloned twice for each start, and a machine takes at most 512 bytes.

"
    .to_owned();
    let things = [
        core::HAND_OVER,
        core::NOTHING,
        core::DEADLINE,
        core::FIRST,
        core::LAST,
    ];
    text.push_str(&list(figures, core::NAME, core::MACHINE, &things));
    text
}
