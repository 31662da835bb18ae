//! What a `reload` waits for, once its configuration was taken in.

use std::sync::Arc;
use std::time::Duration;

use handover_core::{Epoch, EpochState, Held, Standing};
use handover_tokio::{Applied, Followed, Handle, NotLive, Status, error_chain};
use tracing::warn;

use super::overview::held_in_words;
use crate::control::Answer;
use crate::control::wire::{
    API, Code, Refusal, Released, ReloadRequest, ReloadResult, Reloaded, Reply,
};
use crate::operate::Operate;

/// A reload that was taken in.
pub(super) struct Going<P: Operate> {
    proxy: Arc<P>,
    handle: Handle<P::Config>,
    followed: Followed,
    request: ReloadRequest,
    changed: bool,
    applied: Applied,
}

impl<P: Operate> Going<P> {
    pub(super) fn new(
        proxy: &Arc<P>,
        handle: &Handle<P::Config>,
        (applied, followed): (Applied, Followed),
        request: ReloadRequest,
        changed: bool,
    ) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            handle: handle.clone(),
            followed,
            request,
            changed,
            applied,
        }
    }

    /// What becomes of it.
    pub(super) async fn answer(self) -> Answer {
        let Self {
            proxy,
            handle,
            followed,
            request,
            changed,
            applied,
        } = self;
        let mut released = Vec::new();
        let status = handle.status();
        let going = async {
            if request.now {
                released = hurry(&*proxy, &handle).await;
            }
            if request.wait {
                followed.live().await.map(Some)
            } else {
                Ok(None)
            }
        };
        let limit = request.timeout_ms.map(Duration::from_millis);
        let epoch = match within(limit, going).await {
            Some(result) => result.map_err(|error| not_live::<P>(&error))?,
            None => return Err(too_late(limit.unwrap_or_default(), &status.borrow())),
        };
        let result = match (epoch, applied) {
            (Some(_), _) => ReloadResult::Live,
            (None, Applied::Unchanged) => ReloadResult::Unchanged,
            (None, Applied::Changed | _) => ReloadResult::Asked,
        };
        Ok(Reply::Reloaded(Reloaded {
            api: API,
            result,
            changed,
            epoch: epoch.map(Epoch::number),
            released,
        }))
    }
}

/// Takes old epochs out of the way of the next start, the oldest first, until it has happened.
async fn hurry<P: Operate>(proxy: &P, handle: &Handle<P::Config>) -> Vec<Released> {
    let mut released = Vec::new();
    // The agent has shown the state that the reload has led to before it let anybody else run.
    let mut status = handle.status();
    loop {
        let held_by = {
            let status = status.borrow_and_update();
            match status.standing {
                Standing::Pending(Held::Cap { .. }) => oldest_draining(&status),
                Standing::Pending(_) if !is_starting(&status) => None,
                Standing::Pending(_)
                | Standing::Nothing
                | Standing::Live(_)
                | Standing::GivenUp(_)
                | Standing::Stayed
                | Standing::Ending => return released,
            }
        };
        if let Some(epoch) = held_by {
            let facts = proxy.facts().await;
            let facts = facts.epochs.get(&epoch);
            released.push(Released {
                epoch: epoch.number(),
                active_connections: facts.and_then(|facts| facts.active_connections),
                cut: P::RELEASED_IS_CUT,
            });
            warn!(
                epoch = epoch.number(),
                "epoch {epoch} does not hold the next start any more, as asked"
            );
            handle.release(epoch);
        }
        // The channel closes when the agent has ended.
        if status.changed().await.is_err() {
            return released;
        }
    }
}

/// Whether what is desired is being started.
fn is_starting(status: &Status) -> bool {
    let mut epochs = status.epochs.iter();
    epochs.any(|info| info.desired && info.state == EpochState::Starting)
}

fn oldest_draining(status: &Status) -> Option<Epoch> {
    let mut epochs = status.epochs.iter();
    let draining = epochs.find(|info| info.state == EpochState::Draining && !info.released);
    draining.map(|info| info.epoch)
}

/// The result, if it comes in time.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    future: impl Future<Output = T>,
) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

fn not_live<P: Operate>(error: &NotLive) -> Refusal {
    let code = match error {
        NotLive::GivenUp { .. } => Code::Rejected,
        NotLive::Replaced => Code::Replaced,
        NotLive::NotApplied(_) | NotLive::Ended => Code::Ending,
        NotLive::Stayed | _ => Code::Failed,
    };
    let mut refusal = Refusal::new(code, error_chain(error));
    if let NotLive::GivenUp {
        failure: Some(failure),
        ..
    } = error
    {
        refusal.lines = P::last_words(&*failure.error);
    }
    refusal
}

fn too_late(limit: Duration, status: &Status) -> Refusal {
    let why = status.held.map(|held| held_in_words(held, status));
    let why = why.or_else(|| {
        let epoch = status.epochs.iter().rev().find(|info| info.desired)?;
        Some(format!("epoch {} is not live yet", epoch.epoch))
    });
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let last = status.last_failure.as_ref().map(|failure| {
        let epoch = failure.epoch;
        format!("epoch {epoch} failed: {}", failure.message())
    });
    let mut refusal = Refusal::new(
        Code::TimedOut,
        format!("not live within {}{why}", humantime::format_duration(limit)),
    );
    refusal.lines.extend(last);
    refusal
}
