//! The promises about epochs on probation. What proves something is worked out a second time here, from
//! all that was seen.

use std::collections::BTreeSet;
use std::time::Duration;

use handover_core::{Epoch, EpochState, Timestamp};
use handover_supervisor::operator::{
    AgentView, EpochView, ExaminationId, Input, Output, ProbeResult, Seen, Settings,
};

/// The names of the promises.
pub(crate) const TRIED_ONLY: &str = "only_on_probation_is_examined";
pub(crate) const ONE: &str = "there_is_one_examination_at_a_time";
pub(crate) const ONCE: &str = "unfit_is_said_once";
pub(crate) const BACKED: &str = "unknown_is_no_evidence";
pub(crate) const SEEN: &str = "evidence_is_not_overlooked";

/// What was seen of the epoch on probation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trials {
    pub(crate) open: Option<ExaminationId>,
    /// The epoch on probation that is examined, by its number and its start.
    examined: Option<(Epoch, Timestamp)>,
    began: Timestamp,
    newest: u64,
    /// The epoch on probation, by its number and its start.
    tried: Option<(Epoch, Timestamp)>,
    /// What each look at it has shown, and when it began.
    looks: Vec<(Timestamp, Seen)>,
    said: bool,
    /// Whether the last look has to lead to a word about the epoch.
    is_due: bool,
}

type Broken = Result<(), &'static str>;

impl Trials {
    /// Notes what the input tells, before the outputs are seen.
    pub(crate) fn take<C>(&mut self, input: &Input<C>, settings: &Settings) {
        self.is_due = false;
        if let Input::Examined { examination, seen } = input
            && self.open == Some(*examination)
        {
            self.open = None;
            self.look(seen.clone(), settings);
        }
    }

    fn look(&mut self, seen: Seen, settings: &Settings) {
        // A look at another epoch shows nothing of this one, and neither does one from before its probation.
        if self.tried.is_some() && self.tried == self.examined {
            self.looks.push((self.began, seen));
            self.is_due = !self.said && self.is_proven(settings);
        }
    }

    /// Notes the state of the agent.
    pub(crate) fn see(&mut self, view: &AgentView, is_ending: bool) {
        // A look that the end has cut short proves nothing that somebody could act on.
        self.is_due &= !is_ending;
        let tried = tried(view).filter(|_| !is_ending);
        let tried = tried.map(|view| (view.epoch, view.started));
        if tried != self.tried {
            self.tried = tried;
            self.looks.clear();
            self.said = false;
        }
    }

    pub(crate) fn output<C>(
        &mut self,
        output: &Output<C>,
        now: Timestamp,
        view: &AgentView,
        settings: &Settings,
    ) -> Broken {
        match output {
            Output::Examine {
                examination,
                epoch,
                probes,
            } => {
                ensure(self.open.is_none() && examination.0 > self.newest, ONE)?;
                self.open = Some(*examination);
                self.newest = examination.0;
                self.examined = self.tried.filter(|_| *probes);
                self.began = now;
                let is_tried = self.tried.is_some_and(|(tried, _)| tried == *epoch);
                let counts = settings.evidence.max_error_rise.is_some();
                let serves = counts && self.tried.is_none() && view.live() == Some(*epoch);
                let fits = if *probes { is_tried } else { serves };
                let may_show = !settings.nothing_to_examine;
                ensure(fits && may_show && !self.said, TRIED_ONLY)
            }
            Output::CancelExamine(examination) => {
                let was_open = self.open.take() == Some(*examination);
                ensure(was_open, ONE)?;
                if now >= self.began.after(settings.evidence.time_limit) {
                    self.look(Seen::default(), settings);
                }
                Ok(())
            }
            Output::Unfit { epoch, evidence } => {
                let is_tried = self.tried.is_some_and(|(tried, _)| tried == *epoch);
                ensure(is_tried && !self.said, ONCE)?;
                self.said = true;
                let is_backed = std::mem::take(&mut self.is_due) || self.has_risen(settings);
                ensure(is_backed && !evidence.is_empty(), BACKED)
            }
            Output::Read { .. }
            | Output::CancelRead(_)
            | Output::Apply { .. }
            | Output::Renew { .. }
            | Output::Restart { .. }
            | Output::Terminate(_)
            | Output::Release(_)
            | Output::Call { .. }
            | Output::Look(_)
            | Output::WatchClients { .. }
            | Output::Forward(_)
            | Output::Answer { .. }
            | Output::Notify(_)
            | Output::Event(_)
            | Output::LookForFiles
            | Output::ForgetFiles
            | Output::Keep(_)
            | Output::RunHook { .. }
            | Output::Finish(_) => Ok(()),
        }
    }

