//! A drain that somebody asks for while the agent goes on: health checks fail, so that load balancers
//! send nobody here, and Envoy asks every client that it answers to close. Listeners stay open.
//!
//! It belongs to the agent, not to an epoch: one that goes live meanwhile is drained as well.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_tokio::error_chain;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::super::EnvoyFailed;
use super::super::running::{EnvoyProcess, RunningEpochs, UnknownCount};
use crate::admin::{
    AdminClient, AdminError, ListenerConnections, NotLive, ServerInfo, ServerState,
};

/// How often it is looked whether a call had its effect, and the pause between two looks. Envoy
/// takes the call in before it answers, so the first look sees it.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);

/// Whether drains were asked for: one that can be taken back, and that of a stop.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Drains {
    /// One change at a time, and none while an epoch goes live.
    turn: Mutex<()>,
    drained: AtomicBool,
    /// Whether a stop drains, which closes the listeners for good.
    stops: AtomicBool,
    /// The last end of an epoch that served and was asked to end by nobody here.
    lost: std::sync::Mutex<Option<(Instant, EnvoyFailed)>>,
}

/// An epoch that has ended so short a time before a stop was told to end together with handover, as by
/// `KillMode=control-group` of systemd. Signals that are sent together may arrive in any order.
const TOGETHER: Duration = Duration::from_secs(1);

