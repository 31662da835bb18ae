//! When an epoch on probation is looked at, and what a look leads to.
//!
//! ```text
//!            on probation            done                  evidence
//!   (none) ───────────────▶ look ───────────▶ pause 1s ──┬────────────▶ Unfit, once
//!      ▲                     ▲                           │
//!      │                     └───────────────────────────┘ none
//!      └── no longer on probation, another epoch is, or the end begins
//! ```
//!
//! Requests before a hand-over can only be counted before it. So with a limit for the rise of errors, what
//! serves is looked at regularly. Without one, nothing is due while no epoch is on probation.

use alloc::string::String;
use core::time::Duration;

use handover_core::{Epoch, Standing, Timestamp};

use super::evidence::{INTERVAL, Judge, Seen};
use super::requests::{Requests, Sample, spacing};
use super::{
    AskState, ChangeId, Deadline, DeadlineReason, Event, ExaminationId, Ignored, Operator, Output,
    Progress, Reception, Refusal, Report,
};

/// A look that is not over so long after its limit is given up.
const OVERTIME: Duration = Duration::from_secs(1);

/// What is known of epochs on probation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Trials {
    open: Option<OpenExamination>,
    begun: u64,
    /// The epoch that is on probation.
    trial: Option<Trial>,
    /// When the next look begins.
    next: Option<Timestamp>,
    requests: Requests,
    /// What was said of an epoch, and has not shown in the state of the agent yet.
    claimed: Option<Found>,
    unfit: Option<Found>,
}

/// An unfit epoch, and when it was started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct Found {
    unfit: Unfit,
    started: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct OpenExamination {
    id: ExaminationId,
    since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct Trial {
    epoch: Epoch,
    /// It tells two epochs of one number apart.
    started: Timestamp,
    judge: Judge,
}

/// An epoch that was found unfit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Unfit {
    /// Its number.
    pub epoch: Epoch,
    /// Why, in a sentence.
    pub evidence: String,
}

/// An epoch that is on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Probation {
    /// Its number.
    pub epoch: Epoch,
    /// When it has passed, if nothing speaks against it.
    pub until: Timestamp,
}

impl Trials {
    pub(super) fn open(&self) -> Option<ExaminationId> {
        Some(self.open?.id)
    }

    pub(super) fn probation(&self) -> Option<Probation> {
        let trial = self.trial.as_ref()?;
        Some(Probation {
            epoch: trial.epoch,
            until: trial.judge.until(),
        })
    }

    pub(super) fn unfit(&self) -> Option<&Unfit> {
        Some(&self.unfit.as_ref()?.unfit)
    }

    pub(super) fn evidence(&self, epoch: Epoch) -> Option<Report> {
        let unfit = self.unfit().filter(|unfit| unfit.epoch == epoch)?;
        Some(Report::new(unfit.evidence.clone()))
    }
}

