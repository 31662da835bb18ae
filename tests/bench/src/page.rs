//! The page `docs/performance.md`, made from the figures alone: it can be made again without measuring.

mod pictures;
mod sections;
mod tables;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::figures::{Figures, Value};
use crate::goals::{self, Verdict};

/// Writes the page, its plots and the figures below a directory.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn write(figures: &Figures, out: &Path) -> Result<()> {
    let folder = out.join("performance");
    fs_err::create_dir_all(&folder)?;
    for (name, svg) in pictures::all(figures) {
        fs_err::write(folder.join(name), svg)?;
    }
    figures.write(&folder.join("figures.json"))?;
    fs_err::write(out.join("performance.md"), markdown(figures))?;
    Ok(())
}

/// The text of the page.
pub(crate) fn markdown(figures: &Figures) -> String {
    let mut page = HEAD.to_owned();
    if figures.quick {
        page.push_str("**This was a quick run. Nothing can be judged by its figures.**\n\n");
    }
    page.push_str("## Goals\n\n");
    page.push_str(&goals(figures));
    for (heading, body) in sections::all(figures) {
        let _infallible = write!(page, "\n## {heading}\n\n{body}");
    }
    page.push_str("\n## What is unknown\n\n");
    page.push_str(&unknown(figures));
    page.push_str("\n## The run\n\n");
    page.push_str(&run(figures));
    page.push_str(FOOT);
    page
}

const HEAD: &str = "\
# Performance

<!-- `cargo xtask bench` writes this page. Its words are in tests/bench/src/page. -->

All figures of this page come from one run of one command:

<!-- checked-by: bench -->
```console
$ cargo xtask bench
```

The programs take turns: in each round every program is measured once, so a busy moment of the machine hits all of them. A cell shows
the median, and behind the slash the p99. Of fewer than 100 samples, that is the slowest one. `n` is the number of samples. A dash is
not zero: the figure is [unknown](#what-is-unknown).

";

const FOOT: &str = "
The binary under test is the one that is released. `cargo xtask bench --only latency,live` runs some of the measures.
`--binary FILE` measures another binary, and `--quick` only shows that everything can be measured. These three leave this page alone.
The figures are in [performance/figures.json](performance/figures.json), with every sample.
`cargo xtask bench --page` makes this page again from that file. `cargo xtask bench core` looks more closely at the state machine.

runit, s6 and supervisord are found on the search path. Envoy's own restarter script is found there as well, or by the variable
`BENCH_HOT_RESTARTER`.
";

fn goals(figures: &Figures) -> String {
    let mut table = "| goal | bound | measured | |\n| --- | ---: | ---: | --- |\n".to_owned();
    for goal in goals::all(figures) {
        let verdict = match &goal.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Unknown(reason) => &format!("unknown: {reason}"),
        };
        let (text, bound, figure) = (&goal.text, &goal.bound, &goal.figure);
        let _infallible = writeln!(table, "| {text} | {bound} | {figure} | {verdict} |");
    }
    table.push_str(
        "\nWhy a goal is missed, and what was tried: [missed-goals.md](missed-goals.md).\n",
    );
    table
}

/// What is unknown of each subject, and subjects together that lack the same for the same reason.
fn unknown(figures: &Figures) -> String {
    struct Gap<'a> {
        reason: &'a str,
        subjects: Vec<&'a str>,
        things: Vec<&'a str>,
    }
    let mut of_one: Vec<Gap<'_>> = Vec::new();
    for figure in &figures.figures {
        let Value::Unknown(reason) = &figure.value else {
            continue;
        };
        let subjects = vec![figure.subject.as_str()];
        let known = of_one
            .iter_mut()
            .find(|gap| gap.reason == reason && gap.subjects == subjects);
        match known {
            Some(gap) => gap.things.push(&figure.what),
            None => of_one.push(Gap {
                reason,
                subjects,
                things: vec![&figure.what],
            }),
        }
    }
    let mut gaps: Vec<Gap<'_>> = Vec::new();
    for one in of_one {
        let known = gaps
            .iter_mut()
            .find(|gap| gap.reason == one.reason && gap.things == one.things);
        match known {
            Some(gap) => gap.subjects.extend(one.subjects),
            None => gaps.push(one),
        }
    }
    let mut list = String::new();
    for Gap {
        reason,
        subjects,
        things,
    } in gaps
    {
        let (subjects, things) = (subjects.join(", "), things.join(", "));
        let _infallible = writeln!(list, "- {subjects}: {things}: {}.", one_line(reason));
    }
    for failure in &figures.failures {
        let (measure, reason) = (&failure.measure, one_line(&failure.reason));
        let _infallible = writeln!(list, "- The measure `{measure}` has failed: {reason}.");
    }
    if list.is_empty() {
        return "Nothing: every figure was measured.\n".to_owned();
    }
    list
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

fn run(figures: &Figures) -> String {
    let mut table = "| | |\n| --- | --- |\n".to_owned();
    let (date, command, seconds) = (&figures.date, &figures.command, figures.seconds);
    let _infallible = writeln!(table, "| command | `{command}` |");
    let _infallible = writeln!(table, "| began at | {date} |");
    let _infallible = writeln!(table, "| took | {seconds:.0} s |");
    for fact in &figures.facts {
        let _infallible = writeln!(table, "| {} | {} |", fact.name, fact.value);
    }
    table
}

#[cfg(test)]
mod tests;
