//! The events of this run and of earlier ones, in two files of the state directory.
//!
//! ```text
//! handover-events 1
//! # {"begin":{"at":"2026-02-03T04:05:06.789Z","pid":4711,..}}
//! {"id":"1a218a358eb-1","at":"2026-02-03T04:05:06.790Z","event":"started","epoch":0,..}
//! ```
//!
//! They are written as the [recording](crate::recorder) is: by a thread that nobody waits for. Events are as
//! the user of the instance reads them, with texts that may quote a file or a process.

use std::path::{Path, PathBuf};

use handover_files::below;
use tokio::sync::oneshot;

use crate::control::wire::Event;
use crate::recorder::{Kind, LONGEST_LINE, Limits, Note, Writer, bytes_of};

/// The file that is written.
pub const KEPT_EVENTS: &str = "events";
/// The file before it.
pub const OLD_EVENTS: &str = "events.old";

pub(crate) const EVENTS: Kind = Kind {
    new: KEPT_EVENTS,
    old: OLD_EVENTS,
    header: HEADER,
};

/// The first line of every file, without its line feed.
const HEADER: &str = "handover-events 1";

/// Ten thousand events. An event has some 200 bytes, unless a detail is long.
pub(crate) const EVENTS_LIMITS: Limits = Limits {
    records: 10_000,
    bytes: 2 << 20,
    hard: (2 << 20) + (256 << 10),
};

/// Where events are kept.
#[derive(Clone)]
pub(crate) struct EventLog {
    writer: Writer,
    limits: Limits,
    /// The events and the bytes of the present file.
    events: u64,
    bytes: u64,
    /// How many events could not be passed on since the last one.
    missing: u64,
}

impl EventLog {
    pub(crate) fn new(writer: Writer, limits: Limits, (events, bytes): (u64, u64)) -> Self {
        Self {
            writer,
            limits,
            events,
            bytes,
            missing: 0,
        }
    }

    /// Passes an event on to the writer. While its queue is full, events are counted and left out.
    pub(super) fn write(&mut self, event: &Event) {
        let most = self.limits.bytes.min(self.writer.file_limit());
        let is_full = self.events >= self.limits.records || self.bytes >= most;
        if is_full && self.writer.rotate().is_ok() {
            (self.events, self.bytes) = (0, 0);
        }
        let mut line = match self.missing {
            0 => String::new(),
            missing => Note::Dropped(missing).line(),
        };
        // It has no maps with strange keys, so it can always be written.
        line.push_str(&serde_json::to_string(event).unwrap_or_default());
        line.push('\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(length);
        if bytes > self.limits.hard || self.writer.line(line).is_err() {
            self.missing = self.missing.saturating_add(1);
            return;
        }
        self.missing = 0;
        self.bytes = bytes;
        self.events = self.events.saturating_add(1);
    }

    /// Ends the log. The receiver hears when that is on the disk.
    pub(crate) fn end(&self) -> Option<oneshot::Receiver<()>> {
        self.writer.end()
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").finish_non_exhaustive()
    }
}

/// What is kept in a state directory, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptEvents {
    /// The events, and where runs begin and end.
    pub entries: Vec<Entry>,
    /// What cannot be read, in words.
    pub problems: Vec<String>,
}

/// A line of what is kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Entry {
    /// A run begins or ends, or events are missing.
    Note(Note),
    /// Something has happened.
    Event(Event),
}

impl KeptEvents {
    /// Reads what is kept in this state directory. It blocks. Without files there are no entries.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let mut kept = Self::default();
        for path in files_in(dir) {
            match bytes_of(&path) {
                Ok(bytes) => kept.add(&path, &bytes),
                Err(error) => kept.problems.push(format!("{}: {error}", path.display())),
            }
        }
        kept
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        let first = lines.next().map(|(_, first)| first.trim_ascii_end());
        if first != Some(HEADER.as_bytes()) {
            let path = path.display();
            let problem = format!("{path}: these are no events of this version of handover");
            self.problems.push(problem);
            return;
        }
        for (index, line) in lines {
            match entry(line) {
                Ok(entry) => self.entries.push(entry),
                Err(what) => {
                    let line = index.saturating_add(1);
                    self.problems
                        .push(format!("{}, line {line}: {what}", path.display()));
                }
            }
        }
    }
}