impl Trials {
    /// Returns what was found against this epoch, if it was found unfit.
    pub(super) fn evidence_against(&self, epoch: Epoch) -> Option<String> {
        let unfit = self.unfit().filter(|unfit| unfit.epoch == epoch)?;
        Some(unfit.evidence.clone())
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Rule: only the newest live epoch that is on probation is judged, and a new one from the beginning.
    pub(super) fn trials_changed(&mut self) {
        self.note_what_became_of_it();
        let mut epochs = self.agent.epochs.iter().rev();
        let tried = epochs.find(|view| view.is_tried());
        let tried = tried.filter(|_| !self.is_ending());
        let tried = tried.map(|view| (view.epoch, view.started));
        let before = self.trials.trial.as_ref();
        if before.map(|trial| (trial.epoch, trial.started)) != tried {
            self.cancel_examination();
            self.trials.next = None;
            self.trials.trial = None;
            // The agent has not found it so: its probation was over.
            self.trials.claimed = None;
            if let Some((epoch, started)) = tried {
                self.trials.trial = Some(Trial {
                    epoch,
                    started,
                    judge: Judge::new(
                        self.settings.evidence,
                        self.now,
                        self.probation_length(),
                        &self.trials.requests,
                    ),
                });
                self.examine();
            }
        }
        self.sample_regularly();
    }

    /// Rule: an epoch is called unfit once the agent has found it so, and until what is desired has
    /// passed its probation, or another epoch has its number.
    fn note_what_became_of_it(&mut self) {
        let epochs = &self.agent.epochs;
        if let Some(Found { unfit, .. }) = &self.trials.claimed {
            let mut views = epochs.iter();
            let is_unfit = views.any(|view| view.epoch == unfit.epoch && view.unfit);
            if is_unfit || self.agent.standing == Standing::GivenUp(unfit.epoch) {
                self.trials.unfit = self.trials.claimed.take();
            }
        }
        self.trials.unfit.take_if(|found| {
            let mut views = epochs.iter();
            views.any(|view| view.epoch == found.unfit.epoch && view.started != found.started)
        });
        if let Standing::Live(epoch) = self.agent.standing {
            let mut views = self.agent.epochs.iter();
            if views.any(|view| view.epoch == epoch && !view.on_probation && !view.unfit) {
                self.trials.unfit = None;
            }
        }
    }

    fn probation_length(&self) -> Duration {
        self.settings.probation.unwrap_or_default()
    }

    /// Rule: what serves is looked at regularly only if its requests are compared with later ones.
    fn sample_regularly(&mut self) {
        if self.trials.trial.is_some() {
            return;
        }
        let counts = self.settings.evidence.max_error_rise.is_some()
            && !self.settings.nothing_to_examine
            && self.settings.probation.is_some()
            && self.agent.live().is_some()
            && !self.is_ending();
        if !counts {
            self.cancel_examination();
            self.trials.next = None;
        } else if self.trials.open.is_none() {
            let next = self.now.after(spacing(self.probation_length()));
            self.trials.next.get_or_insert(next);
        }
    }

    /// Begins a look at the epoch on probation, or at what serves, unless it could show nothing.
    pub(super) fn examine(&mut self) {
        self.trials.next = None;
        if self.settings.nothing_to_examine {
            return;
        }
        let tried = self.trials.trial.as_ref().map(|trial| trial.epoch);
        let Some(epoch) = tried.or(self.agent.live()) else {
            return;
        };
        self.trials.begun = self.trials.begun.saturating_add(1);
        let id = ExaminationId(self.trials.begun);
        self.trials.open = Some(OpenExamination {
            id,
            since: self.now,
        });
        self.outputs.push_back(Output::Examine {
            examination: id,
            epoch,
            probes: tried.is_some(),
        });
    }

    pub(super) fn examined(&mut self, id: ExaminationId, seen: &Seen) -> Reception {
        let Some(open) = self.trials.open.take_if(|open| open.id == id) else {
            return Reception::Ignored(Ignored::Stale);
        };
        self.weigh(open, seen);
        Reception::Accepted
    }

    /// Rule: a look that is not over in time has seen no answer, and none of the probes.
    pub(super) fn give_up_examining(&mut self) {
        if let Some(open) = self.trials.open {
            self.cancel_examination();
            self.weigh(open, &Seen::default());
        }
    }

    fn weigh(&mut self, open: OpenExamination, seen: &Seen) {
        let (now, probation) = (self.now, self.probation_length());
        let proxy = seen.proxy.as_ref();
        if let Some(totals) = proxy.and_then(|proxy| proxy.requests) {
            let sample = Sample { at: now, totals };
            self.trials.requests.add(sample, probation);
        }
        let Some(trial) = &mut self.trials.trial else {
            self.trials.next = Some(now.after(spacing(probation)));
            return;
        };
        let (epoch, started) = (trial.epoch, trial.started);
        let requests = &self.trials.requests;
        let verdict = trial.judge.weigh(seen, open.since, now, requests);
        for (probe, why) in verdict.unknown {
            self.event(Event::ProbeUnknown { probe, why });
        }
        match verdict.evidence {
            Some(evidence) => {
                let unfit = Unfit {
                    epoch,
                    evidence: evidence.clone(),
                };
                self.trials.claimed = Some(Found { unfit, started });
                self.outputs.push_back(Output::Unfit { epoch, evidence });
            }
            None => self.trials.next = Some(open.since.after(INTERVAL).max(now)),
        }
    }

    pub(super) fn examination_deadline(&self) -> Option<Deadline> {
        let limit = self.settings.evidence.time_limit;
        let open = self.trials.open.map(|open| Deadline {
            at: open.since.after(limit).after(OVERTIME),
            reason: DeadlineReason::ExaminationLimit,
        });
        let next = self.trials.next.map(|at| Deadline {
            at,
            reason: DeadlineReason::Examine,
        });
        open.or(next)
    }

    /// Nothing is examined any more once the end has begun.
    pub(super) fn stop_examining(&mut self) {
        self.cancel_examination();
        self.trials.trial = None;
        self.trials.next = None;
        self.answer_each(|ask| {
            matches!(ask.state, AskState::Probation(_)).then_some(Err(Refusal::Ending))
        });
    }

    /// Those who wait through the probation of an older change wait for nothing any more.
    pub(super) fn another_is_desired(&mut self, change: ChangeId) {
        self.answer_each(|ask| {
            let waits = matches!(&ask.state, AskState::Probation(older) if older.change != change);
            waits.then_some(Err(Refusal::Replaced))
        });
    }

    fn cancel_examination(&mut self) {
        if let Some(open) = self.trials.open.take() {
            self.outputs.push_back(Output::CancelExamine(open.id));
        }
    }

    /// Rule: an ask that waits through the probation is answered once the desired configuration is live
    /// and no longer on probation, or will not be.
    ///
    /// A configuration whose epoch dies on probation is still desired, and starts again. So the ask waits
    /// for what becomes of it.
    pub(super) fn answer_after_probation(&mut self) {
        let fate = match self.agent.standing {
            Standing::Live(epoch) => {
                let mut views = self.agent.epochs.iter();
                match views.find(|view| view.epoch == epoch) {
                    Some(view) if view.unfit => Err(Refusal::GivenUp {
                        epoch,
                        report: self.trials.evidence(epoch),
                    }),
                    Some(view) if view.on_probation => return,
                    Some(_) | None => Ok(epoch),
                }
            }
            Standing::GivenUp(epoch) => Err(Refusal::GivenUp {
                epoch,
                report: self.trials.evidence(epoch),
            }),
            Standing::NotRestarted => Err(Refusal::NotRestarted),
            Standing::Ending => Err(Refusal::Ending),
            Standing::Nothing | Standing::Pending(_) => return,
        };
        if let Ok(epoch) = fate {
            let is_over = |state: &AskState| matches!(state, AskState::Probation(_));
            let _are_answered_later = self.keep_before_the_answer(epoch, is_over);
        }
        self.answer_each(|ask| match &ask.state {
            AskState::Probation(followed) => Some(match &fate {
                Ok(epoch) => Ok(followed.reply(Progress::Live(*epoch))),
                Err(refusal) => Err(refusal.clone()),
            }),
            AskState::Change(_)
            | AskState::Read { .. }
            | AskState::Offered { .. }
            | AskState::Keep { .. }
            | AskState::Call(_)
            | AskState::Clients(_)
            | AskState::Look(_)
            | AskState::Condition(..)
            | AskState::End => None,
        });
    }
}
