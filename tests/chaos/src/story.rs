//! Tells a failed run in a page, and puts everything else into a file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use handover_test_support::log::Line;
use serde_json::Value;

use crate::life::Life;
use crate::step;
use crate::summary::{Done, Failure, Outcome};

/// How many bursts, processes and lines of the log are on the page.
const BURSTS: usize = 4;
const PROCESSES: usize = 6;
const OWN_LINES: usize = 24;
const LINES_OF_FAKES: usize = 8;

/// How many lines of a violation are on the page. A loss lists each request.
const LINES_OF_VIOLATION: usize = 8;

/// After how many characters a line of the page is cut.
const WIDTH: usize = 240;

/// How the supervisor marks a line of a process of the fake.
const OF_A_FAKE: &str = "[epoch ";

/// What is known when a run has failed.
pub(crate) struct Facts<'a> {
    pub(crate) steps: &'a [Done],
    pub(crate) lives: &'a [Life],
    pub(crate) status: &'a Value,
    pub(crate) lines: &'a [Line],
}

impl Facts<'_> {
    /// Returns what explains the failure on a page.
    pub(crate) fn page(&self) -> String {
        let lives = self.lives.len().saturating_sub(PROCESSES);
        let lives: Vec<_> = self.lives.iter().skip(lives).map(life_line).collect();
        let sections = [
            ("the last bursts", bursts(self.steps, BURSTS)),
            ("the last processes", lives),
            ("the last status", status_lines(self.status)),
            ("the end of the log", last_lines(self.lines)),
        ];
        let mut page = String::new();
        for (title, lines) in sections {
            push(&mut page, &format!("--- {title}"));
            for line in lines {
                push(&mut page, &line);
            }
        }
        page
    }

    /// Returns all of it, except for the log.
    pub(crate) fn details(&self) -> String {
        let lives: Vec<_> = self.lives.iter().map(life_line).collect();
        format!(
            "--- all steps\n{}\n--- all processes\n{}\n--- the last status\n{:#}\n",
            bursts(self.steps, usize::MAX).join("\n"),
            lives.join("\n"),
            self.status
        )
    }
}

/// Adds a line to a page, cut if it is too long for one.
fn push(page: &mut String, line: &str) {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => {
            page.push_str(line.get(..end).unwrap_or(line));
            page.push_str(" ..");
        }
        None => page.push_str(line),
    }
    page.push('\n');
}

/// Returns the last bursts, one on a line, with when each began and how long it took.
fn bursts(steps: &[Done], most: usize) -> Vec<String> {
    let bursts: Vec<_> = steps
        .split_inclusive(|done| done.step == step::Step::Settle)
        .collect();
    let skipped = bursts.len().saturating_sub(most);
    let told = |burst: &&[Done]| {
        let begun = burst.first()?.at;
        let end = burst.last()?;
        let texts: Vec<_> = burst.iter().map(|done| done.step.to_string()).collect();
        Some(format!(
            "{:8.3} s  {:6.3} s  {}",
            begun.as_secs_f64(),
            (end.at + end.took).saturating_sub(begun).as_secs_f64(),
            texts.join("; ")
        ))
    };
    bursts.iter().skip(skipped).filter_map(told).collect()
}

/// Tells the life of a process on one line.
fn life_line(life: &Life) -> String {
    let faults: Vec<_> = life.faults.iter().map(ToString::to_string).collect();
    let steps: Vec<_> = life
        .steps
        .iter()
        .map(|(at, step)| format!("{step} {:.3}", at.as_secs_f64()))
        .collect();
    let mut text = format!(
        "{:8.3} s  epoch {} (process {}), faults [{}], reached [{}]",
        life.begun.as_secs_f64(),
        life.epoch,
        life.pid,
        faults.join(" "),
        steps.join(", ")
    );
    for (what, at) in [("killed", &life.killed), ("ended", &life.ended)] {
        if let Some(at) = at {
            // Writing to a text cannot fail.
            let _written = write!(text, ", {what} {:.3}", at.as_secs_f64());
        }
    }
    text
}

/// Returns what of a status fits on a page: its simple values, and the epochs.
fn status_lines(status: &Value) -> Vec<String> {
    let Some(fields) = status.as_object() else {
        return vec!["there is none".to_owned()];
    };
    let is_simple = |value: &Value| !value.is_null() && !value.is_object() && !value.is_array();
    let simple: Vec<_> = fields
        .iter()
        .filter(|(_, value)| is_simple(value))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let epochs = fields.get("epochs").and_then(Value::as_array);
    let epochs = epochs.into_iter().flatten().map(|epoch| {
        let field = |name: &str| epoch.get(name).unwrap_or(&Value::Null).to_string();
        format!("epoch {} is {}", field("epoch"), field("state"))
    });
    let problem = fields.get("problem").filter(|problem| !problem.is_null());
    let problem = problem.map(|problem| format!("problem {problem}"));
    std::iter::once(simple.join(", "))
        .chain(epochs)
        .chain(problem)
        .collect()
}

/// Returns the last different lines of the supervisor and of the fakes, in their order, and how many are left out. A
/// fake that floods its output says the same line thousands of times.
fn last_lines(lines: &[Line]) -> Vec<String> {
    let (mut own, mut of_fakes) = (0, 0);
    let mut texts = BTreeSet::new();
    let mut kept = Vec::new();
    for line in lines.iter().rev() {
        let is_of_fake = line.text.contains(OF_A_FAKE);
        let (count, most) = if is_of_fake {
            (&mut of_fakes, LINES_OF_FAKES)
        } else {
            (&mut own, OWN_LINES)
        };
        let text = if is_of_fake {
            without_numbers(&line.text)
        } else {
            line.text.clone()
        };
        if *count < most && texts.insert(text) {
            *count += 1;
            kept.push(line.to_string());
        }
    }
    let left_out = lines.len() - kept.len();
    if left_out > 0 {
        kept.push(format!("({left_out} lines are left out)"));
    }
    kept.reverse();
    kept
}

