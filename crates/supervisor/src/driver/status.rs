//! The status, from what both state machines and the proxy know.

use handover_core::{EpochInfo, EpochState, Held, Phase, Purpose, Standing};
use handover_tokio::Status;

use crate::Facts;
use crate::control::wire;

/// What the supervisor adds.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) desired: wire::Configuration,
    /// Whether what is desired is only there because the files ask for nothing that can be run.
    pub(super) stands_in: bool,
    pub(super) problem: Option<String>,
    /// Whether an epoch serves, as the operator has seen.
    pub(super) ready: bool,
    /// Whether clients can connect, if that was seen.
    pub(super) listening: Option<bool>,
    pub(super) counters: wire::Counters,
    pub(super) watching: wire::Watching,
}

pub(super) fn status(known: Known, status: &Status, mut facts: Facts) -> wire::Status {
    let live = |info: &&EpochInfo| info.state == EpochState::Live;
    let current = status.epochs.iter().rev().find(live).and_then(|info| {
        let facts = facts.epochs.get(&info.epoch)?;
        Some(facts.config.clone())
    });
    let ready = known.ready;
    let deaf = known.listening == Some(false);
    let problem = known.problem;
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
            && problem.is_none()
            && !deaf,
        degraded: status.degraded,
        drained: facts.drained,
        held: status.held.map(|held| held_in_words(held, status)),
        problem: problem.or_else(|| deaf.then(|| NOBODY_LISTENS.to_owned())),
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

/// Why what is live is not ready.
const NOBODY_LISTENS: &str =
    "no epoch has a listening socket beside its admin endpoint, so no client can connect";

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
        | Held::NotRestarted
        | Held::NumbersUsedUp
        | _ => held.to_string(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover_core::{Epoch, EpochInfo, Standing, Timestamp};
    use tokio::time::Instant;

    use super::*;

    fn told(ready: bool, listening: Option<bool>, problem: Option<&str>) -> wire::Status {
        let config = wire::Configuration {
            source: "envoy.yaml".to_owned(),
            hash: None,
        };
        let live = EpochInfo {
            epoch: Epoch::ZERO,
            state: EpochState::Live,
            purpose: Purpose::Desired,
            desired: true,
            withdrawn: false,
            started: Timestamp::new(Duration::ZERO),
            released: false,
        };
        let status = Status {
            phase: Phase::Running,
            standing: Standing::Live(Epoch::ZERO),
            epochs: vec![live],
            held: None,
            retries_left: None,
            degraded: false,
            last_failure: None,
            started: Instant::now(),
        };
        let known = Known {
            name: "x".to_owned(),
            desired: config,
            stands_in: false,
            problem: problem.map(str::to_owned),
            ready,
            listening,
            watching: wire::Watching::default(),
            counters: wire::Counters::default(),
        };
        super::status(known, &status, Facts::default())
    }

    #[tokio::test]
    async fn what_nobody_can_connect_to_is_a_problem() {
        let deaf = told(false, Some(false), None);
        assert_eq!((deaf.ready, deaf.state), (false, wire::State::Starting));
        assert_eq!(deaf.problem.as_deref(), Some(NOBODY_LISTENS));
        assert!(!deaf.current_is_desired);
        let deaf = told(false, Some(false), Some("envoy.yaml: no such field"));
        assert_eq!(deaf.problem.as_deref(), Some("envoy.yaml: no such field"));
    }

    #[tokio::test]
    async fn what_was_seen_to_serve_or_cannot_be_seen_is_none() {
        for listening in [Some(true), None] {
            let fine = told(true, listening, None);
            assert_eq!((fine.ready, fine.state), (true, wire::State::Live));
            assert_eq!(fine.problem, None);
            assert!(fine.current_is_desired);
        }
    }
}
