//! The status for people.

use std::fmt::Display;
use std::time::Duration;

use handover_supervisor::control::wire::{Configuration, Epoch, EpochState, State, Status};

use crate::escape::escaped;

/// How much of a digest is shown: enough to tell two apart.
const DIGITS: usize = 12;

/// The whole status, without a line feed at its end.
pub(super) fn table(status: &Status) -> String {
    let mut lines = vec![headline(status)];
    let mut fact = |name: &str, text: &dyn Display| lines.push(format!("{name:<13}{text}"));
    fact("desired", &plain(&configuration(&status.desired)));
    match &status.current {
        Some(current) if *current == status.desired => fact("current", &"the same"),
        Some(current) => fact("current", &plain(&configuration(current))),
        None => fact("current", &"nothing is live"),
    }
    if let Some(held) = &status.held {
        fact("held", &plain(held));
    }
    if let Some(problem) = &status.problem {
        fact("problem", &plain(problem));
    }
    if let Some(probation) = &status.probation {
        let left = span(probation.seconds_left);
        let epoch = probation.epoch;
        fact(
            "on probation",
            &format_args!("epoch {epoch}, for another {left}"),
        );
    }
    if let Some(unfit) = &status.unfit {
        let evidence = plain(&unfit.evidence);
        fact("unfit", &format_args!("epoch {}: {evidence}", unfit.epoch));
    }
    for problem in &status.watching.problems {
        fact("watching", &plain(problem));
    }
    if let Some(seconds) = status.watching.rescan_seconds {
        fact(
            "watching",
            &format_args!("checks the files every {seconds}s"),
        );
    }
    if let Some(left) = status.retries_left {
        fact("retries left", &left);
    }
    let counters = &status.counters;
    fact(
        "epochs",
        &format_args!(
            "{} started, {} failed, {} retried, {} handed over",
            counters.started, counters.failed, counters.retries, counters.hand_overs
        ),
    );
    if let Some(exit) = &status.last_exit {
        let ran = span(exit.uptime_seconds);
        fact(
            "last exit",
            &format_args!(
                "epoch {} (pid {}) at {} after {ran}: {} ({})",
                exit.epoch,
                exit.pid,
                plain(&exit.at),
                plain(&exit.sentence),
                plain(&exit.cause),
            ),
        );
    }
    if let Some(failure) = &status.last_failure {
        fact(
            "last failure",
            &format_args!("epoch {}: {}", failure.epoch, plain(&failure.message)),
        );
    }
    if !status.epochs.is_empty() {
        lines.push(String::new());
        lines.push(row(&[
            "EPOCH",
            "STATE",
            "PID",
            "AGE",
            "CONNECTIONS",
            "MEMORY",
            "CONFIGURATION",
        ]));
        lines.extend(status.epochs.iter().map(epoch));
    }
    lines.join("\n")
}

/// `web (pid 7) is live for 3m: ready, current`.
fn headline(status: &Status) -> String {
    let state = match status.state {
        State::Starting => "is starting",
        State::Live => "is live",
        State::Draining => "drains and ends",
        State::Stopping => "is stopping",
        State::Ended => "has ended",
    };
    let ready = match (status.ready, status.current_is_desired) {
        (true, true) => "ready, with the desired configuration",
        (true, false) => "ready, but not with the desired configuration",
        (false, _) => "not ready",
    };
    let mut more = String::new();
    for (set, word) in [(status.degraded, "degraded"), (status.drained, "drained")] {
        if set {
            more.push_str(", ");
            more.push_str(word);
        }
    }
    format!(
        "{} (pid {}, handover {}{}) {state}, up {}: {ready}{more}",
        plain(&status.name),
        status.pid,
        plain(&status.version),
        status
            .base_id
            .map(|id| format!(", base id {id}"))
            .unwrap_or_default(),
        span(status.uptime_seconds),
    )
}

pub(super) fn configuration(configuration: &Configuration) -> String {
    match &configuration.hash {
        Some(hash) => format!("{} ({})", configuration.source, short(hash)),
        None => configuration.source.clone(),
    }
}

fn epoch(epoch: &Epoch) -> String {
    let state = match epoch.state {
        EpochState::Starting => "starting",
        EpochState::Live => "live",
        EpochState::Draining => "draining",
        EpochState::Aborting => "aborting",
    };
    let or_unknown = |number: Option<&dyn Display>| match number {
        Some(number) => number.to_string(),
        None => "?".to_owned(),
    };
    row(&[
        &epoch.epoch.to_string(),
        state,
        &or_unknown(epoch.pid.as_ref().map(|pid| pid as &dyn Display)),
        &span(epoch.age_seconds).to_string(),
        &or_unknown(epoch.active_connections.as_ref().map(|n| n as &dyn Display)),
        &epoch.rss_bytes.map_or_else(|| "?".to_owned(), megabytes),
        &plain(short(epoch.config_hash.as_deref().unwrap_or("-"))),
    ])
}

fn row(cells: &[&str; 7]) -> String {
    let [epoch, state, pid, age, connections, memory, config] = cells;
    format!("{epoch:>5}  {state:<8}  {pid:>7}  {age:>10}  {connections:>11}  {memory:>8}  {config}")
}

