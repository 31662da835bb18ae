//! The status, from what both state machines and the proxy know.

use std::time::SystemTime;

use handover_core::{EpochInfo, EpochState, Held, Phase, Purpose, Timestamp};
use handover_tokio::Status;

use crate::Facts;
use crate::control::wire;

/// What the supervisor adds.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) desired: wire::Configuration,
    pub(super) problem: Option<String>,
    /// What is missing of the files that are awaited, while they are.
    pub(super) awaited: Option<Vec<String>>,
    /// Whether nothing is started because no client has given a configuration.
    pub(super) awaits_configuration: bool,
    /// Whether an epoch serves, as the operator has seen.
    pub(super) ready: bool,
    /// Whether what serves is what the files ask for, as the operator has decided.
    pub(super) current: bool,
    /// Whether clients can connect, if that was seen.
    pub(super) listening: Option<bool>,
    pub(super) probation: Option<wire::Probation>,
    pub(super) unfit: Option<wire::Unfit>,
    pub(super) verdict: wire::Verdict,
    pub(super) history: Vec<wire::EpochHistory>,
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
        at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        uptime_seconds: elapsed.as_secs(),
        verdict: Some(known.verdict),
        state: match status.phase {
            Phase::Running if ready => wire::State::Live,
            Phase::Running => wire::State::Starting,
            Phase::Draining { .. } => wire::State::Draining,
            Phase::Stopping(_) => wire::State::Stopping,
            Phase::Finished(_) => wire::State::Ended,
        },
        ready,
        current_is_desired: known.current,
        degraded: status.degraded,
        drained: facts.drained,
        held: match &known.awaited {
            Some(missing) => Some(awaited_in_words(missing)),
            None if known.awaits_configuration => Some(NO_CONFIGURATION.to_owned()),
            None => status.held.map(|held| held_in_words(held, status)),
        },
        awaited: known.awaited,
        problem: problem.or_else(|| deaf.then(|| NOBODY_LISTENS.to_owned())),
        retries_left: status.retries_left,
        base_id: facts.base_id,
        desired: known.desired,
        current,
        epochs: epochs.collect(),
        history: known.history,
        last_exit: facts.last_exit,
        last_failure: status
            .last_failure
            .as_ref()
            .map(|failure| wire::LastFailure {
                epoch: failure.epoch.number(),
                message: failure.message(),
            }),
        probation: known.probation,
        unfit: known.unfit,
        counters: known.counters,
        watching: known.watching,
    }
}

/// Why what is live is not ready.
const NOBODY_LISTENS: &str =
    "no epoch has a listening socket beside its admin endpoint, so no client can connect";

/// Why nothing is started before a client has given a configuration.
const NO_CONFIGURATION: &str = "a configuration is awaited; give one with `handover apply`";

fn awaited_in_words(missing: &[String]) -> String {
    match missing {
        [] => "files are awaited, and were not seen yet".to_owned(),
        missing => format!("files are awaited: {}", missing.join("; ")),
    }
}

