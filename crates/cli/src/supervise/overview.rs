//! The status, from what the state machine, the proxy and the supervisor know.

use handover_core::{EpochInfo, EpochState, Held, Phase, Purpose, Standing};
use handover_tokio::Status;

use crate::control::wire;
use crate::operate::Facts;

/// What the supervisor adds.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) desired: wire::Configuration,
    /// Whether what is desired is only there because the files ask for nothing that can be run.
    pub(super) stands_in: bool,
    pub(super) problem: Option<String>,
    pub(super) counters: wire::Counters,
    pub(super) watching: wire::Watching,
}

pub(super) fn status(known: Known, status: &Status, mut facts: Facts) -> wire::Status {
    let live = |info: &&EpochInfo| info.state == EpochState::Live;
    let current = status.epochs.iter().rev().find(live).and_then(|info| {
        let facts = facts.epochs.get(&info.epoch)?;
        Some(facts.config.clone())
    });
    // Who drains to end has closed its listeners.
    let running = status.phase == Phase::Running;
    let ready = running && status.epochs.iter().any(|info| live(&info));
    let processes = status
        .epochs
        .iter()
        // The one that stands for a drain has no process.
        .filter(|info| info.purpose != Purpose::Drain);
    let elapsed = status.started.elapsed();
    let epochs = processes.map(|info| {
        let facts = facts.epochs.remove(&info.epoch);
        let age = elapsed.saturating_sub(info.started.elapsed());
        wire::Epoch {
            epoch: info.epoch.number(),
            state: state_of(info.state),
            pid: facts.as_ref().map(|facts| facts.pid),
            age_seconds: age.as_secs(),
            active_connections: facts.as_ref().and_then(|facts| facts.active_connections),
            rss_bytes: facts.as_ref().and_then(|facts| facts.rss_bytes),
            config_hash: facts.and_then(|facts| facts.config.hash),
            released: info.released,
        }
    });
    wire::Status {
        api: wire::API,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: known.name,
        pid: std::process::id(),
        uptime_seconds: elapsed.as_secs(),
        state: match status.phase {
            Phase::Running if ready => wire::State::Live,
            Phase::Running => wire::State::Starting,
            Phase::Draining { .. } => wire::State::Draining,
            Phase::Stopping(_) => wire::State::Stopping,
            Phase::Finished(_) => wire::State::Ended,
        },
        ready,
        current_is_desired: matches!(status.standing, Standing::Live(_))
            && !known.stands_in
            && known.problem.is_none(),
        degraded: status.degraded,
        drained: facts.drained,
        held: status.held.map(|held| held_in_words(held, status)),
        problem: known.problem,
        retries_left: status.retries_left,
        base_id: facts.base_id,
        desired: known.desired,
        current,
        epochs: epochs.collect(),
        last_exit: facts.last_exit,
        last_failure: status
            .last_failure
            .as_ref()
            .map(|failure| wire::LastFailure {
                epoch: failure.epoch.number(),
                message: failure.message(),
            }),
        counters: known.counters,
        watching: known.watching,
    }
}

/// A moment is told as the time until then: nobody outside knows when the agent started.
pub(super) fn held_in_words(held: Held, status: &Status) -> String {
    match held {
        Held::Retry(at) => {
            let left = at.elapsed().saturating_sub(status.started.elapsed());
            let left = std::time::Duration::from_millis(
                u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            );
            format!("a retry is due in {}", humantime::format_duration(left))
        }
        Held::Starting(_)
        | Held::Aborting(_)
        | Held::Cap { .. }
        | Held::GivenUp
        | Held::Stayed
        | Held::NumbersUsedUp => held.to_string(),
    }
}

fn state_of(state: EpochState) -> wire::EpochState {
    match state {
        EpochState::Starting => wire::EpochState::Starting,
        EpochState::Live => wire::EpochState::Live,
        EpochState::Draining => wire::EpochState::Draining,
        EpochState::Aborting(_) => wire::EpochState::Aborting,
    }
}
