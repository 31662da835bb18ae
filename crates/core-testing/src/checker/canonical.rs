//! The record of a canonical machine.

use alloc::vec::Vec;

use handover_core::{CANONICAL_NOW, Canonical, Epoch, Machine, Phase, Timestamp};

use super::record::{Pursuit, Stage, Trial, Watched};
use super::{Checker, StepRecord};

impl<C: Clone + Eq> Checker<C> {
    /// Returns the [canonical](Machine::canonical) machine and its record. With it, a checker goes on
    /// watching as if it had watched that machine all the time.
    ///
    /// It must be called between two steps, with the machine that this checker watches. Records are
    /// equal whose difference can never matter, so a model checker can hash both together.
    #[must_use]
    pub fn canonical(
        &self,
        machine: &Machine<C>,
        now: Timestamp,
    ) -> (Canonical<C>, Checker<usize>) {
        let canonical = machine.canonical(now);
        let names = Names {
            now: self.now.max(now),
            woke: self.woke,
            keeps_intervals: self.policy.min_interval.is_some(),
            epochs: machine.epochs().map(|it| it.epoch).collect(),
            configs: &canonical.configs,
        };
        let is_running = machine.phase() == Phase::Running;
        let drains = matches!(machine.phase(), Phase::Draining { .. });
        let pursuit = |of: &Option<Pursuit<C>>| {
            of.as_ref()
                .filter(|_| is_running)
                .and_then(|it| names.pursuit(it))
        };
        // When a start matters, and when it does not, is shown.
        let started = |epoch: Epoch| {
            let info = canonical.machine.epochs().find(|it| it.epoch == epoch);
            info.map_or(CANONICAL_NOW, |it| it.started)
        };
        let enough = machine.policy().retry.reset_after.filter(|_| is_running);
        let probation = machine.policy().probation.filter(|_| is_running);
        let watched = |(epoch, it): (&Epoch, &Watched<C>)| {
            let epoch = names.epoch(*epoch);
            let enough = enough.filter(|_| it.is_live());
            let config = it
                .config
                .as_ref()
                .filter(|_| is_running && it.is_asked_for() && (!it.outdated || it.may_serve()));
            let watched = Watched {
                config: config.and_then(|config| names.config(config)),
                purpose: it.purpose,
                started: started(epoch),
                live: it.live.map(|since| {
                    let enough = enough.filter(|_| !it.trusted);
                    let probation = probation.filter(|_| it.is_on_probation());
                    let mut spans = [enough, probation].into_iter().flatten();
                    match (spans.next(), spans.next()) {
                        (None, _) => CANONICAL_NOW,
                        (Some(span), other) if other.is_none_or(|other| other == span) => {
                            let end = names.moment(since.after(span)).elapsed();
                            Timestamp::new(end.saturating_sub(span))
                        }
                        // Two ends and one beginning: it stays what it is.
                        (Some(_), _) => names.time(since),
                    }
                }),
                fallback: it.is_fallback() && is_running,
                outdated: it.outdated && it.is_asked_for() && is_running,
                forgiven: it.forgiven && is_running,
                released: it.released && (is_running || drains),
                drains: it.drains,
                retired: it.retired && it.aborted.is_none(),
                withdrawn: it.withdrawn.map(|asked| {
                    let grace = self.policy.abort_grace;
                    let span = self.policy.start_deadline.filter(|_| it.is_starting());
                    span.map_or(CANONICAL_NOW, |span| {
                        let mut end = asked.after(grace);
                        if !it.late {
                            // A grace that is over by the deadline may be over by then.
                            end = end.max(it.started.after(span));
                        }
                        let end = names.moment(end).elapsed();
                        Timestamp::new(end.saturating_sub(grace))
                    })
                }),
                contested: it.contested && is_running && it.may_serve(),
                trusted: it.trusted && enough.is_some(),
                trial: if is_running && it.is_live() {
                    it.trial
                } else {
                    Trial::None
                },
                late: it.late && (is_running || it.is_starting()),
                aborted: it.aborted,
            };
            (epoch, watched)
        };
        let checker = Checker {
            policy: self.policy,
            running: self.running.iter().map(watched).collect(),
            to_clean: self.to_clean.clone(),
            desired: pursuit(&self.desired),
            fallback: pursuit(&self.fallback).map(|it| Pursuit {
                // It is asked of the desired one only.
                untried: false,
                ..it
            }),
            condemned: self
                .condemned
                .as_ref()
                .filter(|_| is_running)
                .and_then(|config| names.config(config)),
            now: CANONICAL_NOW,
            // It matters only while something is put off, or may be in this very moment.
            woke: self
                .woke
                .filter(|woke| *woke >= names.now || machine.looks_around_until().is_some())
                .map(|at| names.time(at)),
            restarting: self.restarting && is_running,
            renewing: self.renewing && is_running,
            gave_way: if is_running { self.gave_way } else { 0 },
            last_change: self
                .end_of_interval()
                .filter(|end| *end > names.now || self.interval_that_waits().is_some())
                .filter(|_| is_running)
                .zip(self.policy.min_interval)
                .map(|(end, span)| {
                    Timestamp::new(names.moment(end).elapsed().saturating_sub(span))
                }),
            urgency: self.urgency,
            undrained: self.undrained,
            drain_started: self.drain_started,
            panicked: self.panicked,
            proxy_ended: self.proxy_ended,
            finished: self.finished,
            step: StepRecord::default(),
        };
        (canonical, checker)
    }
}

/// What the times, epochs and configurations are called.
struct Names<'a, C> {
    now: Timestamp,
    woke: Option<Timestamp>,
    /// Whether the policy has a time between two changes.
    keeps_intervals: bool,
    epochs: Vec<Epoch>,
    configs: &'a [C],
}

impl<C: Eq> Names<'_, C> {
    fn time(&self, at: Timestamp) -> Timestamp {
        let past = self.now.since(at);
        let ahead = CANONICAL_NOW.after(at.since(self.now)).elapsed();
        Timestamp::new(ahead.saturating_sub(past))
    }

    /// The moment of a deadline. What is put off is handled at one time, however long ago it was due.
    fn moment(&self, at: Timestamp) -> Timestamp {
        match self.woke {
            Some(woke) if at <= woke => self.time(woke),
            Some(_) | None => self.time(at),
        }
    }

    /// An epoch that does not run keeps away from the numbers of those that do.
    fn epoch(&self, epoch: Epoch) -> Epoch {
        let place = self.epochs.iter().position(|other| *other == epoch);
        let place = place.and_then(|place| u32::try_from(place).ok());
        Epoch::new(place.unwrap_or(u32::MAX))
    }

    fn config(&self, config: &C) -> Option<usize> {
        self.configs.iter().position(|other| other == config)
    }

    fn pursuit(&self, pursuit: &Pursuit<C>) -> Option<Pursuit<usize>> {
        Some(Pursuit {
            config: self.config(&pursuit.config)?,
            used: pursuit.used,
            at_once: pursuit.at_once,
            untried: pursuit.untried && self.keeps_intervals && pursuit.stage == Stage::Due,
            stage: match pursuit.stage {
                Stage::Waiting(at) => Stage::Waiting(self.moment(at)),
                stage @ (Stage::Due | Stage::Started | Stage::GivenUp(_) | Stage::NotRestarted) => {
                    stage
                }
            },
        })
    }
}