pub(super) fn short(hash: &str) -> &str {
    hash.char_indices()
        .nth(DIGITS)
        .and_then(|(end, _)| hash.get(..end))
        .unwrap_or(hash)
}

pub(super) fn span(seconds: u64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(seconds))
}

pub(super) fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

/// Text from elsewhere that commands no terminal and stays on its line.
pub(in crate::commands) fn plain(text: &str) -> String {
    escaped(text, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_supervisor::control::wire::{
        API, Counters, LastExit, LastFailure, Probation, Unfit, Watching,
    };

    fn configuration(hash: char) -> Configuration {
        Configuration {
            source: "/etc/envoy.yaml".to_owned(),
            hash: Some(hash.to_string().repeat(64)),
        }
    }

    fn status() -> Status {
        Status {
            api: API,
            version: "1.2.3".to_owned(),
            name: "web".to_owned(),
            pid: 7,
            at: String::new(),
            uptime_seconds: 3725,
            state: State::Live,
            verdict: None,
            ready: true,
            current_is_desired: true,
            degraded: false,
            drained: false,
            held: None,
            awaited: None,
            problem: None,
            retries_left: Some(10),
            base_id: Some(3),
            desired: configuration('a'),
            current: Some(configuration('a')),
            epochs: vec![Epoch {
                epoch: 0,
                state: EpochState::Live,
                pid: Some(4711),
                age_seconds: 3725,
                config_hash: configuration('a').hash,
                active_connections: Some(12),
                rss_bytes: Some(66_123_456),
                released: false,
            }],
            history: Vec::new(),
            last_exit: None,
            last_failure: None,
            probation: None,
            unfit: None,
            counters: Counters {
                started: 1,
                ..Counters::default()
            },
            watching: Watching::default(),
        }
    }

    #[test]
    fn all_is_well() {
        insta::assert_snapshot!(table(&status()), @r"
        web (pid 7, handover 1.2.3, base id 3) is live, up 1h 2m 5s: ready, with the desired configuration
        desired      /etc/envoy.yaml (aaaaaaaaaaaa)
        current      the same
        retries left 10
        epochs       1 started, 0 failed, 0 retried, 0 handed over

        EPOCH  STATE         PID         AGE  CONNECTIONS    MEMORY  CONFIGURATION
            0  live         4711    1h 2m 5s           12   66.1 MB  aaaaaaaaaaaa
        ");
    }

    #[test]
    fn an_epoch_on_probation_and_an_unfit_one_are_told() {
        let mut status = status();
        status.probation = Some(Probation {
            epoch: 2,
            seconds_left: 7,
        });
        status.unfit = Some(Unfit {
            epoch: 1,
            evidence: "--verify `x` has failed\u{1b}[2J".to_owned(),
        });
        let table = table(&status);
        let told: Vec<&str> = table.lines().skip(3).take(2).collect();
        let expected = [
            "on probation epoch 2, for another 7s",
            "unfit        epoch 1: --verify `x` has failed\\u{1b}[2J",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_older_configuration_serves_in_place_of_a_bad_one() {
        let mut status = status();
        status.current_is_desired = false;
        status.degraded = true;
        status.drained = true;
        status.held = Some("the desired configuration was given up".to_owned());
        status.desired = configuration('b');
        status.epochs.insert(
            0,
            Epoch {
                epoch: 1,
                state: EpochState::Starting,
                pid: None,
                age_seconds: 0,
                config_hash: None,
                active_connections: None,
                rss_bytes: None,
                released: false,
            },
        );
        status.last_exit = Some(LastExit {
            epoch: 1,
            pid: 4712,
            cause: "bind_conflict".to_owned(),
            sentence: "cannot listen\n\u{1b}[2J".to_owned(),
            at: "2026-01-02T03:04:05Z".to_owned(),
            uptime_seconds: 0,
        });
        status.last_failure = Some(LastFailure {
            epoch: 1,
            message: "/etc/envoy.yaml: cannot listen".to_owned(),
        });
        status.watching = Watching {
            problems: vec!["the system does not report every change of `/n`".to_owned()],
            rescan_seconds: Some(10.0),
        };
        insta::assert_snapshot!(table(&status), @r"
        web (pid 7, handover 1.2.3, base id 3) is live, up 1h 2m 5s: ready, but not with the desired configuration, degraded, drained
        desired      /etc/envoy.yaml (bbbbbbbbbbbb)
        current      /etc/envoy.yaml (aaaaaaaaaaaa)
        held         the desired configuration was given up
        watching     the system does not report every change of `/n`
        watching     checks the files every 10s
        retries left 10
        epochs       1 started, 0 failed, 0 retried, 0 handed over
        last exit    epoch 1 (pid 4712) at 2026-01-02T03:04:05Z after 0s: cannot listen\n\u{1b}[2J (bind_conflict)
        last failure epoch 1: /etc/envoy.yaml: cannot listen

        EPOCH  STATE         PID         AGE  CONNECTIONS    MEMORY  CONFIGURATION
            1  starting        ?          0s            ?         ?  -
            0  live         4711    1h 2m 5s           12   66.1 MB  aaaaaaaaaaaa
        ");
    }
}
