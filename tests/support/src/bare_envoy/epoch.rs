//! One epoch of a bare Envoy, and its end.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::LIMIT;
use crate::supervisor::{Signal, Supervisor};

/// One epoch: its process, which is killed with all its descendants when this is dropped.
#[derive(Debug)]
pub struct Epoch {
    pub(super) process: Supervisor,
}

/// How a process ended, and what it said.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All lines of both outputs, each with its time.
    pub log: String,
}

impl Epoch {
    /// The process.
    #[must_use]
    pub fn process(&self) -> &Supervisor {
        &self.process
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Sends a signal to it.
    ///
    /// # Panics
    ///
    /// When it has ended and was waited for.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn kill(&mut self) -> Ended {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// Waits for its end, and reaps it.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        let status = self.process.wait_exit(LIMIT);
        Ended {
            status,
            log: self.process.log().to_string(),
        }
    }

    /// Whether a line of its output, so far, contains this text.
    #[must_use]
    pub fn has_said(&self, text: &str) -> bool {
        self.process.count_lines(text) > 0
    }
}

impl Ended {
    /// Asserts an exit with this code, after a line that contains `text`.
    ///
    /// # Panics
    ///
    /// When it ended otherwise, or said something else; the message has all it said.
    #[track_caller]
    pub fn assert_exit(&self, code: i32, text: &str) {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\n{}",
            self.status,
            self.log
        );
        self.assert_said(text);
    }

    /// Asserts an end by this signal, after a line that contains `text`.
    ///
    /// # Panics
    ///
    /// As [`assert_exit`](Self::assert_exit).
    #[track_caller]
    pub fn assert_signal(&self, signal: Signal, text: &str) {
        let number = Some(signal.as_raw());
        assert_eq!(
            self.status.signal(),
            number,
            "{}\n{}",
            self.status,
            self.log
        );
        self.assert_said(text);
    }

    #[track_caller]
    fn assert_said(&self, text: &str) {
        assert!(self.log.contains(text), "no {text:?} in:\n{}", self.log);
    }
}
