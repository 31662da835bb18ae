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
    /// Whether an epoch serves, as far as the operator knows.
    pub(super) ready: bool,
    pub(super) counters: wire::Counters,
    pub(super) watching: wire::Watching,
}

pub(super) fn status(known: Known, status: &Status, mut facts: Facts) -> wire::Status {
    let live = |info: &&EpochInfo| info.state == EpochState::Live;
    let current = status.epochs.iter().rev().find(live).and_then(|info| {
        let facts = facts.epochs.get(&info.epoch)?;
        Some(facts.config.clone())
    });
    // The agent may have moved on since the operator was asked.
    let is_live = known.ready && status.epochs.iter().any(|info| live(&info));
    let deaf = is_live && nobody_listens(status, &facts);
    let ready = is_live && !deaf;
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

/// Whether every running epoch is known to have no socket on which clients could connect. One that
/// cannot be seen is taken at its word.
fn nobody_listens(status: &Status, facts: &Facts) -> bool {
    let mut processes = status
        .epochs
        .iter()
        .filter(|info| info.purpose != Purpose::Drain);
    processes.all(|info| {
        let facts = facts.epochs.get(&info.epoch);
        facts.is_some_and(|facts| facts.listens == Some(false))
    })
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
        | Held::NotRestarted
        | Held::NumbersUsedUp
        | _ => held.to_string(),
    }
}

pub(super) fn state_of(state: EpochState) -> wire::EpochState {
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
    use crate::EpochFacts;

    fn epoch(number: u32, state: EpochState) -> EpochInfo {
        EpochInfo {
            epoch: Epoch::new(number),
            state,
            purpose: Purpose::Desired,
            desired: true,
            withdrawn: false,
            started: Timestamp::new(Duration::ZERO),
            released: false,
        }
    }

    fn told(
        epochs: Vec<EpochInfo>,
        listens: &[Option<bool>],
        problem: Option<&str>,
    ) -> wire::Status {
        let config = wire::Configuration {
            source: "envoy.yaml".to_owned(),
            hash: None,
        };
        let facts = epochs.iter().zip(listens).map(|(info, listens)| {
            let facts = EpochFacts {
                pid: 1,
                config: config.clone(),
                listens: *listens,
                active_connections: None,
                rss_bytes: None,
            };
            (info.epoch, facts)
        });
        let facts = Facts {
            epochs: facts.collect(),
            ..Facts::default()
        };
        let status = Status {
            phase: Phase::Running,
            standing: Standing::Live(Epoch::ZERO),
            epochs,
            held: None,
            retries_left: None,
            degraded: false,
            last_failure: None,
            started: Instant::now(),
        };
        let known = Known {
            name: "x".to_owned(),
            desired: config.clone(),
            stands_in: false,
            problem: problem.map(str::to_owned),
            ready: true,
            watching: wire::Watching::default(),
            counters: wire::Counters::default(),
        };
        super::status(known, &status, facts)
    }

    #[tokio::test]
    async fn nothing_is_ready_while_no_epoch_listens() {
        let live = || vec![epoch(0, EpochState::Live)];
        let deaf = told(live(), &[Some(false)], None);
        assert_eq!((deaf.ready, deaf.state), (false, wire::State::Starting));
        assert_eq!(deaf.problem.as_deref(), Some(NOBODY_LISTENS));
        assert!(!deaf.current_is_desired);
        let deaf = told(live(), &[Some(false)], Some("envoy.yaml: no such field"));
        assert_eq!(deaf.problem.as_deref(), Some("envoy.yaml: no such field"));
        let fine = told(live(), &[Some(true)], None);
        assert_eq!((fine.ready, fine.state), (true, wire::State::Live));
        assert_eq!(fine.problem, None);
    }

    #[tokio::test]
    async fn what_cannot_be_seen_is_taken_at_its_word() {
        let live = || vec![epoch(0, EpochState::Live)];
        assert!(told(live(), &[None], None).ready);
        // It has ended since, or has no process.
        assert!(told(live(), &[], None).ready);
        // A newer one that is not seen live has the listeners.
        let both = vec![epoch(0, EpochState::Live), epoch(1, EpochState::Starting)];
        assert!(told(both.clone(), &[Some(false), Some(true)], None).ready);
        assert!(!told(both, &[Some(false), Some(false)], None).ready);
        assert!(!told(vec![epoch(0, EpochState::Starting)], &[Some(true)], None).ready);
    }
}
