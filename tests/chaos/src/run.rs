//! Runs a plan, and checks every invariant after each burst.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use handover_test_support::limit::poll;
use handover_test_support::supervisor::Signal;
use serde_json::Value;

use crate::life::Life;
use crate::oracle::{self, Allowance};
use crate::standstill::{self, Reason};
use crate::step::{self, Ask, Change, Step};
use crate::summary::{Failure, Outcome, Summary};
use crate::world::{Setup, World};

/// Between two looks at the supervisor.
const LOOK: Duration = Duration::from_millis(40);

/// After a burst that may cost requests, for losses that come late to be counted with it.
const AFTERMATH: Duration = Duration::from_millis(120);

/// After so many hand-overs the memory of the supervisor is what it is compared with at the end: by then
/// its histories have begun to repeat.
pub(crate) const WARM: u64 = 40;

/// By how much the memory may have grown then. Its histories have their limits, and allocators their holes.
const GROWTH: u64 = 12 << 20;

/// How the status names an epoch that serves and answers no child.
const NAMES_DEAF_PARENT: &str = "serves and does not answer it";

/// How much of the log is shown with a failure, in lines.
const TAIL: usize = 400;

struct Run {
    world: World,
    /// How long everything may take to be as it must be.
    patience: Duration,
    summary: Summary,
    steps: Vec<Step>,
    problems: Vec<String>,
    /// When the last burst was settled.
    since: Duration,
    /// How many processes had been started then.
    started: u64,
    /// The last status, for explaining.
    status: Value,
    /// How many lines of the log were read for pauses of the supervisor.
    read_lines: usize,
    /// Descriptors and memory when it was warm.
    warm: Option<(Vec<String>, u64)>,
}

