//! Many real children under agents of one process, beside one child.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use handover_core::{Epoch, Policy, Severity, Target};
use handover_process::{Command, Stop};
use handover_tokio::{Agent, Handle, Proxy, RunControl, RunError};

use super::Bench;
use crate::clock;
use crate::figures::Unit;
use crate::place::{Layout, Place};
use crate::proc;
use crate::record::Record;
use crate::subjects::LIMIT;

/// The name of the measure.
pub(crate) const NAME: &str = "children";

/// The counts of children, with their names in figures, for a full and for a quick run.
pub(crate) const COUNTS: [(&str, [u32; 2]); 2] = [("1 child", [1, 1]), ("200 children", [200, 20])];

/// What is measured.
pub(crate) const ALL_STARTED: &str = "until all are started";
pub(crate) const CHANGE: &str = "change until the next child";
pub(crate) const DESCRIPTORS: &str = "descriptors of the process";

pub(super) fn measure(bench: &Bench, record: &mut Record) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    for round in 0..bench.choose(3, 1) {
        for (name, [full, quick]) in COUNTS {
            let count = bench.choose(full, quick);
            let directory = bench.directory.join(format!("{count}-{round}"));
            let mut place = Place::make(directory, &bench.tools.child, Layout::Plain)?;
            let changes = bench.choose(50, 5);
            let all = of(name, count, changes, &mut place, record);
            runtime.block_on(all)?;
            record.save()?;
        }
    }
    Ok(())
}

async fn of(
    name: &str,
    count: u32,
    changes: u32,
    place: &mut Place,
    record: &mut Record,
) -> Result<()> {
    let unit = Unit::Milliseconds;
    let mut handles = Vec::new();
    let mut running = Vec::new();
    for _ in 0..count {
        let server = Server {
            directory: place.directory().to_owned(),
        };
        let agent = Agent::new(Arc::new(server), Policy::resilient());
        let agent = agent.context("a policy of ours was refused")?;
        handles.push(agent.handle());
        running.push(tokio::spawn(agent.run(std::future::pending())));
    }
    let begun = clock::now();
    let mut last = begun;
    for handle in &handles {
        handle.apply(0).await?;
    }
    for _ in 0..count {
        last = last.max(next(place).await?);
    }
    record.add(ALL_STARTED, name, unit, clock::milliseconds(begun, last));
    for (change, handle) in (0..changes).zip(handles.iter().cycle()) {
        let begun = clock::now();
        handle.apply(u64::from(change) + 1).await?;
        let started = next(place).await?;
        record.add(CHANGE, name, unit, clock::milliseconds(begun, started));
        settled(handle).await?;
    }
    let descriptors = proc::descriptors(std::process::id())?;
    record.add(DESCRIPTORS, name, Unit::Count, descriptors);
    for handle in &handles {
        handle.terminate(handover_core::Urgency::Kill);
    }
    for one in running {
        one.await.context("an agent has panicked")?;
    }
    Ok(())
}

/// Waits for the next child's first instruction, while the runtime goes on.
async fn next(place: &mut Place) -> Result<u64> {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(stamp) = place.stamp_now()? {
            return Ok(stamp.at);
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "no child was started in {LIMIT:?}"
        );
        // The child has the time of its start in its stamp, so a late look costs nothing.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until only the newest child of an agent runs.
async fn settled(handle: &Handle<u64>) -> Result<()> {
    let mut status = handle.status();
    let one = status.wait_for(|status| status.epochs.len() == 1);
    let one = tokio::time::timeout(LIMIT, one).await;
    one.context("an old child has not ended")?
        .context("the agent has ended")?;
    Ok(())
}

/// Runs the child that every supervisor runs.
struct Server {
    directory: PathBuf,
}

#[async_trait]
impl Proxy for Server {
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
        let command = Command::new(self.directory.join("run")).current_dir(&self.directory);
        let child = command.spawn().await.map_err(|error| RunError::Failed {
            severity: Severity::Transient,
            source: error.into(),
        })?;
        control.live();
        tokio::select! {
            _ = child.wait() => return Err(RunError::transient("the child has ended by itself")),
            _ = control.retired() => {}
            _ = control.abort() => {}
        }
        child
            .stop(Stop::within(Duration::from_secs(1)))
            .await
            .map_err(RunError::transient)?;
        if control.aborted().is_some() {
            return Err(RunError::Aborted);
        }
        Ok(())
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &u64) {}
}
