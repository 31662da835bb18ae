//! The last lines of each epoch, kept in a file beside the recording.
//!
//! A recording has no text. What a process printed before it failed is kept apart, in a file of its own
//! that is as private as the configuration. It is written at most once a second, and only after a process
//! has printed something.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use handover_process::{Line, OutputSink, Stream};

use super::writer::Writer;

/// The name of the file.
pub const LAST_LINES: &str = "last-lines";
/// The name of that file of the run before.
pub const OLD_LINES: &str = "last-lines.old";
/// How many processes are kept.
const PROCESSES: usize = 6;
/// How many lines of each.
const LINES: usize = 40;
/// How many bytes of each line.
const WIDTH: usize = 400;

/// The last lines of the last processes.
#[derive(Clone, Debug, Default)]
pub(super) struct LastLines(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    processes: VecDeque<Process>,
    has_news: bool,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    epoch: Option<u32>,
    label: Arc<str>,
    lines: VecDeque<Printed>,
}

#[derive(Debug)]
struct Printed {
    at: SystemTime,
    stream: Stream,
    text: Vec<u8>,
    is_cut: bool,
}

impl LastLines {
    /// Keeps a line. Returns whether it is the first one since the file was written.
    fn keep(&self, line: &Line<'_>) -> bool {
        let mut kept = self.lock();
        let source = line.source;
        let is_it = |process: &Process| process.pid == source.pid && process.epoch == source.epoch;
        if !kept.processes.iter().any(is_it) {
            if kept.processes.len() == PROCESSES {
                kept.processes.pop_front();
            }
            kept.processes.push_back(Process {
                pid: source.pid,
                epoch: source.epoch,
                label: Arc::clone(&source.label),
                lines: VecDeque::new(),
            });
        }
        if let Some(process) = kept
            .processes
            .iter_mut()
            .rev()
            .find(|process| is_it(process))
        {
            // The place of the oldest one is used again.
            let oldest = match process.lines.len() {
                LINES.. => process.lines.pop_front(),
                0..LINES => None,
            };
            let mut text = oldest.map(|oldest| oldest.text).unwrap_or_default();
            text.clear();
            text.extend(line.bytes.iter().take(WIDTH));
            process.lines.push_back(Printed {
                at: SystemTime::now(),
                stream: line.stream,
                text,
                is_cut: line.bytes.len() > WIDTH || line.continues,
            });
        }
        !std::mem::replace(&mut kept.has_news, true)
    }

    /// Returns what the file should hold, if that is something new.
    pub(super) fn news(&self) -> Option<String> {
        let mut kept = self.lock();
        if !std::mem::take(&mut kept.has_news) {
            return None;
        }
        let mut text = String::new();
        for process in &kept.processes {
            // Writing to a text never fails.
            let _written = process.write(&mut text);
        }
        Some(text)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is whole, or leaves a line out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { pid, label, .. } = self;
        match self.epoch {
            Some(epoch) => writeln!(text, "== epoch {epoch}, process {pid}, {label}")?,
            None => writeln!(text, "== process {pid}, {label}")?,
        }
        for line in &self.lines {
            let at = humantime::format_rfc3339_millis(line.at);
            let printed = String::from_utf8_lossy(&line.text);
            write!(text, "{at} {}: ", line.stream)?;
            for character in printed.chars() {
                match character.is_control() {
                    true => write!(text, "{}", character.escape_default())?,
                    false => text.push(character),
                }
            }
            text.push_str(if line.is_cut { "…\n" } else { "\n" });
        }
        Ok(())
    }
}

/// Passes lines on, and keeps the last ones.
pub(super) struct Keeping {
    pub(super) inner: Arc<dyn OutputSink>,
    pub(super) lines: LastLines,
    pub(super) writer: Writer,
}

impl OutputSink for Keeping {
    fn line(&self, line: &Line<'_>) {
        if self.lines.keep(line) {
            self.writer.lines_are_new();
        }
        self.inner.line(line);
    }
}

#[cfg(test)]
mod tests {
    use handover_process::Source;

    use super::*;

    fn print(lines: &LastLines, pid: u32, text: &[u8]) -> bool {
        let source = Source {
            pid,
            epoch: Some(pid % 10),
            label: Arc::from("server"),
        };
        lines.keep(&Line {
            source: &source,
            stream: Stream::Stderr,
            bytes: text,
            continues: false,
        })
    }

    #[test]
    fn the_last_lines_of_the_last_processes_are_kept_and_no_more() {
        let lines = LastLines::default();
        assert_eq!(lines.news(), None);
        assert!(print(&lines, 100, b"first"));
        assert!(!print(&lines, 100, b"a\x1b[31mb\xff"));
        let news = lines.news().unwrap();
        assert!(
            news.starts_with("== epoch 0, process 100, server\n"),
            "{news}"
        );
        assert!(news.contains(" stderr: first\n"), "{news}");
        assert!(news.contains(" stderr: a\\u{1b}[31mb\u{fffd}\n"), "{news}");
        assert_eq!(lines.news(), None);
        for pid in 101..120 {
            for number in 0..100 {
                print(
                    &lines,
                    pid,
                    format!("{number} {}", "x".repeat(5_000)).as_bytes(),
                );
            }
        }
        let news = lines.news().unwrap();
        assert_eq!(news.lines().count(), PROCESSES * (LINES + 1));
        assert!(
            news.len() < PROCESSES * (LINES + 1) * (WIDTH + 60),
            "{}",
            news.len()
        );
        assert!(
            news.contains(": 99 x") && !news.contains(": 59 x"),
            "{news}"
        );
    }
}