impl Drains {
    /// Notes that a stop drains from here on.
    pub(in crate::adapter) fn begin_stop(&self) {
        if self.stops.swap(true, Ordering::Relaxed) {
            return;
        }
        // What is asked for later has come together with this moment, and not with that one.
        let mut lost = self.lost();
        if lost
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() >= TOGETHER)
        {
            *lost = None;
        }
    }

    /// Tells what was noted last of such an end, if it has come together with the stop. Where none has begun, it has found
    /// nothing to drain, and begins now. However often this is asked, the answer is the same.
    pub(in crate::adapter) fn lost_in_words(&self) -> Option<String> {
        self.begin_stop();
        self.lost()
            .as_ref()
            .map(|(_, failure)| error_chain(failure))
    }

    /// Notes that an epoch that served has ended without being asked to. Its clients were drained by nobody.
    pub(in crate::adapter) fn note_lost(&self, failure: EnvoyFailed) {
        *self.lost() = Some((Instant::now(), failure));
    }

    /// Takes what was noted last of such an end, if it has come together with the stop. A stop that has found nothing to
    /// drain begins now.
    pub(in crate::adapter) fn take_lost(&self) -> Option<EnvoyFailed> {
        let (at, failure) = self.lost().take()?;
        (self.stop_drains() || at.elapsed() < TOGETHER).then_some(failure)
    }

    fn lost(&self) -> MutexGuard<'_, Option<(Instant, EnvoyFailed)>> {
        // Nothing in here is left half-way by a panic.
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a stop drains.
    pub(in crate::adapter) fn stop_drains(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// Returns whether a drain was asked for and not taken back.
    pub(in crate::adapter) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Notes that an epoch is live, and returns whether it is. Where a drain was asked for, its health
    /// checks fail before anybody here counts on it.
    pub(in crate::adapter) async fn go_live(
        &self,
        running: &RunningEpochs,
        process: &EnvoyProcess,
        info: &ServerInfo,
    ) -> bool {
        let _turn = self.turn.lock().await;
        let epoch = process.epoch;
        if self.is_drained()
            && let Err(error) = wait_for_effect(&process.admin(), epoch, true).await
        {
            let error = error_chain(&error);
            tracing::error!(
                epoch = epoch.number(),
                "a drain was requested, but the health checks of epoch {epoch} still succeed: {error}"
            );
        }
        let is_live = running.go_live(process, info.clone());
        if is_live {
            // A stop drains this one, and what was lost before it is another matter.
            *self.lost() = None;
        }
        is_live
    }

    /// Lets an epoch that starts say again how far it is, if a drain has met it in place of the one before: while
    /// health checks fail, Envoy says `DRAINING` and nothing else. They fail again before it counts as live.
    pub(in crate::adapter) async fn uncover(&self, admin: &AdminClient, obstacle: &NotLive) {
        let is_covered = matches!(
            obstacle,
            NotLive::State {
                state: ServerState::Draining,
                ..
            }
        );
        if is_covered && self.is_drained() {
            // The next look shows whether it had an effect.
            let _told = admin.healthcheck_ok().await;
        }
    }

    /// Begins a drain, or takes it back. Returns the live epoch that was told, if there is one and it can be told: it
    /// cannot while the next one has its endpoint.
    pub(in crate::adapter) async fn change(
        &self,
        running: &RunningEpochs,
        drained: bool,
    ) -> Result<Option<Epoch>, OnRequestError> {
        let _turn = self.turn.lock().await;
        if self.stop_drains() {
            return Err(OnRequestError::Stopping);
        }
        let before = self.drained.swap(drained, Ordering::Relaxed);
        let Some(process) = running.newest_live() else {
            return Ok(None);
        };
        let admin = process.admin();
        let is_newest = running
            .newest()
            .is_none_or(|newest| newest.epoch == process.epoch);
        if !is_newest && !has_its_endpoint(&admin, process.restart_epoch()).await {
            // The next epoch has taken it, or is about to. That one is told when it goes live.
            return Ok(None);
        }
        match wait_for_effect(&admin, process.epoch, drained).await {
            Ok(()) => Ok(Some(process.epoch)),
            Err(error) => {
                self.drained.store(before, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

/// Why a drain was not begun or not taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnRequestError {
    /// The live epoch could not be asked.
    #[error("cannot ask epoch {epoch}")]
    Admin {
        /// The live epoch.
        epoch: Epoch,
        /// The error behind this one.
        #[source]
        source: AdminError,
    },
    /// The live epoch has heard it and does not act on it.
    #[error("the health checks of epoch {epoch} still report {state} after the request")]
    NoEffect {
        /// The live epoch.
        epoch: Epoch,
        /// What `/ready` says.
        state: String,
    },
    /// A stop drains already.
    #[error("a stop has begun and cannot be reversed: the listeners are closed")]
    Stopping,
}

/// What keeps a drain from being over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding {
    /// The epoch that has the connections.
    pub epoch: Epoch,
    /// How many there are, or `None` where they cannot be counted: then there may be some.
    pub connections: Option<u64>,
    /// The name of their listener in Envoy's statistics, where it is known.
    pub listener: Option<String>,
    /// Why they cannot be counted, if they cannot.
    pub unknown: Option<String>,
}

/// For people: `3 connections on listener X of epoch 1`.
impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(connections) = self.connections else {
            write!(f, "unknown connections of epoch {}", self.epoch)?;
            return match &self.unknown {
                Some(why) => write!(f, ": {why}"),
                None => Ok(()),
            };
        };
        let s = if connections == 1 { "" } else { "s" };
        write!(f, "{connections} connection{s}")?;
        if let Some(listener) = &self.listener {
            write!(f, " on listener {listener}")?;
        }
        write!(f, " of epoch {}", self.epoch)
    }
}

/// Returns the connections that clients have at this moment.
pub(in crate::adapter) async fn holding(running: &RunningEpochs) -> Vec<Holding> {
    running.note_listening().await;
    let live = running.newest_live().map(|process| process.epoch);
    let mut holding = Vec::new();
    for process in running.all() {
        let counted = match live == Some(process.epoch) {
            true => running.count_live(&process).await,
            false => running.count_old(&process).await,
        };
        holding.extend(held(process.epoch, counted));
    }
    holding
}

/// What an epoch adds to what holds a drain. One that has ended adds nothing.
fn held(epoch: Epoch, counted: Result<Vec<ListenerConnections>, UnknownCount>) -> Vec<Holding> {
    match counted {
        Ok(listeners) => listeners
            .into_iter()
            .map(|listener| Holding {
                epoch,
                connections: Some(listener.active),
                listener: Some(listener.listener),
                unknown: None,
            })
            .collect(),
        Err(why) if why.has_ended() => Vec::new(),
        Err(why) => vec![Holding {
            epoch,
            connections: None,
            listener: None,
            unknown: Some(why.to_string()),
        }],
    }
}

/// Returns whether the epoch of this number answers at its endpoint.
async fn has_its_endpoint(admin: &AdminClient, restart_epoch: u32) -> bool {
    let info = admin.server_info().await;
    info.is_ok_and(|info| info.restart_epoch == restart_epoch)
}

/// Makes health checks fail or succeed, and sees that they do.
async fn wait_for_effect(
    admin: &AdminClient,
    epoch: Epoch,
    drained: bool,
) -> Result<(), OnRequestError> {
    let failed = |source| OnRequestError::Admin { epoch, source };
    let told = match drained {
        true => admin.healthcheck_fail().await,
        false => admin.healthcheck_ok().await,
    };
    told.map_err(failed)?;
    let mut looks = 0;
    loop {
        let ready = admin.ready().await.map_err(failed)?;
        if ready.serving != drained {
            return Ok(());
        }
        looks += 1;
        if looks == LOOKS {
            let state = ready.state;
            return Err(OnRequestError::NoEffect { epoch, state });
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::fake_peer::{FakePeer, ok};

    fn draining() -> Vec<u8> {
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\nDRAINING\n".to_vec()
    }

    #[tokio::test]
    async fn a_call_is_believed_once_its_effect_is_seen() {
        let peer = FakePeer::answers([ok("OK\n"), ok("LIVE\n"), draining()]).await;
        wait_for_effect(&peer.client(), Epoch::ZERO, true)
            .await
            .unwrap();
        assert_eq!(peer.asked(), 3);
    }

    #[tokio::test]
    async fn a_call_without_effect_is_an_error_that_tells_the_state() {
        let heard = FakePeer::always(ok("LIVE\n")).await;
        let error = wait_for_effect(&heard.client(), Epoch::new(3), true)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the health checks of epoch 3 still report LIVE after the request"
        );
        let peer = FakePeer::answers([ok("OK\n"), draining()]).await;
        let error = wait_for_effect(&peer.client(), Epoch::ZERO, false)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("still report DRAINING after the request"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_epoch_that_a_drain_has_met_while_it_starts_says_again_how_far_it_is() {
        let peer = FakePeer::always(ok("OK\n")).await;
        let is = |state| NotLive::State { epoch: 1, state };
        let drains = Drains::default();
        drains
            .uncover(&peer.client(), &is(ServerState::Draining))
            .await;
        assert_eq!(peer.asked(), 0, "somebody else drains it");
        drains.drained.store(true, Ordering::Relaxed);
        drains
            .uncover(&peer.client(), &is(ServerState::Initializing))
            .await;
        assert_eq!(peer.asked(), 0);
        drains
            .uncover(&peer.client(), &is(ServerState::Draining))
            .await;
        assert_eq!(peer.asked(), 1);
    }

    #[test]
    fn what_holds_is_told_in_words() {
        let mut holding = Holding {
            epoch: Epoch::new(1),
            connections: Some(3),
            listener: Some("web".to_owned()),
            unknown: None,
        };
        assert_eq!(
            holding.to_string(),
            "3 connections on listener web of epoch 1"
        );
        holding.listener = None;
        holding.connections = Some(1);
        assert_eq!(holding.to_string(), "1 connection of epoch 1");
        holding.connections = None;
        holding.unknown = Some("no table".to_owned());
        assert_eq!(
            holding.to_string(),
            "unknown connections of epoch 1: no table"
        );
    }

    #[test]
    fn what_is_unknown_holds_and_what_has_ended_does_not() {
        let epoch = Epoch::new(2);
        let web = ListenerConnections {
            listener: "web".to_owned(),
            active: 2,
        };
        let of = |counted| {
            let held = held(epoch, counted);
            let held: Vec<_> = held.iter().map(ToString::to_string).collect();
            held.join("; ")
        };
        assert_eq!(
            of(Ok(vec![web])),
            "2 connections on listener web of epoch 2"
        );
        assert_eq!(of(Err(UnknownCount::of_ended())), "");
        let unknown = of(Err(UnknownCount::of_running()));
        let start = "unknown connections of epoch 2: not from outside: ";
        assert!(unknown.starts_with(start), "{unknown}");
    }

    #[tokio::test]
    async fn a_drain_is_remembered_for_the_next_epoch_until_it_is_taken_back_or_a_stop_begins() {
        let running = RunningEpochs::new(crate::admin::Exclude::default());
        let drains = Drains::default();
        assert!(!drains.is_drained() && !drains.stop_drains());
        for drained in [true, false, true] {
            let told = drains.change(&running, drained).await.unwrap();
            assert_eq!((told, drains.is_drained()), (None, drained));
        }
        drains.begin_stop();
        assert!(drains.stop_drains());
        let error = drains.change(&running, false).await.unwrap_err();
        assert!(matches!(error, OnRequestError::Stopping), "{error}");
        assert!(drains.is_drained());
    }
}
