//! Nothing is started before some files are there: certificates or a configuration that come later.
//!
//! ```text
//!            something is missing                a read has succeeded
//!   awaited ◀────────────────────────▶ complete ───────────────────────▶ (gone)
//!    │         all files are there      │
//!    │                                  │ the first read fails: the files are looked at,
//!    ▼ the limit has passed             ▼ and all are there
//!   the end, with what is missing      the end, with the failure
//! ```
//!
//! Files are awaited for the first start alone. A file that vanishes later is the business of the watched files.

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

/// The wait for files, until the first read has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Awaits {
    /// Whether the first read is held, because something is missing or nobody has looked yet.
    holds_start: bool,
    /// What is missing, in sentences. It is empty until the files were looked at.
    missing: Vec<String>,
    /// When that was reported last.
    reported: Option<Timestamp>,
    pause: Duration,
    /// Why the first read has failed, until it is known whether the files are still there.
    failure: Option<ReadFailure>,
}

impl Awaits {
    /// Whether it holds a read that is wished for. One that is not held takes the place of a failed one.
    pub(super) fn holds_a_read(&mut self) -> bool {
        self.failure = None;
        self.holds_start
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Holds the first read until the files are there.
    pub(super) fn await_files(&mut self) {
        self.awaits = Some(Awaits {
            holds_start: true,
            missing: Vec::new(),
            reported: None,
            pause: FIRST_PAUSE,
            failure: None,
        });
        self.outputs.push_back(Output::LookForFiles);
    }

    /// Returns whether nothing is started because files are awaited.
    pub(super) fn awaits_files(&self) -> bool {
        self.awaits
            .as_ref()
            .is_some_and(|awaits| awaits.holds_start)
    }

    /// Returns what is missing, while that holds the start.
    pub(super) fn awaited(&self) -> Option<Vec<String>> {
        let awaits = self.awaits.as_ref().filter(|awaits| awaits.holds_start)?;
        Some(awaits.missing.clone())
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
    /// succeeded holds the start again.
    pub(super) fn files_found(&mut self, missing: Vec<String>) -> Reception {
        let Some(awaits) = &mut self.awaits else {
            return Reception::Ignored(Ignored::Stale);
        };
        let failure = awaits.failure.take();
        if !missing.is_empty() {
            let is_new =
                !awaits.holds_start || awaits.missing != missing || awaits.reported.is_none();
            let was_reported = awaits.holds_start && awaits.reported.is_some();
            awaits.holds_start = true;
            awaits.missing = missing;
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
        awaits.missing.clear();
        if let Some(failure) = failure {
            // The files are there, so they are not the reason.
            self.awaits = None;
            self.not_read(failure);
        } else if core::mem::take(&mut awaits.holds_start) {
            self.event(Event::FilesAreThere);
            self.read(Next::IfDifferent, true);
        } else {
            return Reception::Ignored(Ignored::Unchanged);
        }
        Reception::Accepted
    }

    /// Keeps the failure of the first read until the awaited files were looked at once more. Returns a
    /// failure that no awaited file can explain.
    pub(super) fn keep_while_files_are_awaited(
        &mut self,
        failure: ReadFailure,
    ) -> Option<ReadFailure> {
        let Some(awaits) = &mut self.awaits else {
            return Some(failure);
        };
        // A look that began before this read has failed shows nothing of what the read has met.
        awaits.failure = Some(failure);
        self.outputs.push_back(Output::LookForFiles);
        None
    }

    pub(super) fn awaits_deadline(&self) -> Option<Deadline> {
        let awaits = self.awaits.as_ref().filter(|awaits| awaits.holds_start)?;
        let report = awaits.reported.map(|reported| Deadline {
            at: reported.after(awaits.pause),
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
        let Some(awaits) = &mut self.awaits else {
            return;
        };
        if awaits.reported.is_some() {
            awaits.pause = LONGEST_PAUSE.min(awaits.pause.saturating_mul(2));
        }
        awaits.reported = Some(self.now);
        let missing = awaits.missing.clone();
        self.event(Event::AwaitsFiles(missing));
    }

    pub(super) fn files_limit_passed(&mut self) {
        let missing = self.awaited().unwrap_or_default();
        self.fault = Some(Fault::FilesMissing(missing));
        let _it_was_not_ending = self.end(Urgency::Drain, EndedBy::FilesLimit);
    }
}
