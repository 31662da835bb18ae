//! The end of a run: what must be left, and what must not.

use std::time::Duration;

use anyhow::{Context as _, Result};
use handover_test_support::limit::poll;
use handover_test_support::report::FailureKind;
use handover_test_support::supervisor::Signal;

use crate::run::Run;
use crate::step::{Ask, Change, Step};
use crate::violation::Kind;

/// By how much the memory may have grown since it was warm. Its histories have their limits, and allocators
/// their holes.
const GROWTH: u64 = 12 << 20;

/// How long traces of an ended supervisor may take to go.
const TRACES: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Lets everything end well: twice a good configuration without a fault serves, and one process is left.
    ///
    /// Once is not enough. A process that was harmed may be the parent of the first one, and the supervisor
    /// answers in its place for as long as that runs.
    pub(crate) fn calm(&mut self) -> Result<()> {
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
            if self.is_over() {
                return Ok(());
            }
        }
        if self.world.probe().ok().as_ref() != Some(&self.world.desired.marker) {
            let text = "the last configuration does not serve in the end";
            self.violation(Kind::Unsettled, text.to_owned());
        }
        Ok(())
    }

    /// Waits until one process is left, and the supervisor has seen that.
    fn quiet(&mut self) {
        let world = &self.world;
        let is_quiet = poll(self.setup.patience, || {
            let status = world.status().ok()?;
            let epochs = status.get("epochs")?.as_array()?.len();
            (world.script.running() == 1 && epochs == 1).then_some(())
        });
        if is_quiet.is_none() {
            let count = world.script.running();
            let text = format!(
                "{count} processes run where one is enough, {:?} after the last hand-over",
                self.setup.patience
            );
            self.violation(Kind::Processes, text);
        }
    }

    /// Checks the end: a good configuration serves, nothing has grown, and a stop cuts no request and leaves
    /// nothing.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.calm()?;
        if !self.is_over() {
            self.compare()?;
        }
        if self.is_over() {
            return Ok(());
        }
        let world = &mut self.world;
        world.load.mark("TERM");
        world.supervisor.signal(Signal::TERM);
        let has_ended = poll(self.setup.patience, || {
            (!world.supervisor.is_running()).then_some(())
        });
        if has_ended.is_none() {
            let text = format!("TERM did not end it within {:?}", self.setup.patience);
            self.violation(Kind::Stop, text);
            return Ok(());
        }
        let status = world.supervisor.wait_exit(self.setup.patience);
        let report = world.renew_load();
        let refused = report.failed_with(FailureKind::ConnectRefused);
        if report.failed > refused {
            self.violation(Kind::Stop, format!("the stop has cut requests\n{report}"));
        }
        if status.code() != Some(0) {
            let text = format!("the supervisor ended with {status} where 0 was right");
            self.violation(Kind::Stop, text);
        }
        let mut left = Vec::new();
        let is_clean = poll(TRACES, || {
            left = self.world.leftovers();
            left.is_empty().then_some(())
        });
        if is_clean.is_none() {
            let text = format!("left behind: {}", left.join("; "));
            self.violation(Kind::Leftovers, text);
        }
        self.check_loop();
        let lines = self.world.supervisor.log().lines();
        // Those of a fake that is short of threads are its own.
        let own = lines.iter().filter(|line| !line.text.contains("[epoch "));
        let panics = own.filter(|line| line.text.contains("panicked at")).count();
        if panics > 0 {
            self.violation(Kind::Panic, format!("the log has {panics} panics"));
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
        let is_flat = poll(TRACES, || {
            now = world.descriptors().unwrap_or_default();
            (!now.is_empty() && now.len() <= descriptors.len()).then_some(())
        });
        if is_flat.is_none() {
            let text = format!(
                "the supervisor has {} descriptors, and had {}\n  before: {}\n  now: {}",
                now.len(),
                descriptors.len(),
                descriptors.join(" "),
                now.join(" ")
            );
            self.violation(Kind::Growth, text);
        }
        let resident = self.world.resident().context("the supervisor has ended")?;
        if resident > memory + GROWTH {
            let text = format!("the supervisor takes {resident} bytes, and took {memory}");
            self.violation(Kind::Growth, text);
        }
        self.summary.growth = Some(resident.cast_signed() - memory.cast_signed());
        Ok(())
    }
}
