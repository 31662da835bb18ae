//! The agent's events as log lines, each a sentence with its numbers as fields.

use handover_core::{Epoch, Event, Exit, GaveUp, Held, Outcome, Purpose, Severity};
use tracing::{debug, error, info, warn};

use crate::Failure;

/// Says what has happened. `drain` is the epoch that stands for the drain: it is no process, so
/// people do not hear of it as an epoch.
pub(crate) fn event(event: &Event, drain: Option<Epoch>, failure: Option<&Failure>) {
    match event {
        Event::Exited { epoch, exit, .. } if Some(*epoch) == drain => {
            debug!("draining is over: {exit:?}");
        }
        Event::Started { epoch, purpose } => started(*epoch, *purpose),
        Event::Live { epoch, after } => {
            let ms = after.as_millis();
            info!(
                epoch = epoch.number(),
                after_ms = ms,
                "epoch {epoch} is live after {ms} ms"
            );
        }
        Event::Superseded { epoch, by } => {
            info!(
                epoch = epoch.number(),
                by = by.number(),
                "epoch {epoch} drains, {by} serves"
            );
        }
        Event::StoppedServing { epoch } => {
            warn!(
                epoch = epoch.number(),
                "epoch {epoch} runs but has stopped serving: it does not listen any more"
            );
        }
        Event::WokeLate { late } => {
            let ms = late.as_millis();
            warn!(
                late_ms = ms,
                "a deadline was missed by {ms} ms, so this process was paused; \
                 what happened meanwhile is read before anything is given up"
            );
        }
        Event::StartTimedOut { epoch } => {
            warn!(epoch = epoch.number(), "epoch {epoch} is not live in time");
        }
        Event::GivesWay { epoch, after } => {
            let ms = after.as_millis();
            info!(
                epoch = epoch.number(),
                after_ms = ms,
                "epoch {epoch} is not live after {ms} ms and gives way to a newer configuration"
            );
        }
        Event::ProbationPassed { epoch } => {
            info!(
                epoch = epoch.number(),
                "epoch {epoch} has passed its probation"
            );
        }
        Event::Unfit { epoch, replaced } => unfit(*epoch, *replaced, failure),
        Event::BeyondCap { epoch, running } => {
            warn!(
                epoch = epoch.number(),
                running,
                "epoch {epoch} is started beside {running} others, which is beyond the limit; \
                 connections of the oldest one may be cut"
            );
        }
        Event::Exited { epoch, exit, .. } => exited(*epoch, *exit, failure),
        Event::RetryScheduled {
            purpose,
            delay,
            retries_left,
        } => {
            let what = match purpose {
                Purpose::Fallback => "the last good configuration",
                Purpose::Desired | Purpose::Drain => "the configuration",
            };
            let ms = delay.as_millis();
            warn!(
                delay_ms = ms,
                retries_left, "trying {what} again in {ms} ms, {retries_left} retries left"
            );
        }
        Event::BudgetRefilled {
            epoch,
            retries_left,
        } => info!(
            epoch = epoch.number(),
            retries_left, "epoch {epoch} is healthy, {retries_left} retries again"
        ),
        Event::Restarting => {
            warn!("cold restart: everything is ended, then started again at epoch 0");
        }
        // The moment is one of the agent's clock, which means nothing outside.
        Event::Held(Held::Interval(_)) => {
            info!("held: the shortest time between two changes is not over");
        }
        Event::Held(held) => info!("held: {held}"),
        Event::GaveUp {
            epoch,
            why,
            holding,
        } => gave_up(*epoch, *why, *holding, failure),
        Event::FallbackLost { epoch } => {
            error!(
                epoch = epoch.number(),
                "gave up the last good configuration as well"
            );
        }
        Event::NotRestarted { epoch } => {
            info!(
                epoch = epoch.number(),
                "epoch {epoch} ended cleanly and is not restarted"
            );
        }
        Event::Draining { .. } => info!("terminating: draining"),
        Event::DrainTimedOut => warn!("the drain took too long and is cut"),
        // An event of a later version.
        _ => debug!("{event:?}"),
    }
}

fn started(epoch: Epoch, purpose: Purpose) {
    let number = epoch.number();
    match purpose {
        Purpose::Desired => info!(epoch = number, "starting epoch {epoch}"),
        Purpose::Fallback => warn!(
            epoch = number,
            "starting epoch {epoch} with the last good configuration"
        ),
        Purpose::Drain => debug!("draining has begun"),
    }
}

fn exited(epoch: Epoch, exit: Exit, failure: Option<&Failure>) {
    let number = epoch.number();
    match exit {
        Exit::Clean => info!(epoch = number, "epoch {epoch} ended cleanly"),
        Exit::Aborted => info!(epoch = number, "epoch {epoch} ended as requested"),
        Exit::Failed(Severity::Transient | Severity::Permanent) => {
            let reason = failure
                .filter(|failure| failure.epoch == epoch)
                .map(Failure::message);
            let reason = reason.as_deref().unwrap_or("no reason is known");
            warn!(epoch = number, "epoch {epoch} failed: {reason}");
        }
    }
}

fn unfit(epoch: Epoch, replaced: bool, failure: Option<&Failure>) {
    let number = epoch.number();
    let evidence = failure
        .filter(|failure| failure.epoch == epoch)
        .map(Failure::message);
    let evidence = evidence.as_deref().unwrap_or("no reason is known");
    if replaced {
        error!(
            epoch = number,
            "epoch {epoch} makes room for what served before: {evidence}"
        );
    } else {
        error!(
            epoch = number,
            "epoch {epoch} serves on, because nothing is known to go back to: {evidence}"
        );
    }
}

fn gave_up(epoch: Epoch, why: GaveUp, holding: bool, failure: Option<&Failure>) {
    let number = epoch.number();
    if why == GaveUp::Unfit {
        // The evidence was logged with the epoch.
        warn!(
            epoch = number,
            "gave up the configuration, because epoch {epoch} was found unfit with it; \
             it is not tried again unless that is asked for"
        );
    } else if holding {
        let reason = failure.map(Failure::message).unwrap_or_default();
        error!(
            epoch = number,
            "gave up the configuration: {why}; an older epoch serves on; last failure: {reason}"
        );
    } else {
        // The reason was logged with the failure, and the end is the caller's to explain.
        debug!(
            epoch = number,
            "gave up the configuration: {why}; no epoch serves"
        );
    }
}

/// Says that a start is given up.
pub(crate) fn withdraw(epoch: Epoch) {
    info!(
        epoch = epoch.number(),
        "epoch {epoch} is still starting; its start is withdrawn unless it has taken over already"
    );
}

/// Says that the desired configuration is handed out as given up.
pub(crate) fn panic(epoch: Epoch) {
    debug!(
        epoch = epoch.number(),
        "reporting the given-up configuration"
    );
}

/// Says how everything ended. An end that is no success is the caller's to explain.
pub(crate) fn finish(outcome: Outcome) {
    match outcome {
        Outcome::Drained | Outcome::ProxyEnded { .. } => info!("finished: {outcome}"),
        Outcome::DrainTimedOut
        | Outcome::DrainSkipped
        | Outcome::DrainFailed
        | Outcome::Killed
        | Outcome::GaveUp { .. }
        | _ => debug!("finished: {outcome}"),
    }
}

/// Says that a callback of the proxy panicked.
pub(crate) fn callback_panicked(what: &str, message: &str) {
    error!("the proxy's {what} panicked: {message}");
}

#[cfg(test)]
mod tests;