/// A moment is told as the time until then: nobody outside knows when the agent started.
pub(super) fn held_in_words(held: Held, status: &Status) -> String {
    match held {
        Held::Retry(at) => {
            let left = time_until(at, status);
            format!("a retry is due in {}", humantime::format_duration(left))
        }
        Held::Interval(at) => {
            let left = time_until(at, status);
            let until = SystemTime::now().checked_add(left);
            let until = until.map_or_else(
                || "a time that the clock cannot show".to_owned(),
                |until| humantime::format_rfc3339_seconds(until).to_string(),
            );
            let left = humantime::format_duration(left);
            format!(
                "held until {until}, in {left}: the change before it was started less than \
                 --min-interval ago"
            )
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

/// The time until this moment of the agent, in whole milliseconds.
fn time_until(at: Timestamp, status: &Status) -> std::time::Duration {
    let left = at.elapsed().saturating_sub(status.started.elapsed());
    std::time::Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
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

    use handover_core::{Epoch, EpochInfo, Standing};
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
            on_probation: false,
            unfit: false,
            started: Timestamp::new(Duration::ZERO),
            released: false,
        }
    }

    fn told(ready: bool, listening: Option<bool>, problem: Option<&str>) -> wire::Status {
        told_of(vec![epoch(0, EpochState::Live)], |known, _| {
            known.problem = problem.map(str::to_owned);
            (known.ready, known.listening) = (ready, listening);
        })
    }

    /// Each process runs with a configuration of its own.
    fn told_of(
        epochs: Vec<EpochInfo>,
        change: impl FnOnce(&mut Known, &mut Status),
    ) -> wire::Status {
        let config = |source: String| wire::Configuration { source, hash: None };
        let facts = epochs.iter().map(|info| {
            let facts = EpochFacts {
                pid: 100 + info.epoch.number(),
                config: config(format!("of epoch {}", info.epoch)),
                listens: None,
                active_connections: None,
                rss_bytes: None,
            };
            (info.epoch, facts)
        });
        let facts = Facts {
            epochs: facts.collect(),
            ..Facts::default()
        };
        let mut status = Status {
            phase: Phase::Running,
            standing: Standing::Live(Epoch::ZERO),
            epochs,
            held: None,
            retries_left: None,
            degraded: false,
            last_failure: None,
            started: Instant::now(),
        };
        let mut known = Known {
            name: "x".to_owned(),
            desired: config("envoy.yaml".to_owned()),
            problem: None,
            awaited: None,
            awaits_configuration: false,
            ready: true,
            current: true,
            listening: Some(true),
            watching: wire::Watching::default(),
            probation: None,
            unfit: None,
            verdict: wire::Verdict {
                health: "READY".to_owned(),
                why: "epoch 0 serves what is desired".to_owned(),
            },
            history: Vec::new(),
            counters: wire::Counters::default(),
        };
        change(&mut known, &mut status);
        super::status(known, &status, facts)
    }

    #[tokio::test]
    async fn what_nobody_can_connect_to_is_a_problem() {
        let deaf = told(false, Some(false), None);
        assert_eq!((deaf.ready, deaf.state), (false, wire::State::Starting));
        assert_eq!(deaf.problem.as_deref(), Some(NOBODY_LISTENS));
        let deaf = told(false, Some(false), Some("envoy.yaml: no such field"));
        assert_eq!(deaf.problem.as_deref(), Some("envoy.yaml: no such field"));
    }

    #[tokio::test]
    async fn what_was_seen_to_serve_or_cannot_be_seen_is_none() {
        for listening in [Some(true), None] {
            let fine = told(true, listening, None);
            assert_eq!((fine.ready, fine.state), (true, wire::State::Live));
            assert_eq!(fine.problem, None);
        }
    }

    #[tokio::test]
    async fn what_is_missing_of_the_awaited_files_holds_the_start() {
        let held = |missing: &[&str]| {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let told = told_of(Vec::new(), |known, _| known.awaited = Some(missing.clone()));
            assert_eq!(told.awaited.as_ref(), Some(&missing));
            told.held.unwrap()
        };
        assert_eq!(
            held(&["`a` is empty", "`b` does not exist"]),
            "files are awaited: `a` is empty; `b` does not exist"
        );
        assert_eq!(held(&[]), "files are awaited, and were not seen yet");
    }

    #[tokio::test]
    async fn the_newest_live_epoch_is_current_and_a_drain_is_no_process() {
        let mut drain = epoch(3, EpochState::Live);
        drain.purpose = Purpose::Drain;
        let epochs = vec![
            epoch(0, EpochState::Draining),
            epoch(1, EpochState::Live),
            epoch(2, EpochState::Starting),
            drain,
        ];
        let seen = told_of(epochs[..3].to_vec(), |_, _| {});
        let current = seen.current.map(|current| current.source);
        assert_eq!(current.as_deref(), Some("of epoch 1"));
        let drained = told_of(epochs, |_, _| {});
        let pids: Vec<_> = drained.epochs.iter().map(|epoch| epoch.pid).collect();
        assert_eq!(pids, [Some(100), Some(101), Some(102)]);
    }

    #[tokio::test]
    async fn why_a_start_is_held_is_told_in_words() {
        let held = |held| {
            let live = vec![epoch(0, EpochState::Live)];
            let told = told_of(live, |_, status| status.held = Some(held));
            told.held.unwrap_or_default()
        };
        // The clock runs, so only the hour is certain.
        let retry = held(Held::Retry(Timestamp::new(Duration::from_secs(7_199))));
        assert!(retry.starts_with("a retry is due in 1h 59m "), "{retry}");
        let interval = held(Held::Interval(Timestamp::new(Duration::from_secs(7_199))));
        assert!(interval.starts_with("held until 20"), "{interval}");
        assert!(interval.contains(", in 1h 59m "), "{interval}");
        let cap = Held::Cap { running: 2 };
        assert_eq!(held(cap), "2 epochs run already");
    }
}