/// Runs bursts until the supervisor has handed over so often, or until there are no more. Tells `seen` of each
/// burst: when it began, how long it took, what was lost, and its steps.
///
/// # Errors
///
/// When the programs cannot be started, or the machine does not let the chaos do what it must.
pub fn run(
    setup: &Setup,
    plan: impl IntoIterator<Item = Vec<Step>>,
    hand_overs: u64,
    mut seen: impl FnMut(&str),
) -> Result<Outcome> {
    let begun = Instant::now();
    let mut run = Run {
        world: World::start(setup)?,
        patience: setup.patience,
        summary: Summary::default(),
        steps: Vec::new(),
        problems: Vec::new(),
        since: Duration::ZERO,
        started: 0,
        status: Value::Null,
        read_lines: 0,
        warm: None,
    };
    run.begin();
    for burst in plan {
        if !run.problems.is_empty() || run.summary.hand_overs >= hand_overs {
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
    if run.problems.is_empty() {
        run.end()?;
    }
    run.summary.took = begun.elapsed();
    let failure = (!run.problems.is_empty()).then(|| run.explain());
    Ok(Outcome {
        summary: run.summary,
        steps: run.steps,
        log: run.world.supervisor.log().to_string(),
        failure,
    })
}

impl Run {
    /// Waits until the first process serves. Until then every request is lost.
    fn begin(&mut self) {
        self.settle(true);
        let _before_anything_served = self.world.renew_load();
        self.since = self.world.script.now();
    }

    fn burst(&mut self, burst: &[Step]) -> Result<()> {
        self.summary.bursts += 1;
        for step in burst {
            self.steps.push(step.clone());
            if *step == Step::Settle {
                self.settle(false);
            } else {
                self.world.perform(step)?;
            }
            if !self.problems.is_empty() {
                return Ok(());
            }
        }
        if self.warm.is_none() && self.summary.hand_overs >= WARM {
            self.calm()?;
            self.warm = Some((self.world.idle_descriptors()?, self.world.resident()?));
        }
        Ok(())
    }

    /// Waits until everything is as it must be, and checks what was lost meanwhile.
    fn settle(&mut self, is_first: bool) {
        let end = Instant::now() + self.patience;
        let mut last = String::new();
        loop {
            match self.look() {
                Ok(None) if self.world.has_joined() => break,
                Ok(None) => "something beside the steps goes on".clone_into(&mut last),
                Ok(Some(missing)) => last = missing,
                Err(error) => last = format!("the status cannot be asked for: {error}"),
            }
            if !self.world.supervisor.is_running() {
                return self.problem("the supervisor has ended".to_owned());
            }
            if !self.problems.is_empty() {
                return;
            }
            if Instant::now() >= end {
                return self.problem(format!(
                    "it did not settle within {:?}: {last}",
                    self.patience
                ));
            }
            thread::sleep(LOOK);
        }
        let answers = self.world.join();
        self.problems.extend(answers);
        self.problems.extend(self.world.script.problems());
        let stood_still = self.check_loop();
        if !is_first {
            self.check_losses(stood_still);
        }
        self.world.cuts.clear();
        self.world.expects_start = false;
        self.started = self.summary.started;
    }

    /// Returns what is missing, if anything. What is wrong whatever comes is a problem at once.
    fn look(&mut self) -> io::Result<Option<String>> {
        let started = self.world.script.now();
        let status = self.world.status()?;
        let is_ready = flag(&status, "ready");
        let answer = self.world.probe();
        if is_ready && answer.as_ref().is_err_and(is_refused) {
            // What is ready is what serves. It may have ended between both looks.
            let again = self.world.status()?;
            let lives = self.world.script.lives();
            let is_other = |life: &Life| {
                let lost = life.killed.or(life.ended);
                lost.is_some_and(|at| at + LOOK * 20 >= started) || life.is_harmed()
            };
            if flag(&again, "ready")
                && !lives.iter().any(is_other)
                && self.world.probe().as_ref().is_err_and(is_refused)
            {
                self.problem("the status says ready, and clients are refused".to_owned());
            }
        }
        let counters = status.get("counters");
        let counter = |name: &str| counters?.get(name)?.as_u64();
        self.summary.hand_overs = counter("hand_overs").unwrap_or(self.summary.hand_overs);
        self.summary.started = counter("started").unwrap_or(self.summary.started);
        if let Some(base_id) = status.get("base_id").and_then(Value::as_u64) {
            self.world.saw_base_id(base_id);
        }
        self.status = status;
        Ok(self.missing(answer))
    }

    /// Returns whether a process runs that answers no child, so that no epoch can take over from it.
    fn is_any_deaf(&self) -> bool {
        let lives = self.world.script.lives();
        lives
            .iter()
            .any(|life| life.is_deaf() && life.ended.is_none())
    }

    fn missing(&self, answer: io::Result<String>) -> Option<String> {
        let status = &self.status;
        let marker = match answer {
            Ok(marker) => marker,
            Err(error) => return Some(format!("a new client gets no answer: {error}")),
        };
        if !flag(status, "ready") {
            return Some("clients are served, and the status says that it is not ready".to_owned());
        }
        let epochs = status.get("epochs").and_then(Value::as_array);
        let states = epochs
            .into_iter()
            .flatten()
            .filter_map(|epoch| epoch.get("state")?.as_str());
        // Each start is in vain then, until somebody asks for a cold restart.
        let names_deaf_parent =
            self.is_any_deaf() && status.to_string().contains(NAMES_DEAF_PARENT);
        if let Some(state) = states
            .into_iter()
            .find(|state| !["live", "draining"].contains(state))
            && !names_deaf_parent
        {
            return Some(format!("an epoch is {state}"));
        }
        let desired = &self.world.desired;
        let lives = self.world.script.lives();
        let is_excused =
            oracle::may_be_refused(&lives, desired.since.max(self.since), &self.world.cuts);
        if desired.is_good() && flag(status, "current_is_desired") && marker == desired.marker {
            let is_done = self.summary.started > self.started;
            return (self.world.expects_start && !is_done && !is_excused)
                .then(|| "the next epoch that was asked for is not there".to_owned());
        }
        if desired.is_good() && !oracle::may_be_refused(&lives, desired.since, &self.world.cuts) {
            return Some(format!("{marker} serves instead of {}", desired.marker));
        }
        if marker == desired.marker && !desired.is_good() {
            return Some(format!("{marker} serves, and cannot be right"));
        }
        // A refusal is told, and what served before serves.
        let is_told = names_deaf_parent
            || flag(status, "degraded")
            || status.get("problem").is_some_and(|it| !it.is_null());
        (flag(status, "current_is_desired") || !is_told).then(|| {
            format!(
                "{marker} serves instead of {}, and the status does not tell why",
                desired.marker
            )
        })
    }

    /// Checks that nothing was lost that need not be lost.
    fn check_losses(&mut self, stood_still: bool) {
        let allowance = self.allowance();
        if allowance.outage || allowance.own > 0 {
            thread::sleep(AFTERMATH);
        }
        let lost = self.world.load.progress().failed;
        if lost > 0 {
            let report = self.world.renew_load();
            if allowance.is_exceeded_by(report.failed) && stood_still {
                self.summary.standstills += 1;
            } else if allowance.is_exceeded_by(report.failed) {
                let lost = report.failed;
                self.problem(format!(
                    "{lost} requests were lost, and at most {allowance}\n{report}"
                ));
            }
            self.count(&report);
        }
        self.since = self.world.script.now();
    }

    /// Checks that the loop of the supervisor was never blocked. Returns whether the machine has let it stand
    /// still since the last burst.
    fn check_loop(&mut self) -> bool {
        let (machine, made) = (self.world.clock.stalls(), self.world.made());
        let lines = self.world.supervisor.log().lines();
        let mut stood_still = false;
        for line in lines.iter().skip(self.read_lines) {
            // The clock of the log begins a little later than that of the run.
            let at = line.at + self.world.log_begins;
            let Some(pause) = standstill::pause_in(&line.text, at) else {
                continue;
            };
            match standstill::reason(&pause, &machine, &made) {
                Reason::Short | Reason::Made => {}
                Reason::Machine => stood_still = true,
                Reason::Blocked => self.problem(format!(
                    "the loop of the supervisor was blocked {pause}, while the machine ran"
                )),
            }
        }
        self.read_lines = lines.len();
        stood_still
    }

    fn allowance(&self) -> Allowance {
        oracle::allowance(&self.world.script.lives(), self.since, &self.world.cuts)
    }

    fn count(&mut self, report: &handover_test_support::report::Report) {
        self.summary.requests += report.requests;
        self.summary.lost += report.failed;
        self.summary.longest_gap = self.summary.longest_gap.max(report.longest_gap);
    }

    /// Lets everything end well: twice a good configuration without a fault serves, and one process is left.
    ///
    /// Once is not enough. A process that was harmed may be the parent of the first one, and the supervisor
    /// answers in its place for as long as that runs.
    fn calm(&mut self) -> Result<()> {
        self.world.script.disarm();
        self.settle(false);
        if self.is_any_deaf() {
            self.world.perform(&Step::Ask(Ask::ReloadCold))?;
            self.settle(false);
        }
        for step in [Step::Ask(Ask::Undrain), Step::Change(Change::Good)]
            .iter()
            .cycle()
            .take(4)
        {
            self.world.perform(step)?;
            self.settle(false);
            if *step == Step::Change(Change::Good) {
                self.quiet();
            }
            if !self.problems.is_empty() {
                return Ok(());
            }
        }
        if self.world.probe().ok().as_ref() != Some(&self.world.desired.marker) {
            self.problem("the last configuration does not serve in the end".to_owned());
        }
        Ok(())
    }

    /// Waits until one process is left, and the supervisor has seen that.
    fn quiet(&mut self) {
        let world = &self.world;
        let is_quiet = poll(self.patience, || {
            let status = world.status().ok()?;
            let epochs = status.get("epochs")?.as_array()?.len();
            (world.script.running() == 1 && epochs == 1).then_some(())
        });
        if is_quiet.is_none() {
            let count = world.script.running();
            self.problem(format!(
                "{count} processes run where one is enough, {:?} after the last hand-over",
                self.patience
            ));
        }
    }

    /// Checks the end: a good configuration serves, nothing has grown, and a stop cuts no request and leaves
    /// nothing.
    fn end(&mut self) -> Result<()> {
        self.calm()?;
        if self.problems.is_empty() {
            self.compare()?;
        }
        if !self.problems.is_empty() {
            return Ok(());
        }
        let world = &mut self.world;
        world.load.mark("TERM");
        world.supervisor.signal(Signal::TERM);
        let has_ended = poll(self.patience, || {
            (!world.supervisor.is_running()).then_some(())
        });
        if has_ended.is_none() {
            self.problem(format!("TERM did not end it within {:?}", self.patience));
            return Ok(());
        }
        let status = world.supervisor.wait_exit(self.patience);
        let report = world.renew_load();
        let refused =
            report.failed_with(handover_test_support::report::FailureKind::ConnectRefused);
        if report.failed > refused {
            self.problems
                .push(format!("the stop has cut requests\n{report}"));
        }
        if status.code() != Some(0) {
            self.problems.push(format!(
                "the supervisor ended with {status} where 0 was right"
            ));
        }
        let mut left = Vec::new();
        let is_clean = poll(Duration::from_secs(10), || {
            left = world.leftovers();
            left.is_empty().then_some(())
        });
        if is_clean.is_none() {
            self.problems
                .push(format!("left behind: {}", left.join("; ")));
        }
        let lines = world.supervisor.log().lines();
        // Those of a fake that is short of threads are its own.
        let own = lines.iter().filter(|line| !line.text.contains("[epoch "));
        let panics = own.filter(|line| line.text.contains("panicked at")).count();
        if panics > 0 {
            self.problems.push(format!("the log has {panics} panics"));
        }
        self.summary.requests += report.requests - refused;
        Ok(())
    }

    /// Compares descriptors and memory with what they were.
    fn compare(&mut self) -> Result<()> {
        let Some((descriptors, memory)) = self.warm.clone() else {
            return Ok(());
        };
        let mut now = Vec::new();
        let world = &self.world;
        let is_flat = poll(Duration::from_secs(10), || {
            now = world.descriptors().unwrap_or_default();
            (!now.is_empty() && now.len() <= descriptors.len()).then_some(())
        });
        if is_flat.is_none() {
            self.problem(format!(
                "the supervisor has {} descriptors, and had {}\n  before: {}\n  now: {}",
                now.len(),
                descriptors.len(),
                descriptors.join(" "),
                now.join(" ")
            ));
        }
        let resident = self.world.resident().context("the supervisor has ended")?;
        if resident > memory + GROWTH {
            self.problem(format!(
                "the supervisor takes {resident} bytes, and took {memory}"
            ));
        }
        self.summary.growth = Some(resident.cast_signed() - memory.cast_signed());
        Ok(())
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Collects what explains a failure.
    fn explain(&self) -> Failure {
        let lives = self.world.script.lives();
        let lives: Vec<_> = lives.iter().rev().take(6).rev().map(told).collect();
        let lines = self.world.supervisor.log().lines();
        let tail = lines.len().saturating_sub(TAIL);
        let lines: Vec<_> = lines.iter().skip(tail).map(ToString::to_string).collect();
        let steps = self.steps.len().saturating_sub(12);
        let last = self.steps.get(steps..).unwrap_or_default();
        let details = format!(
            "--- the last steps, until {} ms\n{}\n--- the last processes\n{}\n--- the status\n{:#}\n--- the end of the log\n{}",
            self.world.script.now().as_millis(),
            step::write(last),
            lives.join("\n"),
            self.status,
            lines.join("\n"),
        );
        Failure {
            problems: self.problems.clone(),
            details,
        }
    }
}

/// Tells the life of a process on one line.
fn told(life: &Life) -> String {
    let ms = |at: &Duration| at.as_millis();
    let faults: Vec<_> = life.faults.iter().map(ToString::to_string).collect();
    let steps: Vec<_> = life
        .steps
        .iter()
        .map(|(at, step)| format!("{step} {}", ms(at)))
        .collect();
    let mut text = format!(
        "epoch {} (process {}) from {} ms, faults [{}], reached [{}]",
        life.epoch,
        life.pid,
        ms(&life.begun),
        faults.join(" "),
        steps.join(", ")
    );
    for (what, at) in [("killed", &life.killed), ("ended", &life.ended)] {
        if let Some(at) = at {
            text.push_str(&format!(", {what} at {} ms", ms(at)));
        }
    }
    text
}

fn flag(status: &Value, name: &str) -> bool {
    status.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
