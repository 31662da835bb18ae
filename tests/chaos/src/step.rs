//! One step of a plan, and its text: a line that a person can read, write and give back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use handover_fake_envoy::{Fault, FaultError};

/// What is done to the supervised fake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `change WHAT`: replaces the configuration file.
    Change(Change),
    /// `fault TEXT`: what goes wrong with the next process that starts, in the words of the fake.
    Fault(Fault),
    /// `signal NAME`: sends a signal to the supervisor.
    Signal(Hint),
    /// `stop-supervisor TIME`: stops the supervisor, and continues it after that time.
    StopSupervisor(Duration),
    /// `stop-newest TIME`, `stop-oldest TIME`: the same for a process of the fake.
    StopEpoch(Which, Duration),
    /// `kill newest`, `kill oldest`: kills a process of the fake.
    Kill(Which),
    /// The words of a request on the control socket, such as `reload --wait`.
    Ask(Ask),
    /// `shortage WHAT TIME`: takes nearly all of something away, and gives it back after that time.
    Shortage(Resource, Duration),
    /// `pause TIME`.
    Pause(Duration),
    /// `settle`: waits until everything is as it must be in the end, and checks that.
    Settle,
}

/// What the configuration file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One with a new marker.
    Good,
    /// The same bytes again, in another file.
    Same,
    /// No YAML.
    BadYaml,
    /// A field that Envoy does not know.
    UnknownField,
    /// A certificate that is not there.
    MissingCertificate,
    /// A listener on a port that somebody else has.
    PortTaken,
    /// An admin endpoint on a port that somebody else has.
    AdminPortTaken,
}

/// A signal to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The next epoch, please.
    Hup,
    /// Passed on to the fake.
    Usr1,
    /// Without a meaning.
    Alrm,
}

/// A process of the fake, by its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that was started last.
    Newest,
    /// The one that was started first.
    Oldest,
}

/// A request on the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `GET /v1/status`.
    Status,
    /// `POST /v1/who`.
    Who,
    /// `POST /v1/reload`.
    Reload,
    /// The same, answered once the configuration is live or given up.
    ReloadWait,
    /// The same, without waiting for old epochs.
    ReloadNow,
    /// The same, with the end of everything before.
    ReloadCold,
    /// `POST /v1/drain`.
    Drain,
    /// `POST /v1/undrain`.
    Undrain,
}

/// What there can be too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Descriptors that the supervisor may open.
    Descriptors,
    /// Processes and threads of the control group.
    Processes,
    /// Memory of the control group.
    Memory,
    /// Room in the run directory and the state directory.
    Disk,
}

/// Why a text is no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The words are unknown.
    #[error(
        "{0:?} is no step: use change, fault, signal, stop-supervisor, stop-newest, stop-oldest, kill, a \
         request such as `reload --wait`, shortage, pause or settle; the list is in the documentation of \
         handover_chaos::Step"
    )]
    Unknown(String),
    /// The time is missing or cannot be read.
    #[error("{0:?} needs a time in milliseconds at its end, such as 40ms")]
    Time(String),
    /// The fault cannot be read.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The fault counts starts, which a plan does by the order of its steps.
    #[error(
        "{0:?} has a condition: a fault of a plan is for the next start, so leave out what follows the colon"
    )]
    Condition(String),
}

/// The steps that are only words.
const WORDS: [(&str, Step); 21] = [
    ("change good", Step::Change(Change::Good)),
    ("change same", Step::Change(Change::Same)),
    ("change bad-yaml", Step::Change(Change::BadYaml)),
    ("change unknown-field", Step::Change(Change::UnknownField)),
    (
        "change missing-certificate",
        Step::Change(Change::MissingCertificate),
    ),
    ("change port-taken", Step::Change(Change::PortTaken)),
    (
        "change admin-port-taken",
        Step::Change(Change::AdminPortTaken),
    ),
    ("signal hup", Step::Signal(Hint::Hup)),
    ("signal usr1", Step::Signal(Hint::Usr1)),
    ("signal alrm", Step::Signal(Hint::Alrm)),
    ("kill newest", Step::Kill(Which::Newest)),
    ("kill oldest", Step::Kill(Which::Oldest)),
    ("status", Step::Ask(Ask::Status)),
    ("who", Step::Ask(Ask::Who)),
    ("reload", Step::Ask(Ask::Reload)),
    ("reload --wait", Step::Ask(Ask::ReloadWait)),
    ("reload --now", Step::Ask(Ask::ReloadNow)),
    ("reload --cold", Step::Ask(Ask::ReloadCold)),
    ("drain", Step::Ask(Ask::Drain)),
    ("undrain", Step::Ask(Ask::Undrain)),
    ("settle", Step::Settle),
];

