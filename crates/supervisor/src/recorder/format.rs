//! The lines of a recording.
//!
//! ```text
//! handover-recording 1
//! # {"begin":{"at":"2026-02-03T04:05:06.789Z","pid":4711,..}}
//! 0.000000000 agent = {"at":"2026-02-03T04:05:06.790Z","machine":{..}}
//! 0.000000000 agent < {"Desire":1}
//! 0.000000000 agent > {"Start":{"epoch":0,"target":{"Serve":1}}}
//! ```
//!
//! A line is a time, a machine, a sign and a value as JSON. The time is that of the machine, in seconds
//! since its driver began. A line counts once its line feed is there.

use std::fmt;
use std::time::Duration;

use handover_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first line of every file, without its line feed.
pub(super) const HEADER: &str = "handover-recording 1";
/// How the first line begins in every version.
pub(super) const MAGIC: &str = "handover-recording ";
/// The longest line that is written, in bytes. A longer one is left out and counted.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

/// Which of the two machines a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The state machine that decides which epoch runs.
    Agent,
    /// The state machine that decides what signals, clients and files lead to.
    Operator,
}

impl Who {
    pub(super) const ALL: [Self; 2] = [Self::Agent, Self::Operator];
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
        })
    }
}

/// What a record of a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The state of the machine before the next step.
    State,
    /// The machine took this input.
    Input,
    /// The machine handled its deadline.
    Deadline,
    /// The machine gave this output.
    Output,
    /// So many records before this one are missing.
    Missing,
}

impl Sign {
    const ALL: [Self; 5] = [
        Self::State,
        Self::Input,
        Self::Deadline,
        Self::Output,
        Self::Missing,
    ];

    const fn letter(self) -> &'static str {
        match self {
            Self::State => "=",
            Self::Input => "<",
            Self::Deadline => "@",
            Self::Output => ">",
            Self::Missing => "!",
        }
    }
}

/// One line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Something about the recording itself.
    Note(Note),
    /// Something about a machine.
    Of {
        /// The time of the machine.
        at: Timestamp,
        /// The machine.
        who: Who,
        /// What the value is.
        sign: Sign,
        /// The value.
        value: Value,
    },
}

/// What a recording says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Note {
    /// A run begins, or goes on in this file.
    Begin(Box<Begin>),
    /// So many records could not be written. What follows is without a state at first.
    Dropped(u64),
    /// The run has come to its end.
    End {
        /// The wall clock, as RFC 3339.
        at: String,
    },
}

/// Whose recording it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// The wall clock, as RFC 3339.
    pub at: String,
    /// Whether the run had begun in an earlier file.
    #[serde(default)]
    pub continues: bool,
    /// The process id of the supervisor.
    pub pid: u32,
    /// What the program adds: its version and its arguments, for example.
    #[serde(default)]
    pub about: Value,
}

/// Why a line is none of a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no record: {0}")]
pub struct NoRecord(String);

/// Writes a line about a machine. The value is JSON already.
pub(super) fn line(at: Timestamp, who: Who, sign: Sign, json: &str) -> String {
    let at = at.elapsed();
    let (seconds, nanos) = (at.as_secs(), at.subsec_nanos());
    format!("{seconds}.{nanos:09} {who} {} {json}\n", sign.letter())
}

impl Note {
    /// Writes the line.
    pub(crate) fn line(&self) -> String {
        // A note has text keys only, so it can be written.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("# {json}\n")
    }
}

impl Record {
    /// Reads a line, without its line feed.
    ///
    /// # Errors
    ///
    /// If it is no record of this version.
    pub fn parse(line: &str) -> Result<Self, NoRecord> {
        let no = |why: &str| NoRecord(why.to_owned());
        let json = |text: &str| serde_json::from_str(text).map_err(|error| no(&error.to_string()));
        if let Some(note) = line.strip_prefix("# ") {
            let value: Value = json(note)?;
            let note = serde_json::from_value(value).map_err(|error| no(&error.to_string()))?;
            return Ok(Self::Note(note));
        }
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().ok_or_else(|| no("it has too few words"));
        let (at, who, sign, value) = (word()?, word()?, word()?, word()?);
        let who = Who::ALL
            .into_iter()
            .find(|known| known.to_string() == who)
            .ok_or_else(|| no("it names no machine"))?;
        let sign = Sign::ALL
            .into_iter()
            .find(|known| known.letter() == sign)
            .ok_or_else(|| no("its sign is unknown"))?;
        Ok(Self::Of {
            at: time(at).ok_or_else(|| no("it begins with no time"))?,
            who,
            sign,
            value: json(value)?,
        })
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let (seconds, nanos) = text.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if nanos.len() != 9 || !is_number(nanos) || !is_number(seconds) {
        return None;
    }
    let span = Duration::new(seconds.parse().ok()?, nanos.parse().ok()?);
    Some(Timestamp::new(span))
}

/// As it is written, without the line feed.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Note(note) => note.line(),
            Self::Of {
                at,
                who,
                sign,
                value,
            } => line(*at, *who, *sign, &value.to_string()),
        };
        f.write_str(text.trim_end_matches('\n'))
    }
}
