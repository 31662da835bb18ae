//! From a status to what is told on the screen. The words are those of the page of the status server.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use handover_supervisor::control::wire::{EndResult, EpochEnd, EpochHistory, Stage, Status};

use crate::commands::control::table::plain;

/// For so long a failure is told although everything is well again.
const RECENT: Duration = Duration::from_secs(3_600);

/// What is told first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// One or two words.
    pub(super) word: &'static str,
    pub(super) tone: Tone,
    pub(super) sentence: String,
    /// Since when, what was tried, and why it failed.
    pub(super) lines: Vec<String>,
}

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
    Plain,
}

/// Something that has happened.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) at: SystemTime,
    pub(super) text: String,
    pub(super) tone: Tone,
}

pub(super) fn verdict(status: &Status, now: SystemTime) -> Verdict {
    let (health, why) = match &status.verdict {
        Some(verdict) => (verdict.health.as_str(), verdict.why.as_str()),
        // An older instance has none.
        None if status.ready => ("READY", "an epoch serves"),
        None => ("NOT_READY", "nothing is seen to serve"),
    };
    let (word, tone) = match health {
        "READY" => ("Ready.", Tone::Good),
        "DEGRADED" => ("Degraded.", Tone::Warning),
        "TERMINATING" => ("Ending.", Tone::Bad),
        _ => ("Not ready.", Tone::Bad),
    };
    let (head, rest) = why.split_once(": ").unwrap_or((why, ""));
    let mut lines = Vec::new();
    let serving = status.history.iter().rev().find(|epoch| serves(epoch));
    if let Some((epoch, since)) = serving.and_then(|epoch| Some((epoch, live_since(epoch)?))) {
        let lasted = lasted(age(now, since));
        lines.push(format!(
            "Epoch {} has served since {} UTC ({lasted}).",
            epoch.epoch,
            clock(since, now)
        ));
    }
    let failed = status.history.iter().rev().find_map(|epoch| {
        let end = epoch.end.as_ref()?;
        is_failure(end.result).then_some((epoch, end))
    });
    if let Some((epoch, end)) = failed {
        let (began, ended) = (started(epoch), time(&end.at));
        if health != "READY" || ended.is_some_and(|ended| age(now, ended) < RECENT) {
            let is_tried = serving.is_none_or(|serving| {
                let both = began.zip(started(serving));
                both.is_some_and(|(began, serving)| began > serving)
            });
            let when = if is_tried { "Tried" } else { "Before" };
            let unknown = || "an unknown time".to_owned();
            let at = began.map_or_else(unknown, |began| clock(began, now));
            let ran = match (began, ended) {
                (Some(began), Some(ended)) if end.result != EndResult::Rejected => {
                    format!(" after {}", lasted(age(ended, began)))
                }
                _ => String::new(),
            };
            let outcome = outcome(end);
            lines.push(format!(
                "{when}: epoch {} at {at}, {outcome}{ran}.",
                epoch.epoch
            ));
        }
    }
    if !rest.is_empty() {
        lines.push(sentence(rest));
    }
    if let Some(held) = status.held.as_deref().filter(|held| !rest.contains(held)) {
        lines.push(sentence(&format!("the start is held: {held}")));
    }
    if let Some(problem) = &status.problem {
        lines.push(sentence(problem));
    }
    if let Some(unfit) = &status.unfit {
        lines.push(sentence(&format!(
            "epoch {} is unfit: {}",
            unfit.epoch, unfit.evidence
        )));
    }
    if let Some(failure) = status.last_failure.as_ref().filter(|_| health != "READY") {
        lines.push(sentence(&format!(
            "epoch {}: {}",
            failure.epoch, failure.message
        )));
    }
    if status.drained {
        lines.push("Health checks fail on request, until `handover undrain`.".to_owned());
    }
    Verdict {
        word,
        tone,
        sentence: sentence(head),
        lines,
    }
}

/// What has happened, newest first.
pub(super) fn happened(status: &Status) -> Vec<Happened> {
    let mut all = Vec::new();
    for epoch in &status.history {
        let number = epoch.epoch;
        for since in &epoch.stages {
            let text = format!("epoch {number} is {}", stage_name(since.stage));
            let tone = stage_tone(since.stage);
            all.extend(time(&since.at).map(|at| Happened { at, text, tone }));
        }
        if let Some(end) = &epoch.end {
            let text = format!("epoch {number} has ended: {}", outcome(end));
            let tone = end_tone(end);
            all.extend(time(&end.at).map(|at| Happened { at, text, tone }));
        }
    }
    // Of one moment, what was written later has happened later.
    all.sort_by_key(|happened| happened.at);
    all.reverse();
    all
}

