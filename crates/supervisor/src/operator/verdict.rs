//! Whether clients should be sent here, in one word and one sentence.
//!
//! ```text
//!   the end has begun                               TERMINATING   not ready
//!   no epoch is seen to serve                       NOT_READY     not ready
//!   an epoch serves, and it is the desired one      READY         ready, current
//!   an epoch serves, but not what is desired        DEGRADED      ready
//! ```
//!
//! During a hand-over an epoch serves at every moment. So the word goes from READY to DEGRADED and back, and the
//! instance stays ready.
//!
//! A drain that is under way is TERMINATING and not ready, although its epochs finish the requests of their
//! clients. New clients should go elsewhere.
//!
//! A reason holds no text from a file, a proxy or a user, so anyone may read it.

use core::fmt;

use handover_core::{Epoch, Held, Phase, Standing, Urgency};

use super::Operator;

/// Whether clients should be sent to this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// The word for programs.
    pub health: Health,
    /// The reason for people.
    pub why: Why,
}

/// One word for the state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Health {
    /// What is desired serves.
    Ready,
    /// An epoch serves, but not what is desired.
    Degraded,
    /// Nothing is seen to serve.
    NotReady,
    /// Everything is to end.
    Terminating,
}

/// Why an instance is in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Why {
    /// This epoch serves what is desired.
    Serves(Epoch),
    /// This epoch serves, and what is desired does not.
    ServesOther(Epoch, Lacking),
    /// This epoch is live, and nobody has looked yet whether it listens for clients.
    NotSeen(Epoch),
    /// This epoch is live, but nothing is seen to listen for clients.
    NotListening(Epoch),
    /// No epoch is live.
    NothingServes(Lacking),
    /// Everything ends, and connections are waited for.
    Draining,
    /// Everything ends without a drain.
    Stopping,
    /// Nothing runs any more.
    Ended,
}

/// Why what is desired does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Lacking {
    /// The files, as they are, ask for nothing that can be run.
    Unusable,
    /// What serves stands in for files that asked for nothing that can be run.
    StandIn,
    /// Nothing is read before the awaited files are there.
    AwaitsFiles,
    /// No client has given a configuration.
    AwaitsConfiguration,
    /// No configuration was read yet.
    NotRead,
    /// The agent was asked for it, and has not shown yet what becomes of it.
    Asked,
    /// The start of it is held.
    Held(Held),
    /// It was given up. This epoch failed last.
    GivenUp(Epoch),
    /// Its epoch ended cleanly, and is not started again.
    NotRestarted,
}

impl Verdict {
    /// Returns whether an epoch is seen to serve, and the end has not begun.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.health {
            Health::Ready | Health::Degraded => true,
            Health::NotReady | Health::Terminating => false,
        }
    }

    /// Returns whether what serves is what is desired.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.health == Health::Ready
    }
}

impl<C: Clone + Eq> Operator<C> {
    /// Returns whether clients should be sent to this instance, and why.
    ///
    /// Between [`Input::TakenIn`](super::Input::TakenIn) and the state of the agent that follows it, this is
    /// about the state before.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let why = self.why();
        let health = match why {
            Why::Serves(_) => Health::Ready,
            Why::ServesOther(..) => Health::Degraded,
            Why::NotSeen(_) | Why::NotListening(_) | Why::NothingServes(_) => Health::NotReady,
            Why::Draining | Why::Stopping | Why::Ended => Health::Terminating,
        };
        Verdict { health, why }
    }

    fn why(&self) -> Why {
        if self.ended.is_some() {
            return Why::Ended;
        }
        if self.is_ending() {
            return match self.urgency {
                Some(Urgency::Stop | Urgency::Kill) => Why::Stopping,
                Some(Urgency::Drain) | None => match self.agent.phase {
                    Phase::Running | Phase::Draining { .. } => Why::Draining,
                    Phase::Stopping(_) => Why::Stopping,
                    Phase::Finished(_) => Why::Ended,
                },
            };
        }
        let Some(live) = self.agent.live() else {
            return Why::NothingServes(self.lacking(None).unwrap_or(Lacking::Asked));
        };
        if !self.is_ready() {
            return match self.looks.listening() {
                Some(false) => Why::NotListening(live),
                Some(true) | None => Why::NotSeen(live),
            };
        }
        match self.lacking(Some(live)) {
            None => Why::Serves(live),
            Some(lacking) => Why::ServesOther(live, lacking),
        }
    }

    /// Returns why what is desired does not serve, with this live epoch; `None` if it serves.
    fn lacking(&self, live: Option<Epoch>) -> Option<Lacking> {
        if self.awaits_files() {
            return Some(Lacking::AwaitsFiles);
        }
        if self.awaits_configuration() {
            return Some(Lacking::AwaitsConfiguration);
        }
        if self.problem.is_some() {
            return Some(Lacking::Unusable);
        }
        let is_offered = self.change.is_some_and(|change| !change.taken_in);
        if is_offered {
            return Some(Lacking::Asked);
        }
        match self.agent.standing {
            Standing::Live(desired) if Some(desired) == live => {
                self.stands_in().then_some(Lacking::StandIn)
            }
            Standing::Live(_) | Standing::Ending => Some(Lacking::Asked),
            Standing::Nothing if self.wanted.is_some() => Some(Lacking::Asked),
            Standing::Nothing => Some(Lacking::NotRead),
            Standing::Pending(held) => Some(Lacking::Held(held)),
            Standing::GivenUp(epoch) => Some(Lacking::GivenUp(epoch)),
            Standing::NotRestarted => Some(Lacking::NotRestarted),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "READY",
            Self::Degraded => "DEGRADED",
            Self::NotReady => "NOT_READY",
            Self::Terminating => "TERMINATING",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serves(epoch) => write!(f, "epoch {epoch} serves what is desired"),
            Self::ServesOther(epoch, lacking) => {
                write!(
                    f,
                    "epoch {epoch} serves, but not what is desired: {lacking}"
                )
            }
            Self::NotSeen(epoch) => write!(
                f,
                "epoch {epoch} is live, and was not yet seen to listen for clients"
            ),
            Self::NotListening(epoch) => {
                write!(f, "epoch {epoch} is live, but nothing listens for clients")
            }
            Self::NothingServes(lacking) => write!(f, "nothing serves: {lacking}"),
            Self::Draining => f.write_str("draining: new clients should go elsewhere"),
            Self::Stopping => f.write_str("stopping without a drain"),
            Self::Ended => f.write_str("everything has ended"),
        }
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable => f.write_str(
                "the files ask for nothing that can be run (`handover status` shows the reason)",
            ),
            Self::StandIn => {
                f.write_str("it stands in for files that asked for nothing that could be run")
            }
            Self::AwaitsFiles => f.write_str("files are awaited (`handover status` shows which)"),
            Self::AwaitsConfiguration => {
                f.write_str("a configuration is awaited (`handover apply` gives one)")
            }
            Self::NotRead => f.write_str("no configuration was read yet"),
            Self::Asked => f.write_str("it was asked for just now"),
            // The moment is one of the agent's clock, which means nothing outside.
            Self::Held(Held::Retry(_)) => f.write_str("its start has failed, and a retry is due"),
            Self::Held(Held::Interval(_)) => {
                f.write_str("its start waits for the shortest time between two changes")
            }
            Self::Held(held) => write!(f, "{held}"),
            Self::GivenUp(epoch) => {
                write!(
                    f,
                    "the desired configuration was given up, and epoch {epoch} failed last"
                )
            }
            Self::NotRestarted => f.write_str("the proxy ended cleanly and is not restarted"),
        }
    }
}
