//! What clients wait for, and files that are awaited.

use handover_core::{Standing, Timestamp};
use handover_supervisor::operator::{Condition, Ending, Fault, Output};

use super::{Cause, Checker, Violation, ensure, newest};

/// What is known of the awaited files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Files {
    /// Whether the driver watches them.
    pub(crate) watched: bool,
    /// Whether the operator has yet to ask for a look: nobody has looked, or a read has failed since.
    pub(crate) owed: bool,
    /// Whether the operator waits for a look at them.
    pub(crate) look: bool,
    /// Whether all were there when they were looked at last.
    pub(crate) are_there: bool,
}

impl<C: Clone + Eq + std::fmt::Debug> Checker<C> {
    /// Whether what an ask waits for is so, with a look that began after it.
    pub(super) fn is_so(&self, condition: Condition, begun: u64) -> bool {
        let ready = self.serves() && self.seen_now && self.counted > begun;
        let live = newest(&self.view);
        let desired = live.is_some_and(|live| self.view.standing == Standing::Live(live));
        let quiet = self.read.is_none() && self.settled && !self.failed && !self.stands_in;
        !self.is_ending()
            && match condition {
                Condition::Live => live.is_some(),
                Condition::Ready => ready,
                Condition::Current => ready && desired && quiet && self.asked.is_some(),
            }
    }

    /// Checks what is waited for against what the operator shows.
    pub(super) fn order(&self, awaits_files: bool) -> Result<(), Violation> {
        for (condition, begun) in self.waits.values() {
            ensure(
                !self.is_so(*condition, *begun) && (self.urgency.is_none() || self.faulty),
                "a_wait_ends_once_it_is_so",
                || format!("{condition:?} is still waited for"),
            )?;
        }
        ensure(
            !self.files.owed || self.is_ending(),
            "files_are_awaited_until_a_read_succeeds",
            || "no look was asked for".to_owned(),
        )?;
        ensure(
            awaits_files == (self.files.watched && !self.files.are_there && !self.is_ending()),
            "nothing_is_read_while_files_are_missing",
            || format!("{awaits_files} and {:?}", self.files),
        )
    }

    pub(super) fn files_output(
        &mut self,
        output: &Output<C>,
        cause: &Cause<C>,
    ) -> Result<(), Violation> {
        let told = || format!("{output:?}");
        if *output == Output::LookForFiles {
            let awaits = self.settings.files.is_some() && self.asked.is_none();
            // A look that began before a read has failed does not show what that read has met.
            let is_owed = std::mem::take(&mut self.files.owed);
            ensure(
                awaits && is_owed,
                "files_are_awaited_until_a_read_succeeds",
                told,
            )?;
            (self.files.watched, self.files.look) = (true, true);
        } else {
            let has_read = matches!(cause, Cause::Read(_)) && self.asked.is_none();
            ensure(
                self.files.watched && has_read,
                "files_are_awaited_until_a_read_succeeds",
                told,
            )?;
            self.files = Files::default();
        }
        Ok(())
    }

    pub(super) fn files_ending(&self, ending: &Ending) -> Result<(), Violation> {
        let told = || format!("{ending:?}");
        if let Some(Fault::FilesMissing(_)) = &ending.fault {
            let limit = self.settings.files.and_then(|files| files.limit);
            let is_late = limit.is_some_and(|limit| Timestamp::ZERO.after(limit) <= self.now);
            ensure(is_late, "missing_files_end_it_at_the_limit_only", told)?;
        }
        Ok(())
    }
}