    /// Checks what is left once all outputs were seen.
    pub(crate) fn state(&self) -> Broken {
        ensure(!self.is_due, SEEN)
    }

    /// Whether the last looks prove something, the rise of errors apart.
    fn is_proven(&self, settings: &Settings) -> bool {
        let row = usize::try_from(settings.evidence.failures.max(1)).unwrap();
        let last: Vec<&Seen> = self
            .looks
            .iter()
            .rev()
            .take(row)
            .map(|(_, seen)| seen)
            .collect();
        if last.len() == row {
            let is_silent = |seen: &&Seen| match &seen.proxy {
                None => true,
                Some(proxy) => proxy.silent.is_some(),
            };
            if last.iter().all(is_silent) {
                return true;
            }
            let fails = |seen: &&Seen, index: usize| {
                let probe = seen.probes.get(index);
                probe.is_some_and(|probe| matches!(probe.result, ProbeResult::Failed(_)))
            };
            let probes = last[0].probes.len();
            if (0..probes).any(|index| last.iter().all(|seen| fails(seen, index))) {
                return true;
            }
        }
        // What is missing while nothing is waited for, in looks in a row that are a second apart.
        let mut lost: Option<BTreeSet<String>> = None;
        let Some((last_begun, _)) = self.looks.last() else {
            return false;
        };
        for (begun, seen) in self.looks.iter().rev() {
            let (missing, is_warming) = missing(seen);
            if is_warming {
                break;
            }
            let common = match lost {
                None => missing,
                Some(lost) => lost.intersection(&missing).cloned().collect(),
            };
            if common.is_empty() {
                break;
            }
            if begun.after(Duration::from_secs(1)) <= *last_begun {
                return true;
            }
            lost = Some(common);
        }
        false
    }

    /// Whether something else than the rows can have been proven: requests, or a start that did not end.
    fn has_risen(&self, settings: &Settings) -> bool {
        let counted = |seen: &Seen| {
            let proxy = seen.proxy.as_ref();
            proxy.is_some_and(|proxy| proxy.requests.is_some())
        };
        let mut last = self.looks.iter().rev();
        let two = last.next().is_some_and(|(_, seen)| counted(seen))
            && last.next().is_some_and(|(_, seen)| counted(seen));
        let never_ended = self.looks.iter().all(|(_, seen)| {
            let (missing, is_warming) = missing(seen);
            is_warming && !missing.is_empty()
        });
        (settings.evidence.max_error_rise.is_some() && two) || never_ended
    }
}

/// The newest live epoch that is on probation.
pub(crate) fn tried(view: &AgentView) -> Option<&EpochView> {
    let mut epochs = view.epochs.iter().rev();
    epochs.find(|view| view.state == EpochState::Live && view.on_probation && !view.unfit)
}

fn missing(seen: &Seen) -> (BTreeSet<String>, bool) {
    let Some(proxy) = &seen.proxy else {
        return (BTreeSet::new(), false);
    };
    let missing = proxy.missing.iter().flatten().cloned().collect();
    (missing, proxy.warming.iter().flatten().next().is_some())
}

fn ensure(holds: bool, promise: &'static str) -> Broken {
    if holds { Ok(()) } else { Err(promise) }
}
