//! What a program can be asked while it runs: that it ends, and how it has ended. A drain that is
//! not its end is nothing that programs have in common.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use handover_core::Epoch;
use handover_process::{Child, ExitCause, Signal};

use super::running::Finish;
use super::watched::describe;
use super::{Program, ProgramError};
use crate::control::wire::LastExit;
use crate::metrics::Observe;
use crate::operator::{Refusal, Report};
use crate::{EpochFacts, EpochListeners, EpochStatistics, Facts, Operate};

/// The process that ended last.
#[derive(Debug, Default)]
pub(super) struct LastEnded(Mutex<Option<LastExit>>);

impl LastEnded {
    /// Notes how a process has ended, and what it had been told before. Returns that in two words, if it
    /// has.
    pub(super) fn note(
        &self,
        epoch: Epoch,
        child: &Child,
        ran: Duration,
        told: Option<Finish>,
        aborted: bool,
    ) -> Option<(&'static str, ExitCause)> {
        let Ok(Some(cause)) = child.try_wait() else {
            return None;
        };
        let label = label(cause, told, aborted);
        let exit = LastExit {
            epoch: epoch.number(),
            pid: child.pid(),
            cause: label.to_owned(),
            sentence: cause.to_string(),
            at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            uptime_seconds: ran.as_secs(),
        };
        // Nothing in here is left half-way by a panic.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
        Some((label, cause))
    }

    fn get(&self) -> Option<LastExit> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The words are those of Envoy's ends, where they mean the same.
fn label(cause: ExitCause, told: Option<Finish>, aborted: bool) -> &'static str {
    match (cause, told) {
        (ExitCause::OutOfMemory, _) => "out_of_memory",
        _ if aborted => "aborted",
        (_, Some(Finish::Superseded)) => "handed_over",
        (_, Some(Finish::Terminated)) => "aborted",
        (ExitCause::Code(0), None) => "clean",
        (ExitCause::Code(_), None) => "exited",
        (ExitCause::Signal { core_dumped, .. }, None) if core_dumped => "core_dumped",
        (ExitCause::Signal { .. }, None) => "killed",
    }
}

#[async_trait]
impl Operate for Program {
    /// An old process keeps the time it has.
    fn released_is_cut(&self) -> bool {
        false
    }

    fn shows_evidence(&self) -> bool {
        false
    }

    fn no_cold_restart(&self) -> Option<&'static str> {
        Some(
            "a cold restart is not for exec: each epoch of a program starts afresh, so the next one does \
             all that a cold restart could do, and cuts nobody",
        )
    }

    async fn statistics(&self, _only_used: bool) -> Result<Vec<EpochStatistics>, String> {
        Err(
            "exec does not know where a program shows its statistics: ask the program itself"
                .to_owned(),
        )
    }

    fn forward(&self, signal: Signal) {
        self.running.signal_all(signal);
    }

    async fn facts(&self) -> Facts {
        let children = self.running.children().into_iter();
        let facts = children.map(|(epoch, child, revision)| {
            let facts = EpochFacts {
                pid: child.pid(),
                config: describe(self.settings.command.display().to_string(), revision),
                // The passed sockets listen whatever becomes of the program.
                listens: None,
                // Who is connected to a passed socket is known to the program alone.
                active_connections: None,
                rss_bytes: child.resident_bytes(),
            };
            (epoch, facts)
        });
        let mut epochs = BTreeMap::new();
        epochs.extend(facts);
        Facts {
            epochs,
            last_exit: self.last_ended.get(),
            drained: false,
            base_id: None,
        }
    }

    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal> {
        Err(not_for_exec("drain"))
    }

    async fn undrain(&self) -> Result<Option<Epoch>, Refusal> {
        Err(not_for_exec("undrain"))
    }

    async fn listeners(&self) -> Option<Vec<EpochListeners>> {
        let mut listeners = BTreeMap::new();
        listeners.extend(self.settings.sockets.listeners());
        let epochs = self.running.children().into_iter();
        let epochs = epochs.map(|(epoch, child, _)| EpochListeners {
            epoch,
            pid: child.pid(),
            listeners: listeners.clone(),
            not_seen: Vec::new(),
        });
        Some(epochs.collect())
    }

    fn observe(&self, observe: Observe) {
        let _another_was_first = self.observe.set(observe);
    }

    fn last_words(&self, error: &(dyn Error + 'static)) -> Vec<String> {
        match error.downcast_ref() {
            Some(ProgramError::Ended { last_words, .. }) => last_words.clone(),
            _ => Vec::new(),
        }
    }
}

fn not_for_exec(what: &str) -> Refusal {
    Refusal::NotSupported(Report::new(format!(
        "{what} is not for exec: a program has no health checks that handover could make fail; stop \
         drains and ends it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_told_from_what_was_not() {
        let killed = ExitCause::Signal {
            number: 15,
            core_dumped: false,
        };
        assert_eq!(label(killed, None, false), "killed");
        assert_eq!(label(killed, None, true), "aborted");
        assert_eq!(
            label(killed, Some(Finish::Superseded), false),
            "handed_over"
        );
        assert_eq!(label(ExitCause::Code(0), None, false), "clean");
        assert_eq!(label(ExitCause::Code(1), None, false), "exited");
        assert_eq!(label(ExitCause::OutOfMemory, None, true), "out_of_memory");
    }
}
