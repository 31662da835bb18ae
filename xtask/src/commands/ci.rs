//! `ci` and `check`: run the checks one after the other, let none stop the rest, tell all results.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::checks::{ALL, Check, Findings};
use crate::context::Context;
use crate::report::Counts;

/// Prints each check's name and what it holds.
pub(crate) fn list() {
    let width = ALL.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in ALL {
        println!("{:width$}  {}", check.name, check.about);
    }
}

/// Runs every check.
pub(crate) fn run_all() -> Result<bool> {
    run(&ALL.iter().collect::<Vec<_>>())
}

/// Runs the named checks and those they build on, in the registry's order.
///
/// # Errors
///
/// When a name is not a check's.
pub(crate) fn run_some(names: &[String]) -> Result<bool> {
    for name in names {
        if !ALL.iter().any(|check| check.name == name) {
            bail!("there is no check `{name}`; `cargo xtask ci --list` shows all of them");
        }
    }
    run(&closure(names))
}

/// The named checks and, transitively, what they need. A check stands after all that it needs in the
/// registry, so one pass from the end finds them all.
fn closure(names: &[String]) -> Vec<&'static Check> {
    let mut wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut chosen: Vec<&'static Check> = Vec::new();
    for check in ALL.iter().rev() {
        if wanted.contains(&check.name) {
            wanted.extend(check.needs);
            chosen.push(check);
        }
    }
    chosen.reverse();
    chosen
}

fn run(chosen: &[&'static Check]) -> Result<bool> {
    let context = Context::new()?;
    let started = Instant::now();
    let mut done = Vec::new();
    for check in chosen {
        println!("\n==> {}: {}", check.name, check.about);
        let begun = Instant::now();
        let findings = (check.run)(&context).unwrap_or_else(|error| {
            let problems = vec![format!("{error:#}")];
            Findings {
                problems,
                ..Findings::default()
            }
        });
        for note in &findings.notes {
            println!("note: {note}");
        }
        for problem in &findings.problems {
            println!("problem: {problem}");
        }
        let passed = findings.problems.is_empty();
        let verdict = if passed { "ok" } else { "FAILED" };
        let took = begun.elapsed().as_secs_f64();
        let line = format!("{verdict:>6}  {:<10} {took:>7.1} s", check.name);
        println!("{line}");
        done.push((*check, findings, line));
    }
    Ok(summarise(&done, started.elapsed()))
}

/// Prints all results again. The number of tests is the last line, where there were tests.
fn summarise(done: &[(&Check, Findings, String)], took: Duration) -> bool {
    println!("\n==> summary");
    let results = || done.iter().map(|(_, findings, _)| findings);
    let skipped = results().flat_map(|findings| &findings.skipped);
    for line in done.iter().map(|(_, _, line)| line).chain(skipped) {
        println!("{line}");
    }
    for what in results().flat_map(|findings| &findings.left) {
        println!("NOT DONE HERE, the workflow does it: {what}");
    }
    let is_bad = |findings: &Findings| !findings.problems.is_empty();
    let failed = results().filter(|findings| is_bad(findings)).count();
    let (ran, took) = (done.len(), took.as_secs_f64());
    if failed == 0 {
        println!("all {ran} checks passed in {took:.0} s");
    } else {
        println!("{failed} of {ran} checks failed in {took:.0} s:");
    }
    for (check, findings, _) in done.iter().filter(|(_, findings, _)| is_bad(findings)) {
        println!("  {}: {} problem(s)", check.name, findings.problems.len());
        for problem in &findings.problems {
            println!("    {}", problem.lines().next().unwrap_or_default());
        }
    }
    let mut sum: Option<Counts> = None;
    for counts in results().filter_map(|findings| findings.counts) {
        *sum.get_or_insert_default() += counts;
    }
    if let Some(sum) = sum {
        println!("{sum}");
    }
    failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(checks: &[&'static Check]) -> Vec<&'static str> {
        checks.iter().map(|check| check.name).collect()
    }

    #[test]
    fn a_check_brings_along_what_it_needs_in_the_order_of_the_registry() {
        assert_eq!(
            names(&closure(&["snapshots".to_owned()])),
            ["envoy", "promtool", "servers", "tests", "snapshots"]
        );
    }

    #[test]
    fn every_need_is_a_check_that_stands_earlier() {
        for (index, check) in ALL.iter().enumerate() {
            for need in check.needs {
                assert!(
                    ALL[..index].iter().any(|earlier| earlier.name == *need),
                    "{} needs {need}, which does not stand before it",
                    check.name
                );
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut seen = names(&ALL.iter().collect::<Vec<_>>());
        seen.sort_unstable();
        let before = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), before);
    }
}
