//! `chaos`: random hand-overs with faults, over the fake Envoy.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::checks::leftovers;
use crate::context::Context;
use crate::process;

/// How long a run may take beyond its hand-overs: for making a failure shorter, above all.
const BESIDE: Duration = Duration::from_secs(10 * 60);

/// How long one hand-over may take on a machine that does other work.
const EACH: Duration = Duration::from_secs(4);

/// What a run does.
#[derive(Debug, Default)]
pub(super) struct Chaos {
    pub(super) hand_overs: u64,
    pub(super) seed: Option<u64>,
    pub(super) steps: Option<String>,
    pub(super) verbose: bool,
}

impl Chaos {
    /// Runs the plan of a seed or a list of steps, and looks for what is left behind.
    ///
    /// # Errors
    ///
    /// When nothing can be built, or the program cannot be started.
    pub(super) fn command(&self) -> Result<bool> {
        let context = Context::new()?;
        let run = self.prepare(&context)?;
        let problem = process::passes_within(&context.run_id, run, self.limit())?;
        let left = leftovers::check(&context)?.problems;
        for problem in problem.iter().chain(&left) {
            println!("- {problem}");
        }
        Ok(problem.is_none() && left.is_empty())
    }

    /// Builds the programs, and returns the call.
    ///
    /// # Errors
    ///
    /// When they cannot be built.
    pub(super) fn prepare(&self, context: &Context) -> Result<Command> {
        let handover = context.handover()?.to_owned();
        let build = context.cargo_words("build --package handover-chaos");
        if let Some(problem) = process::passes(build)? {
            bail!("{problem}");
        }
        let mut run = context.command(handover.with_file_name("handover-chaos"));
        run.env("TMPDIR", context.temp());
        // What is in there stays when the run has failed.
        run.arg("--reports").arg(context.scratch()?.join("chaos"));
        run.arg("--handover").arg(&handover);
        run.args(["--hand-overs", &self.hand_overs.to_string()]);
        if let Some(seed) = self.seed {
            run.args(["--seed", &seed.to_string()]);
        }
        if let Some(steps) = &self.steps {
            run.args(["--steps", steps]);
        }
        if self.verbose {
            run.arg("--verbose");
        }
        Ok(run)
    }

    /// Returns the longest time that the call may take.
    pub(super) fn limit(&self) -> Duration {
        let count = u32::try_from(self.hand_overs).unwrap_or(u32::MAX);
        BESIDE + EACH.saturating_mul(count)
    }
}
