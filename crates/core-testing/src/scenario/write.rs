//! Writing a script, so that what a generator has come upon can be read again.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

use super::{Line, Scenario};
use handover_core::{
    Advance, Exit, Input, OnCleanExit, OnExhausted, OnFailure, Policy, Severity, Timestamp,
};

/// As [`Scenario::parse`] reads it. The jitter of a policy is not written, since no script has any.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.title.is_empty() {
            writeln!(f, "# {}", self.title)?;
        }
        writeln!(f, "{}", policy(&self.policy))?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = if self.missing_deadlines { "!" } else { "" };
        let time = format!("{}{missing}", moment(self.at));
        let input = self.input.as_ref().map_or_else(|| "wait".into(), input);
        write!(f, "{time:<6} {input}")
    }
}

/// The input in the words of a script.
pub(super) fn input(input: &Input<String>) -> String {
    match input {
        Input::Desire(config) => format!("desire {config}"),
        Input::Renew(config) => format!("renew {config}"),
        Input::Restart(config) => format!("restart {config}"),
        Input::Live(epoch) => format!("live {epoch}"),
        Input::StoppedServing(epoch) => format!("stopped_serving {epoch}"),
        Input::Released(epoch) => format!("released {epoch}"),
        Input::Withdrawn(epoch) => format!("withdrawn {epoch}"),
        Input::Unfit(epoch) => format!("unfit {epoch}"),
        Input::Exited(epoch, exit) => format!("exit {epoch} {}", how(*exit)),
        Input::Terminate(urgency) => format!("terminate {urgency}"),
    }
}

fn how(exit: Exit) -> &'static str {
    match exit {
        Exit::Clean => "clean",
        Exit::Aborted => "aborted",
        Exit::Failed(Severity::Transient) => "failed",
        Exit::Failed(Severity::Permanent) => "permanent",
    }
}

/// Every key, so that a script means the same when a preset has changed.
fn policy(policy: &Policy) -> String {
    let optional = |it: Option<Duration>| it.map_or_else(|| "none".into(), span);
    let max_epochs = policy
        .max_epochs
        .map_or_else(|| "none".into(), |max| max.to_string());
    let advance = match policy.advance {
        Advance::WhenLive => "when_live",
        Advance::AtOnce => "at_once",
    };
    let on_failure = match policy.on_failure {
        OnFailure::KeepServing => "keep_serving",
        OnFailure::AbortAll => "abort_all",
    };
    let on_exhausted = match policy.on_exhausted {
        OnExhausted::Stop => "stop",
        OnExhausted::HoldLastGood => "hold",
    };
    let on_clean_exit = match policy.on_clean_exit {
        OnCleanExit::Stay => "stay",
        OnCleanExit::Restart => "restart",
        OnCleanExit::Stop => "stop",
    };
    format!(
        "policy default retries={} initial={} max_interval={} reset_after={} start_deadline={} \
         give_way_after={} min_interval={} max_epochs={max_epochs} grace={} probation={} drain={} advance={advance} \
         on_failure={on_failure} on_exhausted={on_exhausted} on_clean_exit={on_clean_exit}",
        policy.retry.max_retries,
        span(policy.retry.initial_interval),
        optional(policy.retry.max_interval),
        optional(policy.retry.reset_after),
        optional(policy.start_deadline),
        optional(policy.give_way_after),
        optional(policy.min_interval),
        span(policy.abort_grace),
        optional(policy.probation),
        optional(policy.drain_deadline),
    )
}

fn moment(at: Timestamp) -> String {
    span(at.elapsed())
}

/// In the largest unit that has no fraction.
fn span(span: Duration) -> String {
    let nanos = span.as_nanos();
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
    let unit = units
        .into_iter()
        .find_map(|(unit, size)| Some((unit, whole_parts(nanos, size)?)));
    match unit {
        _ if nanos == 0 => "0".into(),
        Some((unit, number)) => format!("{number}{unit}"),
        None => format!("{nanos}ns"),
    }
}

fn whole_parts(nanos: u128, size: u128) -> Option<u128> {
    (nanos.checked_rem(size) == Some(0)).then(|| nanos.checked_div(size))?
}
