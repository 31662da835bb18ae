//! The transcript as a table: time, input, outputs, resulting state.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::run::{Step, Transcript, What};
use super::write;
use handover_core::{
    Abort, EpochInfo, EpochState, Event, Output, Phase, Purpose, Reception, Target,
};

const TITLES: [&str; 5] = ["time", "input", "outputs", "epochs", "then"];

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<[Vec<String>; 5]> = self.steps.iter().map(row).collect();
        for line in rows.iter_mut().flatten().flatten() {
            shorten(line);
        }
        let mut widths = TITLES.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                let widest = cell.iter().map(|line| line.chars().count()).max();
                *width = (*width).max(widest.unwrap_or_default());
            }
        }
        writeln!(f, "{}", self.title)?;
        write_line(f, widths, &TITLES)?;
        write_line(f, widths, &widths.map(|width| "-".repeat(width)))?;
        for row in &rows {
            let height = row.iter().map(Vec::len).max().unwrap_or_default();
            for index in 0..height {
                let cell = |column: &Vec<String>| column.get(index).cloned().unwrap_or_default();
                write_line(f, widths, &row.each_ref().map(cell))?;
            }
        }
        Ok(())
    }
}

/// The input in the words of a script, or what the deadline was for.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(input, _) => f.write_str(&write::input(input)),
            Self::Timeout(Some(reason)) => fmt::Display::fmt(reason, f),
            Self::Timeout(None) => f.write_str("timeout"),
        }
    }
}

fn write_line<T: AsRef<str>>(
    f: &mut fmt::Formatter<'_>,
    widths: [usize; 5],
    cells: &[T; 5],
) -> fmt::Result {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = cell.as_ref();
        line.push_str(cell);
        // A width in a format string has a limit of its own.
        let missing = width.saturating_sub(cell.chars().count());
        line.extend(core::iter::repeat_n(' ', missing.saturating_add(2)));
    }
    writeln!(f, "{}", line.trim_end())
}

/// The longest line of a cell, in characters. The names of configurations may be of any length, and
/// one long name would widen every row.
const WIDEST: usize = 200;

/// Cuts what is longer than a table is wide, with an ellipsis.
fn shorten(line: &mut String) {
    if let Some((cut, _)) = line.char_indices().nth(WIDEST) {
        line.truncate(cut);
        line.push('…');
    }
}

fn row(step: &Step) -> [Vec<String>; 5] {
    let what = &step.what;
    let (input, reception) = match what {
        What::Input(_, reception) => (what.to_string(), self::reception(*reception)),
        What::Timeout(Some(_)) => (format!("({what})"), None),
        What::Timeout(None) => (format!("({what})"), Some("nothing is due".into())),
    };
    let outputs = reception
        .into_iter()
        .chain(step.outputs.iter().filter_map(output))
        .collect();
    let epochs = step.epochs.iter().map(epoch).collect();
    [
        alloc::vec![step.at.to_string()],
        alloc::vec![input],
        outputs,
        epochs,
        state(step),
    ]
}

fn reception(reception: Reception) -> Option<String> {
    match reception {
        Reception::Accepted => None,
        Reception::Ignored(why) => Some(format!("ignored: {why}")),
        Reception::Denied(why) => Some(format!("denied: {why}")),
    }
}

/// Commands stand as they are, events behind a dot.
fn output(output: &Output<String>) -> Option<String> {
    Some(match output {
        Output::Start {
            epoch,
            target: Target::Serve(config),
        } => {
            format!("START {epoch} to serve {config}")
        }
        Output::Start {
            epoch,
            target: Target::Drain,
        } => format!("START {epoch} to drain"),
        Output::Abort {
            epoch,
            how: Abort::Graceful,
        } => format!("ABORT {epoch} gracefully"),
        Output::Abort {
            epoch,
            how: Abort::Immediate,
        } => format!("ABORT {epoch} immediately"),
        Output::Retire { epoch, by } => format!("RETIRE {epoch}, {by} serves"),
        Output::Withdraw(epoch) => format!("WITHDRAW {epoch}"),
        Output::Cleanup(epoch) => format!("CLEANUP {epoch}"),
        Output::Panic { config, epoch } => format!("PANIC {config}, after epoch {epoch}"),
        Output::Finish(outcome) => format!("FINISH {outcome}"),
        Output::Event(event) => return self::event(event).map(|text| format!("· {text}")),
    })
}

