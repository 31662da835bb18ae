//! Many agents in one process, each with a server that needs no process: what an agent and a change cost, and whether
//! that depends on how many there are.
//!
//! Each count has a process of its own, so that memory which a larger count has left behind is not counted again.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use handover_core::{Epoch, Policy, Target};
use handover_tokio::{Agent, Handle, Proxy, RunControl, RunError};
use serde::{Deserialize, Serialize};

use super::Bench;
use crate::figures::Unit;
use crate::proc;
use crate::record::Record;

/// The name of the measure.
pub(crate) const NAME: &str = "agents";

/// The counts of agents, with their names in figures, for a full and for a quick run.
pub(crate) const COUNTS: [(&str, [u32; 2]); 3] = [
    ("100 agents", [100, 10]),
    ("1,000 agents", [1_000, 20]),
    ("10,000 agents", [10_000, 40]),
];

/// What is measured.
pub(crate) const MEMORY: &str = "memory of an agent";
pub(crate) const COST: &str = "a change until live";

/// The word on the command line for the process of one count.
pub(crate) const ALONE: &str = "agents-alone";

/// What such a process says.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    bytes_each: f64,
    microseconds_each: f64,
}

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let own = std::env::current_exe().context("finding this program")?;
    for _ in 0..bench.choose(5, 1) {
        for (name, [full, quick]) in COUNTS {
            let count = bench.choose(full, quick);
            let changes = bench.choose(20_000, 200);
            let mut command = Command::new(&own);
            command.arg(ALONE);
            command.args([count, changes].map(|number| number.to_string()));
            let output = command.output().context("starting a process for agents")?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success(),
                "{name}: {}: {}",
                output.status,
                errors.trim()
            );
            let answer: Answer = serde_json::from_slice(&output.stdout)
                .with_context(|| format!("{name}: the process has given no figures"))?;
            record.add(MEMORY, name, Unit::Bytes, answer.bytes_each);
            record.add(COST, name, Unit::Microseconds, answer.microseconds_each);
        }
        record.save()?;
    }
    Ok(())
}

/// Measures so many agents in this process, and returns the figures as JSON.
///
/// # Errors
///
/// When an epoch does not go live.
pub(crate) fn alone(agents: u32, changes: u32) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    let answer = runtime.block_on(of(agents, changes))?;
    serde_json::to_string(&answer).context("writing the figures as JSON")
}

async fn of(agents: u32, changes: u32) -> Result<Answer> {
    let pid = std::process::id();
    // The code for it is in memory before the first look, and its cost does not count for one of few agents.
    start(1).await?;
    let before = proc::memory(pid)?.rss;
    let handles = start(agents).await?;
    let bytes = proc::memory(pid)?.rss - before;
    let begun = Instant::now();
    for (change, handle) in (0..changes).zip(handles.iter().cycle()) {
        // Never what the agent has already.
        handle.apply_and_wait(u64::from(change) + 1).await?;
    }
    Ok(Answer {
        bytes_each: bytes / f64::from(agents.max(1)),
        microseconds_each: each(begun.elapsed(), changes),
    })
}

fn each(elapsed: Duration, count: u32) -> f64 {
    elapsed.as_secs_f64() * 1e6 / f64::from(count.max(1))
}

/// Agents whose first epoch is live.
async fn start(count: u32) -> Result<Vec<Handle<u64>>> {
    let mut handles = Vec::new();
    for _ in 0..count {
        let agent = Agent::new(Arc::new(Trivial), Policy::resilient());
        let agent = agent.context("a policy of ours was refused")?;
        handles.push(agent.handle());
        tokio::spawn(agent.run(std::future::pending()));
    }
    for handle in &handles {
        handle.apply_and_wait(0).await?;
    }
    Ok(handles)
}

/// A server that is live at once, and ends at once.
struct Trivial;

#[async_trait]
impl Proxy for Trivial {
    type Config = u64;

    async fn run(
        &self,
        target: Target<u64>,
        _: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        if target == Target::Drain {
            return Ok(());
        }
        control.live();
        tokio::select! {
            _ = control.retired() => Ok(()),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_in_one_process_have_a_size_and_a_cost() {
        let answer: Answer = serde_json::from_str(&alone(200, 20).unwrap()).unwrap();
        assert!(
            answer.bytes_each > 0.0 && answer.microseconds_each > 0.0,
            "{answer:?}"
        );
    }
}