/// The words before a time, and the step of that time.
type Timed = (&'static str, fn(Duration) -> Step);

/// The steps whose text ends with a time.
const TIMED: [Timed; 8] = [
    ("stop-supervisor", Step::StopSupervisor),
    ("stop-newest", |time| Step::StopEpoch(Which::Newest, time)),
    ("stop-oldest", |time| Step::StopEpoch(Which::Oldest, time)),
    ("shortage descriptors", |time| {
        Step::Shortage(Resource::Descriptors, time)
    }),
    ("shortage processes", |time| {
        Step::Shortage(Resource::Processes, time)
    }),
    ("shortage memory", |time| {
        Step::Shortage(Resource::Memory, time)
    }),
    ("shortage disk", |time| Step::Shortage(Resource::Disk, time)),
    ("pause", Step::Pause),
];

impl Step {
    /// Returns the time that the step takes, if it has one.
    const fn time(&self) -> Option<Duration> {
        match self {
            Self::StopSupervisor(time)
            | Self::StopEpoch(_, time)
            | Self::Shortage(_, time)
            | Self::Pause(time) => Some(*time),
            Self::Change(_)
            | Self::Fault(_)
            | Self::Signal(_)
            | Self::Kill(_)
            | Self::Ask(_)
            | Self::Settle => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Fault(fault) = self {
            return write!(f, "fault {fault}");
        }
        if let Some((words, _)) = WORDS.iter().find(|(_, step)| step == self) {
            return f.write_str(words);
        }
        let time = self.time().unwrap_or_default();
        let timed = TIMED.iter().find(|(_, make)| make(time) == *self);
        let words = timed.map_or("pause", |(words, _)| words);
        write!(f, "{words} {}ms", time.as_millis())
    }
}

impl FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Self, StepError> {
        let words: Vec<_> = text.split_whitespace().collect();
        let joined = words.join(" ");
        if let Some(fault) = joined.strip_prefix("fault ") {
            if fault.contains(':') {
                return Err(StepError::Condition(joined));
            }
            return Ok(Self::Fault(fault.parse()?));
        }
        if let Some((_, step)) = WORDS.iter().find(|(known, _)| *known == joined) {
            return Ok(step.clone());
        }
        let timed = TIMED.iter().find_map(|(known, make)| {
            let rest = joined.strip_prefix(known)?;
            (rest.is_empty() || rest.starts_with(' ')).then_some((make, rest))
        });
        let Some((make, rest)) = timed else {
            return Err(StepError::Unknown(joined));
        };
        let millis = rest
            .trim()
            .strip_suffix("ms")
            .and_then(|number| number.parse().ok());
        let millis = millis.ok_or(StepError::Time(joined))?;
        Ok(make(Duration::from_millis(millis)))
    }
}

/// Reads a list of steps: one a line, or with semicolons between them. Empty lines, and what follows a
/// `#`, are left out.
///
/// # Errors
///
/// The first text that is no step.
pub fn read(text: &str) -> Result<Vec<Step>, StepError> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let texts = lines.flat_map(|line| line.split(';')).map(str::trim);
    texts
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .collect()
}

/// Writes a list of steps on one line, as [`read`] takes it.
#[must_use]
pub fn write(steps: &[Step]) -> String {
    let texts: Vec<_> = steps.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_reads_back_as_it_is_written() {
        let timed = TIMED.map(|(words, _)| format!("{words} 40ms"));
        let faults = [
            "fault crash@live",
            "fault slow=200ms@admin",
            "fault admin-silent",
        ];
        let texts = WORDS.iter().map(|(words, _)| (*words).to_owned());
        for text in texts.chain(timed).chain(faults.map(str::to_owned)) {
            let step: Step = text.parse().unwrap();
            assert_eq!(step.to_string(), text);
        }
    }

    #[test]
    fn a_list_is_read_from_lines_or_semicolons_and_comments_are_left_out() {
        let text = "# A bad one between two good ones.\nchange good; change bad-yaml\n\n  change   good # the last\n";
        let steps = read(text).unwrap();
        let line = "change good; change bad-yaml; change good";
        assert_eq!(write(&steps), line);
        assert_eq!(read(line).unwrap(), steps);
    }

    #[test]
    fn what_is_no_step_is_refused_with_a_remedy() {
        for (text, words) in [
            (
                "chagne good",
                "\"chagne good\" is no step: use change, fault",
            ),
            (
                "pause",
                "\"pause\" needs a time in milliseconds at its end, such as 40ms",
            ),
            ("pause 2s", "\"pause 2s\" needs a time"),
            (
                "stop-supervisor x ms",
                "\"stop-supervisor x ms\" needs a time",
            ),
            ("fault nonsense", "\"nonsense\" is no fault"),
            (
                "fault crash@live:once",
                "\"fault crash@live:once\" has a condition",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
