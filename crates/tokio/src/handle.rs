//! Requests to a running agent.

use std::sync::{Arc, OnceLock};

use handover_core::{Denied, Epoch, Event, Input, Urgency};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::agent::Message;
use crate::control::Report;
use crate::{Failure, Status};

/// Sends requests to an agent, from any task. Handles can be cloned. Dropping them does not end the
/// agent.
pub struct Handle<C> {
    messages: mpsc::UnboundedSender<Message<C>>,
    status: watch::Receiver<Status>,
    events: Events,
}

/// The channel of an agent's events. It is made with the first receiver, because its slots take 16 kB
/// and most agents have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<OnceLock<broadcast::Sender<Event>>>);

impl Events {
    /// How many events a slow subscriber may lag behind.
    const CAPACITY: usize = 256;

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        let make = || broadcast::Sender::new(Self::CAPACITY);
        self.0.get_or_init(make).subscribe()
    }

    /// Sends an event to all receivers. There may be none.
    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = self.0.get() {
            let _unheard = sender.send(event);
        }
    }
}

/// The result of a request with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// The configuration is now the desired one.
    Changed,
    /// The configuration was the desired one already.
    Unchanged,
}

/// The reason why a configuration was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The agent is terminating.
    #[error("the agent is terminating and accepts no configuration")]
    Terminating,
    /// The agent has ended, or was dropped without being run.
    #[error("the agent has ended")]
    Ended,
}

/// A configuration that was accepted, on its way to live. Dropping this value changes nothing for
/// the configuration.
#[derive(Debug)]
pub struct Followed(oneshot::Receiver<Result<Epoch, NotLive>>);

impl Followed {
    /// Waits until the configuration is live, and returns its epoch.
    ///
    /// # Errors
    ///
    /// Returns an error once the configuration is replaced or given up, or the agent ends.
    pub async fn live(self) -> Result<Epoch, NotLive> {
        self.0.await.unwrap_or(Err(NotLive::Ended))
    }
}

/// The reason why a configuration did not go live.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLive {
    /// The configuration was not accepted.
    #[error("the configuration was not accepted")]
    NotApplied(#[source] ApplyError),
    /// Another configuration was requested before this one was live.
    #[error("another configuration was asked for before this one was live")]
    Replaced,
    /// The configuration was given up.
    #[error("the configuration was given up after epoch {epoch}{}", because(.failure.as_ref()))]
    GivenUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// How that epoch failed, if that is known.
        failure: Option<Failure>,
    },
    /// The epoch ended cleanly, and the policy counts that as wanted.
    #[error("the proxy ended cleanly and is not restarted")]
    NotRestarted,
    /// The agent terminates or has ended.
    #[error("the agent ended before the configuration was live")]
    Ended,
}

fn because(failure: Option<&Failure>) -> String {
    failure
        .map(|failure| format!(": {}", failure.message()))
        .unwrap_or_default()
}

impl<C> Handle<C> {
    pub(crate) fn new(
        messages: mpsc::UnboundedSender<Message<C>>,
        status: watch::Receiver<Status>,
        events: Events,
    ) -> Self {
        Self {
            messages,
            status,
            events,
        }
    }

    /// Requests this configuration, and returns once the control loop has accepted it and
    /// [`status`](Self::status) shows the state that this has led to.
    ///
    /// The agent need not run yet. The call then waits until [`Agent::run`](crate::Agent::run) is
    /// polled, or until the agent is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if the agent is terminating, has ended, or was dropped without being run.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the configuration is applied all the same.
    /// Only the answer is lost.
    #[doc(alias = "ConfigCh")]
    pub async fn apply(&self, config: C) -> Result<Applied, ApplyError> {
        self.ask(Input::Desire(config)).await
    }

