//! Waits until everything is as it must be, and judges what was lost meanwhile.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use handover_test_support::report::Report;
use serde_json::Value;

use crate::life::Life;
use crate::oracle::{self, Allowance};
use crate::run::Run;
use crate::standstill::{self, Reason};
use crate::violation::Kind;

/// Between two looks at the supervisor.
const LOOK: Duration = Duration::from_millis(40);

/// After a burst that may cost requests, for losses that come late to be counted with it.
const AFTERMATH: Duration = Duration::from_millis(120);

/// How the status names an epoch that serves and answers no child.
const NAMES_DEAF_PARENT: &str = "serves and does not answer it";

impl Run<'_> {
    /// Waits until everything is as it must be, and checks what was lost meanwhile.
    pub(crate) fn settle(&mut self, is_first: bool) {
        let patience = self.setup.patience;
        let end = Instant::now() + patience;
        let mut last = String::new();
        loop {
            match self.look() {
                // The end of a process that was killed may be written down after the next one serves.
                Ok(None) if !self.world.script.has_heard_all() => {
                    "a process has ended, and nothing was heard of it".clone_into(&mut last);
                }
                Ok(None) if self.world.has_joined() => break,
                Ok(None) => "something beside the steps goes on".clone_into(&mut last),
                Ok(Some(missing)) => last = missing,
                Err(error) => last = format!("the status cannot be asked for: {error}"),
            }
            if !self.world.supervisor.is_running() {
                return self.violation(Kind::Ended, "the supervisor has ended".to_owned());
            }
            if self.is_over() {
                return;
            }
            if Instant::now() >= end {
                let text = format!("it did not settle within {patience:?}: {last}");
                return self.violation(Kind::Unsettled, text);
            }
            thread::sleep(LOOK);
        }
        for answer in self.world.join() {
            self.violation(Kind::Answer, answer);
        }
        for problem in self.world.script.problems() {
            self.violation(Kind::Script, problem);
        }
        if self.world.desired.is_good() && !flag(&self.status, "current_is_desired") {
            self.summary.excuses.refusals += 1;
        }
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
            // One that has ended long ago excuses nothing.
            let may_be_it = |life: &Life| {
                let is_recent = |at: Duration| at + LOOK * 20 >= started;
                let lost = life.killed.or(life.ended);
                lost.map_or_else(|| life.is_harmed(), is_recent)
            };
            if flag(&again, "ready") && self.world.probe().as_ref().is_err_and(is_refused) {
                if lives.iter().any(may_be_it) {
                    self.summary.excuses.unready += 1;
                } else {
                    let text = "the status says ready, and clients are refused";
                    self.violation(Kind::FalseReady, text.to_owned());
                }
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
    pub(crate) fn is_any_deaf(&self) -> bool {
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
        self.summary.excuses.outages += u64::from(allowance.outage);
        if allowance.outage || allowance.own > 0 {
            thread::sleep(AFTERMATH);
        }
        let lost = self.world.load.progress().failed;
        if lost > 0 {
            let report = self.world.renew_load();
            if allowance.is_exceeded_by(report.failed) && stood_still {
                self.summary.excuses.lost += report.failed;
            } else if allowance.is_exceeded_by(report.failed) {
                let lost = report.failed;
                let text = format!("{lost} requests were lost, and at most {allowance}\n{report}");
                self.violation(Kind::Loss, text);
            }
            self.count(&report);
        }
        self.since = self.world.script.now();
    }

    /// Checks that the loop of the supervisor was never blocked. Returns whether the machine has let it stand
    /// still since the last burst.
    pub(crate) fn check_loop(&mut self) -> bool {
        let (machine, made) = (self.world.clock.stalls(), self.world.made());
        let lines = self.world.supervisor.log().lines_from(self.read_lines);
        let mut stood_still = false;
        for line in &lines {
            // The clock of the log begins a little later than that of the run.
            let at = line.at + self.world.log_begins;
            let Some(pause) = standstill::pause_in(&line.text, at) else {
                continue;
            };
            let judgement = standstill::judge(&pause, &machine, &made);
            self.summary.excuses.count(&judgement);
            stood_still |= judgement.reason == Reason::Machine;
            if judgement.reason == Reason::Blocked {
                let doing = self.world.loop_watch.doing(&pause);
                let text = format!(
                    "the loop of the supervisor was blocked {pause}, while the machine ran; {doing}"
                );
                self.violation(Kind::Blocked, text);
            }
        }
        self.read_lines += lines.len();
        stood_still
    }

    fn allowance(&self) -> Allowance {
        oracle::allowance(&self.world.script.lives(), self.since, &self.world.cuts)
    }

    fn count(&mut self, report: &Report) {
        self.summary.requests += report.requests;
        self.summary.lost += report.failed;
        self.summary.longest_gap = self.summary.longest_gap.max(report.longest_gap);
    }
}

fn flag(status: &Value, name: &str) -> bool {
    status.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