/// The epochs that have a row, so many at most, in the order of their starts. If there are too many, those that
/// serve come first, then those that run, then the newest.
pub(super) fn shown(
    history: &[EpochHistory],
    begins: SystemTime,
    most: usize,
) -> Vec<&EpochHistory> {
    let is_within = |epoch: &EpochHistory| {
        let end = epoch.end.as_ref().and_then(|end| time(&end.at));
        end.is_none_or(|end| end >= begins)
    };
    let within = history.iter().enumerate();
    let mut shown: Vec<_> = within.filter(|(_, epoch)| is_within(epoch)).collect();
    shown.sort_by_key(|(at, epoch)| Reverse((serves(epoch), epoch.end.is_none(), *at)));
    shown.truncate(most);
    shown.sort_by_key(|(at, _)| *at);
    shown.into_iter().map(|(_, epoch)| epoch).collect()
}

/// The span of time that shows what has happened last, up to now.
pub(super) fn span(history: &[EpochHistory], now: SystemTime) -> Duration {
    let changes = history.iter().flat_map(|epoch| {
        let stages = epoch.stages.iter().map(|since| &since.at);
        stages.chain(epoch.end.as_ref().map(|end| &end.at))
    });
    let mut ages: Vec<_> = changes.filter_map(|at| Some(age(now, time(at)?))).collect();
    ages.sort_unstable();
    let newest = ages.first().copied().unwrap_or_default();
    let mut span = newest.mul_f64(1.3).max(Duration::from_secs(20));
    for age in ages {
        if age < span * 2 {
            span = span.max(age.mul_f64(1.15));
        }
    }
    span
}

fn serves(epoch: &EpochHistory) -> bool {
    let last = epoch.stages.last().map(|since| since.stage);
    let serves = matches!(last, Some(Stage::Live | Stage::Probation | Stage::Unfit));
    epoch.end.is_none() && serves
}

fn live_since(epoch: &EpochHistory) -> Option<SystemTime> {
    let is_live = |stage| matches!(stage, Stage::Live | Stage::Probation);
    let since = epoch.stages.iter().find(|since| is_live(since.stage))?;
    time(&since.at)
}

pub(super) fn started(epoch: &EpochHistory) -> Option<SystemTime> {
    time(&epoch.stages.first()?.at)
}

pub(super) fn is_failure(result: EndResult) -> bool {
    match result {
        EndResult::Rejected | EndResult::Failed | EndResult::Late | EndResult::Unfit => true,
        EndResult::GaveWay | EndResult::HandedOver | EndResult::Ended | EndResult::Other => false,
    }
}

pub(super) fn end_tone(end: &EpochEnd) -> Tone {
    match is_failure(end.result) {
        true => Tone::Bad,
        false => Tone::Plain,
    }
}

pub(super) fn stage_tone(stage: Stage) -> Tone {
    match stage {
        Stage::Live => Tone::Good,
        Stage::Starting | Stage::Probation => Tone::Warning,
        Stage::Unfit => Tone::Bad,
        Stage::Draining | Stage::Aborting | Stage::Other => Tone::Plain,
    }
}

pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Starting => "starting",
        Stage::Probation => "live, on probation",
        Stage::Live => "live",
        Stage::Unfit => "unfit",
        Stage::Draining => "draining",
        Stage::Aborting => "being ended",
        Stage::Other => "in a stage of a later version",
    }
}

/// How an epoch has ended, in a few words.
pub(super) fn outcome(end: &EpochEnd) -> String {
    let word = match end.result {
        EndResult::Rejected => "rejected before it ran",
        EndResult::Failed => "failed",
        EndResult::Late => "not live in time",
        EndResult::Unfit => "found unfit",
        EndResult::GaveWay => "gave way to a newer one",
        EndResult::HandedOver => "handed over",
        EndResult::Ended => "ended",
        EndResult::Other => "ended otherwise",
    };
    match &end.cause {
        // An unfit or late epoch is ended on purpose, so how its process ended is not the reason.
        Some(cause) if end.result == EndResult::Failed => {
            format!("{word}: {}", plain(cause).replace('_', " "))
        }
        _ => word.to_owned(),
    }
}

/// A moment of an answer, if it is one.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(text).ok()
}

pub(super) fn age(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

/// The time of the day, in UTC. A time of another day than now has its date.
pub(super) fn clock(time: SystemTime, now: SystemTime) -> String {
    let (date, clock) = written(time);
    if date == written(now).0 {
        clock
    } else {
        format!("{date} {clock}")
    }
}

/// The date, and the time of the day.
fn written(time: SystemTime) -> (String, String) {
    // A clock may be set to a time that RFC 3339 cannot write.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let time = time.clamp(SystemTime::UNIX_EPOCH, last);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let (date, clock) = text.split_once('T').unwrap_or_default();
    (date.to_owned(), clock.trim_end_matches('Z').to_owned())
}

/// For how long, as short as it can be told.
pub(super) fn lasted(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A text from elsewhere as a sentence that commands no terminal.
fn sentence(text: &str) -> String {
    let text = plain(text);
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    let mut sentence: String = first.into_iter().flatten().chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests;
