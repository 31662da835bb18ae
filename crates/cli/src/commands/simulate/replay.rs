//! `handover simulate` of a recording: what has happened, and whether the machines would do it again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use handover_core::{Machine, Timestamp};
use handover_core_testing::scenario::{Step, Transcript, What};
use handover_supervisor::recorder::{
    AgentStep, Begin, Difference, Note, OperatorStep, Recording, Replayed, Watch, Who, replay,
};
use serde_json::{Value, json};

use crate::escape::escaped;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};

/// The longest line of an operator's step, in characters.
const WIDEST: usize = 200;

/// Reads what a file or a state directory holds.
pub(super) fn read_directory(dir: &Path) -> Result<Recording, Fatal> {
    Recording::read(dir).or_exit(ExitCode::CONFIG)
}

/// Takes the content of a file for a recording.
pub(super) fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Recording, Fatal> {
    let mut recording = Recording::default();
    recording.add(path, bytes).or_exit(ExitCode::CONFIG)?;
    Ok(recording)
}

/// Replays a recording, and prints each step.
pub(super) fn run(recording: &Recording, as_json: bool) -> Result<ExitCode, Fatal> {
    let mut shown = Shown::default();
    let replayed = replay(recording, &mut shown);
    if as_json {
        let object = shown.object(recording, replayed);
        super::super::print(format_args!("{object:#}"))?;
    } else {
        let text = shown.text(recording, replayed);
        let text = text
            .context("writing the transcript")
            .or_exit(ExitCode::INTERNAL)?;
        super::super::print(escaped(text.trim_end(), &['\n']))?;
    }
    Ok(match (replayed.unusable_states, replayed.differences) {
        (0, 0) => ExitCode::CLEAN,
        (0, _) => ExitCode::DIFFERENT,
        _ => ExitCode::CONFIG,
    })
}

/// The parts of a recording between two beginnings.
#[derive(Default)]
struct Shown {
    earlier: Vec<Run>,
    run: Run,
}

#[derive(Default)]
struct Run {
    begin: Option<Begin>,
    notes: Vec<String>,
    agent: Vec<(Step, Option<Difference>)>,
    operator: Vec<OperatorStep>,
    /// When the time of each machine began, by the wall clock.
    began: [Option<SystemTime>; 2],
    others: Vec<String>,
}

impl Watch for Shown {
    fn note(&mut self, note: &Note) {
        match note {
            Note::Begin(begin) => {
                let next = Run {
                    begin: Some(Begin::clone(begin)),
                    ..Run::default()
                };
                self.earlier.push(std::mem::replace(&mut self.run, next));
            }
            Note::Dropped(records) => {
                let note = format!("{records} records could not be written");
                self.run.notes.push(note);
            }
            Note::End { at } => {
                let note = format!("the run ended at {at}");
                self.run.notes.push(note);
            }
            _ => {}
        }
    }

    fn agent(&mut self, step: &AgentStep, machine: &Machine<u64>) {
        let run = &mut self.run;
        let [agent, _] = &mut run.began;
        *agent = began(step.wall, step.at).or(*agent);
        let mut name = |config: &u64| name(*config);
        let what = match (&step.input, step.reception) {
            (Some(input), Some(reception)) => What::Input(input.map_config(&mut name), reception),
            _ => What::Timeout(step.due),
        };
        let outputs = step.outputs.iter().map(|it| it.map_config(&mut name));
        let shown = Step {
            at: step.at,
            what,
            outputs: outputs.collect(),
            epochs: machine.epochs().collect(),
            desired: machine.desired().map(|it| self::name(*it)),
            current: machine.current().map(|it| self::name(*it)),
            retries_left: machine.retries_left(),
            held: machine.held(),
            phase: machine.phase(),
            deadline: machine.poll_timeout(),
        };
        run.agent.push((shown, step.difference.clone()));
    }

    fn operator(&mut self, step: &OperatorStep) {
        let run = &mut self.run;
        let [_, operator] = &mut run.began;
        *operator = began(step.wall, step.at).or(*operator);
        run.operator.push(step.clone());
    }

    fn missing(&mut self, who: Who) {
        let note = format!(
            "records of the {who} are missing; it is replayed again from its next state on"
        );
        self.run.notes.push(note);
    }

    fn other_state(&mut self, who: Who, at: Timestamp) {
        let other =
            format!("DIFFERENCE: the {who} was saved at {at} in another state than the replay has");
        self.run.others.push(other);
    }
}

impl Shown {
    /// Those of which there is anything to show.
    fn runs(&self) -> impl Iterator<Item = &Run> {
        let runs = self.earlier.iter().chain([&self.run]);
        runs.filter(|run| run.begin.is_some() || !run.agent.is_empty() || !run.operator.is_empty())
    }

