//! Speaking to a running agent.

use std::sync::{Arc, OnceLock};

use handover_core::{Denied, Epoch, Event, Input, Urgency};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::agent::Message;
use crate::control::Report;
use crate::{Failure, Status};

/// Speaks to an agent, from any task. Handles can be cloned; dropping them does not end the agent.
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

/// What became of a configuration that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// It is desired from here on.
    Changed,
    /// It was desired already.
    Unchanged,
}

/// Why a configuration was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The agent terminates.
    #[error("the agent is terminating and accepts no configuration")]
    Terminating,
    /// The agent has ended, or was dropped without being run.
    #[error("the agent has ended")]
    Ended,
}

/// How a configuration that was taken in goes on. Dropping it changes nothing for the configuration.
#[derive(Debug)]
pub struct Followed(oneshot::Receiver<Result<Epoch, NotLive>>);

impl Followed {
    /// Waits until the configuration is live, replaced or given up; returns the epoch that is live
    /// with it.
    ///
    /// # Errors
    ///
    /// Why it is not going to be live.
    pub async fn live(self) -> Result<Epoch, NotLive> {
        self.0.await.unwrap_or(Err(NotLive::Ended))
    }
}

/// Why a configuration did not go live.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLive {
    /// It was not taken in.
    #[error("the configuration was not accepted")]
    NotApplied(#[source] ApplyError),
    /// Another one was asked for before it was live.
    #[error("another configuration was asked for before this one was live")]
    Replaced,
    /// It was given up.
    #[error("the configuration was given up after epoch {epoch}{}", because(.failure.as_ref()))]
    GivenUp {
        /// The last epoch that failed with it.
        epoch: Epoch,
        /// How that epoch failed, if that is known.
        failure: Option<Failure>,
    },
    /// Its epoch ended cleanly, and that was taken as wanted.
    #[error("the proxy ended cleanly and is not restarted")]
    Stayed,
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

    /// Asks for this configuration, and returns once the control loop has taken it in.
    ///
    /// An agent may be asked before it runs. The call then waits until [`Agent::run`](crate::Agent::run)
    /// is polled, or until the agent is dropped.
    ///
    /// # Errors
    ///
    /// When the agent terminates, has ended, or was dropped without being run.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped after its first poll, the configuration is applied all the same;
    /// only the answer is lost.
    #[doc(alias = "ConfigCh")]
    pub async fn apply(&self, config: C) -> Result<Applied, ApplyError> {
        self.ask(Input::Desire(config)).await
    }

    /// Asks for this configuration as [`apply`](Self::apply) does, and returns besides what tells
    /// how it goes on, for whoever wants to wait for that elsewhere.
    ///
    /// # Errors
    ///
    /// When the agent terminates or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_and_follow(&self, config: C) -> Result<(Applied, Followed), ApplyError> {
        self.ask_and_follow(Input::Desire(config)).await
    }

    /// Asks for this configuration, and returns the epoch that is live with it.
    ///
    /// # Errors
    ///
    /// When the configuration is not taken in, replaced by another one, or given up, with the
    /// reason, or when the agent ends before.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_and_wait(&self, config: C) -> Result<Epoch, NotLive> {
        self.ask_and_wait(Input::Desire(config)).await
    }

    /// Asks for the next epoch with this configuration, also where an equal one is desired or runs
    /// already: what the proxy reads beside its configuration may have changed. Returns once the
    /// control loop has taken it in, with [`Applied::Changed`]; see [`Input::Renew`].
    ///
    /// # Errors
    ///
    /// When the agent terminates or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn renew(&self, config: C) -> Result<Applied, ApplyError> {
        self.ask(Input::Renew(config)).await
    }

    /// Asks for the next epoch as [`renew`](Self::renew) does, and returns besides what tells how it
    /// goes on.
    ///
    /// # Errors
    ///
    /// When the agent terminates or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply).
    pub async fn renew_and_follow(&self, config: C) -> Result<(Applied, Followed), ApplyError> {
        self.ask_and_follow(Input::Renew(config)).await
    }

    /// Asks for the next epoch as [`renew`](Self::renew) does, and returns the epoch that is live with
    /// the configuration.
    ///
    /// Another waiter for the same configuration stays registered, and is answered as this call is.
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

    /// Asks for a cold restart with this configuration, also where it is the desired one already:
    /// everything that runs is ended, and then it is started as epoch 0. Returns once the control
    /// loop has taken it in, [`Applied::Unchanged`] where that very restart is under way.
    ///
    /// Nothing serves from the first abort until the new epoch 0 is live; where a hand-over can do,
    /// use [`apply`](Self::apply). What an aborted epoch does is no failure, and costs no retry.
    /// When the new epoch 0 fails, see [`Input::Restart`].
    ///
    /// # Errors
    ///
    /// When the agent terminates or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`apply`](Self::apply): the restart goes on, only the answer is lost.
    pub async fn restart(&self, config: C) -> Result<Applied, ApplyError> {
        self.ask(Input::Restart(config)).await
    }

    /// Asks for a cold restart as [`restart`](Self::restart) does, and returns besides what tells
    /// how it goes on.
    ///
    /// # Errors
    ///
    /// When the agent terminates or has ended.
    ///
    /// # Cancel safety
    ///
    /// As [`restart`](Self::restart).
    pub async fn restart_and_follow(&self, config: C) -> Result<(Applied, Followed), ApplyError> {
        self.ask_and_follow(Input::Restart(config)).await
    }

    /// As [`restart`](Self::restart), and returns the epoch that is live with the configuration: 0,
    /// unless that failed and a later one went live beside the configuration that served before.
    ///
    /// Whoever waits for the same configuration goes on waiting, and is answered as this call is.
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
    /// waits for it is started at once. Who calls it takes upon themselves what the proxy does to
    /// the epoch then: a real Envoy ends its oldest epoch when a third one starts. An epoch that
    /// does not drain is left as it is.
    ///
    /// [`Policy::max_epochs`]: handover_core::Policy::max_epochs
    pub fn release(&self, epoch: Epoch) {
        // An agent that has ended has nothing to release.
        let _ended = self.send(Message::Reported(epoch, Report::Released));
    }

    /// Ends the agent, so urgently. The strongest urgency said so far counts; a weaker or an equal one
    /// changes nothing.
    pub fn terminate(&self, urgency: Urgency) {
        // An agent that has ended needs no telling.
        let _ended = self.send(Message::Terminate(urgency));
    }

    /// The agent's state, as a channel that always has the last one. It closes when the agent has
    /// ended.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The agent's events from here on. A receiver that falls behind by more than 256 events misses
    /// the oldest ones and is told how many.
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