/// An event in words; nothing for those that repeat the command or the input beside them.
fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Superseded { .. } => return None,
        Event::Started { epoch, purpose } => match purpose {
            Purpose::Desired | Purpose::Drain => return None,
            Purpose::Fallback => format!("{epoch} is the last good one"),
        },
        Event::Live { epoch, after } => format!("{epoch} live after {after:?}"),

        Event::StoppedServing { epoch } => format!("{epoch} has stopped serving"),
        Event::WokeLate { late } => format!("{late:?} late, looking around"),
        Event::StartTimedOut { epoch } => format!("{epoch} not live in time"),
        Event::GivesWay { epoch, after } => format!("{epoch} gives way after {after:?}"),
        Event::Exited { epoch, was, .. } => format!("{epoch} was {}", epoch_state(*was)),
        Event::RetryScheduled {
            purpose: Purpose::Fallback,
            delay,
            retries_left,
        } => {
            format!("last good one again {}, {retries_left} left", wait(*delay))
        }
        Event::RetryScheduled {
            delay,
            retries_left,
            ..
        } => {
            format!("retry {}, {retries_left} left", wait(*delay))
        }
        Event::BudgetRefilled {
            epoch,
            retries_left,
        } => {
            format!("{epoch} is healthy, {retries_left} left")
        }
        Event::ProbationPassed { epoch } => format!("{epoch} has passed its probation"),
        Event::Unfit {
            epoch,
            replaced: true,
        } => format!("{epoch} is unfit"),
        Event::Unfit { epoch, .. } => format!("{epoch} is unfit, and nothing can replace it"),
        Event::BeyondCap { epoch, running } => {
            format!("{epoch} beside {running} others, beyond the cap")
        }
        Event::Restarting => "cold restart".into(),
        Event::Held(held) => format!("held: {held}"),
        Event::GaveUp {
            epoch,
            why,
            holding,
        } => {
            let then = if *holding { "holding" } else { "stopping" };
            format!("gave up after {epoch} as {why}, {then}")
        }
        Event::FallbackLost { epoch } => format!("gave the last good one up after {epoch}"),
        Event::NotRestarted { epoch } => format!("{epoch} is not restarted"),
        Event::Draining { until } => until.map_or_else(
            || "draining".into(),
            |until| format!("draining until {until}"),
        ),
        Event::DrainTimedOut => "drain cut".into(),
        event => format!("{event:?}"),
    })
}

fn wait(delay: Duration) -> String {
    if delay.is_zero() {
        "at once".into()
    } else {
        format!("in {delay:?}")
    }
}

fn epoch(info: &EpochInfo) -> String {
    let mut text = format!("{} {}", info.epoch, epoch_state(info.state));
    match info.purpose {
        Purpose::Drain => text.push_str(", the drain"),
        Purpose::Fallback if !info.desired => text.push_str(", the last good one"),
        Purpose::Desired | Purpose::Fallback if info.desired => text.push_str(", desired"),
        Purpose::Desired | Purpose::Fallback => {}
    }
    if info.released {
        text.push_str(", released");
    }
    if info.withdrawn {
        text.push_str(", withdrawn");
    }
    if info.on_probation {
        text.push_str(", on probation");
    }
    if info.unfit {
        text.push_str(", unfit");
    }
    text
}

fn epoch_state(state: EpochState) -> &'static str {
    match state {
        EpochState::Starting => "starting",
        EpochState::Live => "live",
        EpochState::Draining => "draining",
        EpochState::Aborting(Abort::Graceful) => "aborting",
        EpochState::Aborting(Abort::Immediate) => "killing",
    }
}

fn state(step: &Step) -> Vec<String> {
    let mut lines = Vec::new();
    match step.phase {
        Phase::Running => {
            if let Some(desired) = &step.desired {
                let left = step.retries_left.unwrap_or_default();
                let current = step.current.as_deref().unwrap_or("nothing");
                if current == desired && step.held.is_none() {
                    lines.push(format!("{desired} current, {left} left"));
                } else {
                    lines.push(format!("wants {desired}, has {current}, {left} left"));
                }
            }
            if let Some(held) = step.held {
                lines.push(held.to_string());
            }
        }
        Phase::Draining { .. } => lines.push("draining".into()),
        Phase::Stopping(_) => lines.push("stopping".into()),
        Phase::Finished(_) => lines.push("finished".into()),
    }
    if let Some(deadline) = step.deadline {
        lines.push(format!("{}: {}", deadline.at, deadline.reason));
    }
    lines
}