    fn text(&self, recording: &Recording, replayed: Replayed) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for run in self.runs() {
            run.write(&mut text)?;
        }
        for problem in &recording.problems {
            writeln!(text, "note: {problem}")?;
        }
        if replayed.left_out > 0 {
            let count = replayed.left_out;
            writeln!(
                text,
                "note: {count} records have no state before them and were not replayed"
            )?;
        }
        if replayed.unusable_states > 0 {
            let count = replayed.unusable_states;
            writeln!(
                text,
                "note: {count} saved states cannot be restored: use the version of handover that wrote them"
            )?;
        }
        let steps = replayed.steps;
        match replayed.differences {
            0 => writeln!(
                text,
                "replayed {steps} steps: the machines did the same again"
            )?,
            1 => writeln!(text, "replayed {steps} steps: 1 DIFFERENCE")?,
            many => writeln!(text, "replayed {steps} steps: {many} DIFFERENCES")?,
        }
        Ok(text)
    }

    fn object(&self, recording: &Recording, replayed: Replayed) -> Value {
        let problems: Vec<_> = recording.problems.iter().map(ToString::to_string).collect();
        json!({
            "runs": self.runs().map(Run::object).collect::<Vec<_>>(),
            "problems": problems,
            "steps": replayed.steps,
            "differences": replayed.differences,
            "left_out": replayed.left_out,
            "unusable_states": replayed.unusable_states,
        })
    }
}

impl Run {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        if let Some(begin) = &self.begin {
            let Begin { at, pid, .. } = begin;
            let goes_on = if begin.continues { "goes on" } else { "begins" };
            writeln!(
                text,
                "the recording of process {pid} {goes_on} at {at}: {}",
                begin.about
            )?;
        }
        for note in &self.notes {
            writeln!(text, "note: {note}")?;
        }
        let [agent, operator] = self.began;
        if !self.agent.is_empty() {
            let transcript = Transcript {
                title: format!("\nWhich epoch runs; {}", zero(agent)),
                steps: self.agent.iter().map(|(step, _)| step.clone()).collect(),
            };
            writeln!(text, "{transcript}")?;
        }
        for (step, difference) in &self.agent {
            write_difference(text, "agent", step.at, difference.as_ref())?;
        }
        if !self.operator.is_empty() {
            writeln!(
                text,
                "What signals, clients and files lead to; {}",
                zero(operator)
            )?;
        }
        for step in &self.operator {
            write_line(
                text,
                &format!("{:<14} {}", step.at.to_string(), cause(step)),
            )?;
            for output in &step.outputs {
                write_line(text, &format!("{:<14}   > {output:?}", ""))?;
            }
        }
        for step in &self.operator {
            write_difference(text, "operator", step.at, step.difference.as_ref())?;
        }
        for other in &self.others {
            writeln!(text, "{other}")?;
        }
        writeln!(text)
    }

    fn object(&self) -> Value {
        let agent = self.agent.iter().map(|(step, difference)| {
            let mut object = super::step(step);
            if let (Value::Object(fields), Some(difference)) = (&mut object, difference) {
                fields.insert("difference".to_owned(), difference_of(difference));
            }
            object
        });
        let operator = self.operator.iter().map(|step| {
            let outputs = step.outputs.iter().map(|output| format!("{output:?}"));
            json!({
                "at_ms": super::millis(step.at.elapsed()),
                "cause": cause(step),
                "outputs": outputs.collect::<Vec<_>>(),
                "difference": step.difference.as_ref().map(difference_of),
            })
        });
        json!({
            "begin": self.begin,
            "notes": self.notes,
            "other_states": self.others,
            "agent": agent.collect::<Vec<_>>(),
            "operator": operator.collect::<Vec<_>>(),
        })
    }
}

/// What a configuration is called. Its content was not recorded.
fn name(number: u64) -> String {
    format!("config {number}")
}

fn began(wall: Option<SystemTime>, at: Timestamp) -> Option<SystemTime> {
    wall?.checked_sub(at.elapsed())
}

fn zero(began: Option<SystemTime>) -> String {
    // A time that cannot be shown is one that nobody's clock has had.
    let began = began.filter(|began| {
        let since = began.duration_since(SystemTime::UNIX_EPOCH);
        since.is_ok_and(|since| since < Duration::from_secs(253_402_300_799))
    });
    match began {
        Some(began) => format!("time 0 is {}", humantime::format_rfc3339_millis(began)),
        None => "what time 0 is, is not known".to_owned(),
    }
}

fn cause(step: &OperatorStep) -> String {
    match (&step.input, step.due) {
        (Some(input), _) => format!("{input:?}"),
        (None, Some(due)) => format!("({due})"),
        (None, None) => "(nothing was due)".to_owned(),
    }
}

fn write_line(text: &mut String, line: &str) -> std::fmt::Result {
    match line.char_indices().nth(WIDEST) {
        Some((cut, _)) => writeln!(text, "{}…", line.get(..cut).unwrap_or_default()),
        None => writeln!(text, "{line}"),
    }
}

fn write_difference(
    text: &mut String,
    who: &str,
    at: Timestamp,
    difference: Option<&Difference>,
) -> std::fmt::Result {
    let Some(Difference { recorded, replayed }) = difference else {
        return Ok(());
    };
    writeln!(text, "DIFFERENCE of the {who} at {at}:")?;
    for (what, outputs) in [("recorded", recorded), ("replayed", replayed)] {
        for output in outputs {
            writeln!(text, "  {what}: {output}")?;
        }
        if outputs.is_empty() {
            writeln!(text, "  {what}: nothing")?;
        }
    }
    Ok(())
}

fn difference_of(difference: &Difference) -> Value {
    json!({ "recorded": difference.recorded, "replayed": difference.replayed })
}