    /// Requests this configuration as [`apply`](Self::apply) does. The returned [`Followed`]
    /// reports when it is live, and can be awaited elsewhere.
    ///
    /// # Errors
    ///
    /// Returns an error if the agent is terminating or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_and_follow(&self, config: C) -> Result<(Applied, Followed), ApplyError> {
        self.ask_and_follow(Input::Desire(config)).await
    }

    /// Requests this configuration, and returns the epoch that is live with it.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is refused, replaced by another one, or given up, or
    /// if the agent ends before it is live.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_and_wait(&self, config: C) -> Result<Epoch, NotLive> {
        self.ask_and_wait(Input::Desire(config)).await
    }

    /// Requests the next epoch with this configuration, even if an equal one is desired or runs
    /// already. Use it if files that the proxy reads beside its configuration have changed. It
    /// returns [`Applied::Changed`] once the control loop has accepted the request; see
    /// [`Input::Renew`].
    ///
    /// # Errors
    ///
    /// Returns an error if the agent is terminating or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn renew(&self, config: C) -> Result<Applied, ApplyError> {
        self.ask(Input::Renew(config)).await
    }

    /// Requests the next epoch as [`renew`](Self::renew) does. The returned [`Followed`] reports
    /// when it is live.
    ///
    /// # Errors
    ///
    /// Returns an error if the agent is terminating or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn renew_and_follow(&self, config: C) -> Result<(Applied, Followed), ApplyError> {
        self.ask_and_follow(Input::Renew(config)).await
    }

    /// Requests the next epoch as [`renew`](Self::renew) does, and returns the epoch that is live
    /// with the configuration.
    ///
    /// A waiter for the same configuration stays registered, and gets the same answer.
    ///
    /// # Errors
    ///
    /// As [`apply_and_wait`](Self::apply_and_wait).
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn renew_and_wait(&self, config: C) -> Result<Epoch, NotLive> {
        self.ask_and_wait(Input::Renew(config)).await
    }

    /// Requests a cold restart with this configuration, even if it is the desired one already.
    /// Every epoch is ended, and then the configuration is started as epoch 0. It returns once the
    /// control loop has accepted the request. The result is [`Applied::Unchanged`] if this very
    /// restart is already under way.
    ///
    /// Nothing serves from the first abort until the new epoch 0 is live. If a hand-over is
    /// possible, use [`apply`](Self::apply). The exit of an aborted epoch is no failure, and costs
    /// no retry. If the new epoch 0 fails, see [`Input::Restart`].
    ///
    /// # Errors
    ///
    /// Returns an error if the agent is terminating or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply): the restart continues, and only the answer is lost.
    pub async fn restart(&self, config: C) -> Result<Applied, ApplyError> {
        self.ask(Input::Restart(config)).await
    }

    /// Requests a cold restart as [`restart`](Self::restart) does. The returned [`Followed`]
    /// reports when the configuration is live.
    ///
    /// # Errors
    ///
    /// Returns an error if the agent is terminating or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`restart`](Self::restart).
    pub async fn restart_and_follow(&self, config: C) -> Result<(Applied, Followed), ApplyError> {
        self.ask_and_follow(Input::Restart(config)).await
    }

    /// Requests a cold restart as [`restart`](Self::restart) does, and returns the epoch that is
    /// live with the configuration. That is epoch 0. If epoch 0 fails, it can be a later one,
    /// beside the configuration that served before.
    ///
    /// A waiter for the same configuration stays registered, and gets the same answer.
    ///
    /// # Errors
    ///
    /// As [`apply_and_wait`](Self::apply_and_wait).
    ///
    /// # Cancel safety
    ///
    /// As [`restart`](Self::restart).
    pub async fn restart_and_wait(&self, config: C) -> Result<Epoch, NotLive> {
        self.ask_and_wait(Input::Restart(config)).await
    }

    /// Stops counting this draining epoch towards [`Policy::max_epochs`], so that a change which
    /// waits for it starts at once. The call does nothing if the epoch does not drain.
    ///
    /// The caller must know what the proxy does then: a real Envoy ends its oldest epoch when a
    /// third one starts.
    ///
    /// [`Policy::max_epochs`]: handover_core::Policy::max_epochs
    pub fn release(&self, epoch: Epoch) {
        // An agent that has ended has nothing to release.
        let _ended = self.send(Message::Reported(epoch, Report::Released));
    }

    /// Reports that this live epoch serves worse than the one before, with what was seen, as a sentence.
    /// It counts only while the epoch is on its
    /// [`Policy::probation`](handover_core::Policy::probation); see [`Input::Unfit`] for what follows.
    ///
    /// The evidence is the [`Status::last_failure`] of the epoch from then on. So whoever waits for
    /// the configuration hears it.
    pub fn unfit(&self, epoch: Epoch, evidence: impl Into<String>) {
        // An agent that has ended has nothing to go back to.
        let _ended = self.send(Message::Unfit(epoch, evidence.into()));
    }

    /// Ends the agent with this urgency. The strongest urgency so far counts. A weaker or equal one
    /// changes nothing.
    pub fn terminate(&self, urgency: Urgency) {
        // An agent that has ended needs no telling.
        let _ended = self.send(Message::Terminate(urgency));
    }

    /// Returns a channel that always has the newest state of the agent. It closes when the agent
    /// has ended.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Returns the agent's events from this moment on. A receiver that falls behind by more than
    /// 256 events misses the oldest ones, and gets their number.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    async fn ask(&self, input: Input<C>) -> Result<Applied, ApplyError> {
        let (answer, answered) = oneshot::channel();
        let message = Message::Asked {
            input,
            answer,
            waiter: None,
        };
        self.send(message).map_err(|_| ApplyError::Ended)?;
        answered.await.unwrap_or(Err(ApplyError::Ended))
    }

    async fn ask_and_follow(&self, input: Input<C>) -> Result<(Applied, Followed), ApplyError> {
        let (answer, answered) = oneshot::channel();
        let (waiter, settled) = oneshot::channel();
        let message = Message::Asked {
            input,
            answer,
            waiter: Some(waiter),
        };
        self.send(message).map_err(|_| ApplyError::Ended)?;
        let applied = answered.await.unwrap_or(Err(ApplyError::Ended))?;
        Ok((applied, Followed(settled)))
    }

    async fn ask_and_wait(&self, input: Input<C>) -> Result<Epoch, NotLive> {
        match self.ask_and_follow(input).await {
            Ok((_, followed)) => followed.live().await,
            Err(ApplyError::Ended) => Err(NotLive::Ended),
            Err(error @ ApplyError::Terminating) => Err(NotLive::NotApplied(error)),
        }
    }

    fn send(&self, message: Message<C>) -> Result<(), mpsc::error::SendError<Message<C>>> {
        self.messages.send(message)
    }
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self::new(
            self.messages.clone(),
            self.status.clone(),
            self.events.clone(),
        )
    }
}

impl<C> std::fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl From<Denied> for ApplyError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Finished => Self::Ended,
            // Whatever else denies a configuration is a part of the end.
            Denied::Terminating | _ => Self::Terminating,
        }
    }
}
