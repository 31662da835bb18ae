//! Nothing is started before some files are there: certificates or a configuration that come later.
//!
//! ```text
//!            something is missing            a read has succeeded
//!   shut ◀──────────────────────────▶ open ───────────────────────▶ (gone)
//!    │        all files are there      │
//!    │                                 │ the first read fails: the files are looked at,
//!    ▼ the limit has passed            ▼ and all are there
//!   the end, with what is missing     the end, with the failure
//! ```
//!
//! The gate guards the first start alone. A file that vanishes later is the business of the watched files.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use handover_core::{Timestamp, Urgency};

use super::{
    Deadline, DeadlineReason, EndedBy, Event, Fault, Ignored, Next, Operator, Output, ReadFailure,
    Reception, Report,
};

/// The pause before the missing files are reported again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How files are awaited without which nothing is started.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct FileWait {
    /// How long they are awaited, counted from the start; `None` for as long as it takes.
    pub limit: Option<Duration>,
}

/// What holds the first read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Gate {
    is_shut: bool,
    /// What is missing, in sentences. It is empty until the files were looked at.
    missing: Vec<String>,
    /// When that was reported last.
    reported: Option<Timestamp>,
    pause: Duration,
    /// Why the first read has failed, until it is known whether the files are still there.
    failure: Option<ReadFailure>,
}

impl Gate {
    /// Whether it holds a read that is wished for. One that is not held takes the place of a failed one.
    pub(super) fn holds_a_read(&mut self) -> bool {
        self.failure = None;
        self.is_shut
    }
}

impl<C: Clone + Eq> Operator<C> {
    pub(super) fn shut_the_gate(&mut self) {
        self.gate = Some(Gate {
            is_shut: true,
            missing: Vec::new(),
            reported: None,
            pause: FIRST_PAUSE,
            failure: None,
        });
        self.outputs.push_back(Output::LookForFiles);
    }

    /// Returns whether nothing is started because files are awaited.
    pub(super) fn is_gated(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_shut)
    }

    /// Returns what is missing, while that holds the start.
    pub(super) fn awaited(&self) -> Option<Vec<String>> {
        let gate = self.gate.as_ref().filter(|gate| gate.is_shut)?;
        Some(gate.missing.clone())
    }

    /// Why nothing is read while files are awaited.
    pub(super) fn awaited_report(&self) -> Report {
        let missing = self.awaited().unwrap_or_default();
        Report {
            message: String::from("nothing was started yet, because files are awaited"),
            lines: missing,
        }
    }

    /// Rule: a file counts only while all others are there as well. One that vanishes before a read has
    /// succeeded shuts the gate again.
    pub(super) fn files_found(&mut self, missing: Vec<String>) -> Reception {
        let Some(gate) = &mut self.gate else {
            return Reception::Ignored(Ignored::Stale);
        };
        let failure = gate.failure.take();
        if !missing.is_empty() {
            let is_new = !gate.is_shut || gate.missing != missing || gate.reported.is_none();
            let was_reported = gate.is_shut && gate.reported.is_some();
            gate.is_shut = true;
            gate.missing = missing;
            if let Some(read) = self.read.take() {
                self.outputs.push_back(Output::CancelRead(read.id));
            }
            if !was_reported {
                self.report_missing_files();
            }
            return match is_new || failure.is_some() {
                true => Reception::Accepted,
                false => Reception::Ignored(Ignored::Unchanged),
            };
        }
        gate.missing.clear();
        if let Some(failure) = failure {
            // The files are there, so they are not the reason.
            self.gate = None;
            self.not_read(failure);
        } else if core::mem::take(&mut gate.is_shut) {
            self.event(Event::FilesAreThere);
            self.read(Next::IfDifferent, true);
        } else {
            return Reception::Ignored(Ignored::Unchanged);
        }
        Reception::Accepted
    }

    /// Keeps the failure of the first read until the awaited files were looked at once more. Returns a
    /// failure that is no business of the gate.
    pub(super) fn keep_for_the_gate(&mut self, failure: ReadFailure) -> Option<ReadFailure> {
        let Some(gate) = &mut self.gate else {
            return Some(failure);
        };
        gate.failure = Some(failure);
        self.outputs.push_back(Output::LookForFiles);
        None
    }

    pub(super) fn gate_deadline(&self) -> Option<Deadline> {
        let gate = self.gate.as_ref().filter(|gate| gate.is_shut)?;
        let report = gate.reported.map(|reported| Deadline {
            at: reported.after(gate.pause),
            reason: DeadlineReason::FilesReport,
        });
        let limit = self.settings.files.and_then(|files| files.limit);
        let limit = limit.map(|limit| Deadline {
            at: Timestamp::ZERO.after(limit),
            reason: DeadlineReason::FilesLimit,
        });
        report.into_iter().chain(limit).min()
    }

    /// Rule: what is missing is reported when it is first seen, and then after pauses that grow.
    pub(super) fn report_missing_files(&mut self) {
        let Some(gate) = &mut self.gate else {
            return;
        };
        if gate.reported.is_some() {
            gate.pause = LONGEST_PAUSE.min(gate.pause.saturating_mul(2));
        }
        gate.reported = Some(self.now);
        let missing = gate.missing.clone();
        self.event(Event::AwaitsFiles(missing));
    }

    pub(super) fn files_limit_passed(&mut self) {
        let missing = self.awaited().unwrap_or_default();
        self.fault = Some(Fault::FilesMissing(missing));
        let _it_was_not_ending = self.end(Urgency::Drain, EndedBy::FilesLimit);
    }
}