/// The files in a state directory, oldest first. Where others can write to the directory, they are in one of our
/// user below.
fn files_in(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let dirs = [dir.to_owned(), below(dir)].into_iter();
    let files = dirs.flat_map(|dir| [OLD_EVENTS, KEPT_EVENTS].map(|name| dir.join(name)));
    files.filter(|path| path.is_file())
}

fn entry(line: &[u8]) -> Result<Entry, String> {
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err("it was written in part only, and is left out".to_owned());
    };
    if line.len() > LONGEST_LINE {
        return Err(format!("it is longer than {LONGEST_LINE} bytes"));
    }
    let read = match line.strip_prefix(b"# ") {
        Some(note) => serde_json::from_slice(note).map(Entry::Note),
        None => serde_json::from_slice(line).map(Entry::Event),
    };
    read.map_err(|error| format!("it is no event: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u64) -> String {
        format!(
            r#"{{"id":"a-{number}","at":"2026-02-03T04:05:06.789Z","event":"live","epoch":0,"text":"x"}}"#
        )
    }

    #[test]
    fn what_is_no_event_is_told_and_all_else_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        let head = "handover-events 1\n# {\"begin\":{\"at\":\"x\",\"pid\":7}}\n";
        write(OLD_EVENTS, format!("{head}{}\n", text(1)).as_bytes());
        let long = "x".repeat(LONGEST_LINE + 1);
        let odd = format!(
            "{head}nonsense\n{}\n# {{\"dropped\":3}}\n{long}\n# {{\"later\":1}}\n{}",
            text(2),
            text(3)
        );
        write(KEPT_EVENTS, odd.as_bytes());
        let kept = KeptEvents::read(dir.path());
        let ids = kept.entries.iter().map(|entry| match entry {
            Entry::Event(event) => event.id.clone(),
            Entry::Note(Note::Dropped(number)) => format!("dropped {number}"),
            Entry::Note(_) => "note".to_owned(),
        });
        let ids: Vec<_> = ids.collect();
        assert_eq!(ids, ["note", "a-1", "note", "a-2", "dropped 3"]);
        let problems = kept.problems.iter();
        let ends: Vec<_> = problems
            .map(|problem| problem.rsplit_once("/events, ").unwrap().1)
            .map(|problem| problem.split(" at ").next().unwrap())
            .collect();
        insta::assert_snapshot!(ends.join("\n"), @r"
        line 3: it is no event: expected ident
        line 6: it is longer than 65536 bytes
        line 7: it is no event: unknown variant `later`, expected one of `begin`, `dropped`, `end`
        line 8: it was written in part only, and is left out
        ");
        write(KEPT_EVENTS, b"something else\n");
        let kept = KeptEvents::read(dir.path());
        assert_eq!((kept.entries.len(), kept.problems.len()), (2, 1));
        let none = KeptEvents::read(&dir.path().join("nothing"));
        assert_eq!(none, KeptEvents::default());
    }

    #[test]
    fn the_longest_line_is_read() {
        let padded = |length: usize| {
            let line = text(1);
            let letters = "x".repeat(length - line.len() + 1);
            format!("{}\n", line.replace("\"x\"", &format!("\"{letters}\"")))
        };
        let read = entry(padded(LONGEST_LINE).as_bytes());
        assert!(matches!(read, Ok(Entry::Event(_))), "{read:?}");
        let error = entry(padded(LONGEST_LINE + 1).as_bytes()).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
    }
}
