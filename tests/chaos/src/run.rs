//! Runs a plan, and checks every invariant after each burst.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::setup::Setup;
use crate::step::{self, Step};
use crate::story::Facts;
use crate::summary::{Done, Failure, Outcome, Summary};
use crate::violation::{Kind, Violation};
use crate::world::World;

/// After so many hand-overs the memory of the supervisor is what it is compared with at the end: by then
/// its histories have begun to repeat.
pub(crate) const WARM: u64 = 40;

/// A run that goes on.
pub(crate) struct Run<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) world: World,
    pub(crate) summary: Summary,
    pub(crate) violations: Vec<Violation>,
    /// When the last burst was settled.
    pub(crate) since: Duration,
    /// How many processes had been started then.
    pub(crate) started: u64,
    /// The last status, for explaining.
    pub(crate) status: Value,
    /// How many lines of the log were read for pauses of the supervisor.
    pub(crate) read_lines: usize,
    /// Descriptors and memory when it was warm.
    pub(crate) warm: Option<(Vec<String>, u64)>,
    steps: Vec<Done>,
}

/// Runs bursts until the supervisor has handed over so often, or until there are no more. Tells `seen` of each
/// burst: when it began, how long it took, what was lost, and its steps.
///
/// # Errors
///
/// When the programs cannot be started, or the machine does not let the chaos look at the supervisor.
pub fn run(
    setup: &Setup,
    plan: impl IntoIterator<Item = Vec<Step>>,
    hand_overs: u64,
    mut seen: impl FnMut(&str),
) -> Result<Outcome> {
    let begun = Instant::now();
    let mut run = Run {
        setup,
        world: World::start(setup)?,
        summary: Summary::default(),
        violations: Vec::new(),
        since: Duration::ZERO,
        started: 0,
        status: Value::Null,
        read_lines: 0,
        warm: None,
        steps: Vec::new(),
    };
    run.begin();
    for burst in plan {
        if run.is_over() || run.summary.hand_overs >= hand_overs {
            break;
        }
        let (at, lost) = (begun.elapsed(), run.summary.lost);
        run.burst(&burst)?;
        seen(&format!(
            "{:8.3} s  {:6.3} s  {:3} lost  {}",
            at.as_secs_f64(),
            (begun.elapsed() - at).as_secs_f64(),
            run.summary.lost - lost,
            step::write(&burst)
        ));
    }
    let is_at_the_end = run.violations.is_empty();
    if !run.is_over() && setup.checks_end {
        run.end()?;
    }
    run.summary.took = begun.elapsed();
    let failure = (!run.violations.is_empty()).then(|| run.explain(is_at_the_end));
    Ok(Outcome {
        summary: run.summary,
        steps: run.steps,
        log: run.world.supervisor.log().to_string(),
        is_broken_off: failure.is_none() && setup.is_over(),
        failure,
    })
}

impl Run<'_> {
    /// Returns whether nothing more must be done: something is violated, or the time is over.
    pub(crate) fn is_over(&self) -> bool {
        !self.violations.is_empty() || self.setup.is_over()
    }

    /// Waits until the first process serves. Until then every request is lost.
    fn begin(&mut self) {
        self.settle(true);
        let _before_anything_served = self.world.renew_load();
        self.since = self.world.script.now();
    }

    fn burst(&mut self, burst: &[Step]) -> Result<()> {
        self.summary.bursts += 1;
        for step in burst {
            let at = self.world.script.now();
            if *step == Step::Settle {
                self.settle(false);
            } else if let Err(error) = self.world.perform(step) {
                let text = format!("`{step}` could not be done: {error:#}");
                self.violation(Kind::Ended, text);
            }
            self.steps.push(Done {
                step: step.clone(),
                at,
                took: self.world.script.now().saturating_sub(at),
            });
            let planted = self.setup.plant.as_ref().filter(|_| *step == Step::Settle);
            if let Some(text) = planted.and_then(|plant| plant.violation(&self.steps)) {
                self.violation(Kind::Planted, text);
            }
            if self.is_over() {
                return Ok(());
            }
        }
        if self.warm.is_none() && self.summary.hand_overs >= WARM {
            self.calm()?;
            let descriptors = self.world.idle_descriptors();
            let descriptors = descriptors.context("counting the supervisor's descriptors")?;
            self.warm = Some((descriptors, self.world.resident()?));
        }
        Ok(())
    }

    pub(crate) fn violation(&mut self, kind: Kind, text: String) {
        self.violations.push(Violation { kind, text });
    }

    /// Collects what explains a failure.
    fn explain(&self, is_at_the_end: bool) -> Failure {
        let lives = self.world.script.lives();
        let lines = self.world.supervisor.log().lines();
        let facts = Facts {
            steps: &self.steps,
            lives: &lives,
            status: &self.status,
            lines: &lines,
        };
        Failure {
            violations: self.violations.clone(),
            is_at_the_end,
            page: facts.page(),
            details: facts.details(),
        }
    }
}