/// Lines that differ in times and numbers only say the same.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

impl Outcome {
    /// Returns how the run failed, on a page; nothing if it passed. `what` names the run, `replay` is the command that
    /// repeats it, and `kept` names the place of everything.
    #[must_use]
    pub fn story(&self, what: &str, replay: &str, kept: &str) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let mut page = String::new();
        let (bursts, hand_overs) = (self.summary.bursts, self.summary.hand_overs);
        let when = if failure.is_at_the_end {
            "at its end".to_owned()
        } else {
            format!("in burst {bursts}")
        };
        let steps = self.steps.len();
        push(
            &mut page,
            &format!("FAILED: {what}, {when}, after {steps} steps and {hand_overs} hand-overs"),
        );
        for violation in &failure.violations {
            push_violation(&mut page, &violation.text);
        }
        page.push_str(&failure.page);
        push(&mut page, &format!("--- everything: {kept}"));
        // The command is to be copied: it is whole, however long.
        page.push_str(&format!("replay: {replay}\n"));
        Some(page)
    }

    /// Writes everything to a file: the page, all steps and processes, the status and the log.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep(&self, page: &str, file: &Path) -> io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let details = self.failure.as_ref().map(Failure::details);
        let details = details.unwrap_or_default();
        fs::write(file, format!("{page}{details}--- the log\n{}", self.log))
    }
}

impl Failure {
    fn details(&self) -> &str {
        &self.details
    }
}

fn push_violation(page: &mut String, text: &str) {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    push(page, &format!("VIOLATION: {first}"));
    let rest: Vec<_> = lines.collect();
    for line in rest.iter().take(LINES_OF_VIOLATION) {
        push(page, &format!("  {line}"));
    }
    if rest.len() > LINES_OF_VIOLATION {
        let left_out = rest.len() - LINES_OF_VIOLATION;
        push(page, &format!("  ({left_out} lines are left out)"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover_test_support::log::Stream;

    use super::*;
    use crate::summary::Summary;
    use crate::violation::{Kind, Violation};

    fn line(number: usize, text: String) -> Line {
        Line {
            number,
            at: Duration::from_millis(100_000 + number as u64),
            stream: Stream::Stderr,
            text,
        }
    }

    /// A run in which a fake has flooded its output between the lines that matter.
    fn failed() -> Outcome {
        let mut lines = vec![line(0, "INFO epoch 7 starts".to_owned())];
        let flood = "[epoch 7] [fake][info][main] flooding the output";
        lines.extend((1..4_000).map(|number| line(number, format!("{flood} {number}"))));
        lines.push(line(4_000, "[epoch 7] [fake] listening".to_owned()));
        lines.push(line(4_001, format!("WARN {}", "long ".repeat(100))));
        lines.extend((4_002..4_030).map(|number| line(number, "INFO again".to_owned())));
        let texts =
            "change good; settle; ".repeat(40) + "fault flood=256K@live; change good; settle";
        let steps = step::read(&texts).unwrap().into_iter().enumerate();
        let steps: Vec<_> = steps
            .map(|(index, step)| Done {
                step,
                at: Duration::from_millis(1_000 * index as u64),
                took: Duration::from_millis(40),
            })
            .collect();
        let lives: Vec<_> = (0..9)
            .map(|epoch| Life {
                epoch,
                pid: 100 + epoch,
                begun: Duration::from_secs(90),
                killed: (epoch == 8).then_some(Duration::from_secs(91)),
                ..Life::default()
            })
            .collect();
        let status = serde_json::json!({
            "ready": true, "degraded": false, "problem": { "text": "it failed" }, "nothing": null,
            "epochs": [{ "epoch": 7, "state": "live" }, { "epoch": 8, "state": "starting" }],
        });
        let facts = Facts {
            steps: &steps,
            lives: &lives,
            status: &status,
            lines: &lines,
        };
        let (page, details) = (facts.page(), facts.details());
        let lost = (0..50).map(|at| format!("\n{at} s client: reset"));
        let violations = vec![Violation {
            kind: Kind::Loss,
            text: format!(
                "50 requests were lost, and at most 0{}",
                lost.collect::<String>()
            ),
        }];
        Outcome {
            summary: Summary {
                bursts: 41,
                hand_overs: 39,
                ..Summary::default()
            },
            steps,
            is_broken_off: false,
            log: lines.iter().map(|line| format!("{line}\n")).collect(),
            failure: Some(Failure {
                violations,
                is_at_the_end: false,
                page,
                details,
            }),
        }
    }

    #[test]
    fn a_failure_is_told_on_a_page_however_much_a_fake_has_printed() {
        let replay = "cargo xtask chaos --seed 7";
        let page = failed().story("seed 7", replay, "the file").unwrap();
        assert!(page.lines().count() <= 66, "{}", page.lines().count());
        insta::assert_snapshot!(page);
    }

    #[test]
    fn everything_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/place");
        let outcome = failed();
        outcome.keep("the page\n", &file).unwrap();
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with("the page\n"), "{text}");
        assert_eq!(text.matches("flooding the output").count(), 3_999);
        assert_eq!(text.matches("change good; settle").count(), 41);
        assert_eq!(text.matches("(process ").count(), 9);
    }

    #[test]
    fn a_run_that_passed_has_no_story() {
        let outcome = Outcome {
            failure: None,
            ..failed()
        };
        assert_eq!(outcome.story("seed 7", "", ""), None);
    }
}
