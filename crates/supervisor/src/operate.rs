//! What a proxy can be asked and told beside what the state machine knows of it.

#[cfg(feature = "envoy")]
mod envoy;
mod listeners;

use std::collections::BTreeMap;
use std::error::Error;
use std::future::pending;

use async_trait::async_trait;
use handover_core::Epoch;
use handover_process::Signal;
use handover_tokio::Proxy;

use crate::control::wire::{Configuration, LastExit};
use crate::metrics::Observe;
use crate::operator::{Refusal, Report};

pub use crate::operator::{Examination, Totals};
use crate::statistics::EpochStatistics;
pub use listeners::{EpochListeners, Listener, Purpose};

/// A proxy whose processes can be looked at and spoken to while they run.
///
/// Each method has a default that claims nothing: a proxy that implements none of them is supervised,
/// and its status says less.
///
/// A panic in any of them is a bug: the supervisor reports it and drains what runs.
#[async_trait]
pub trait Operate: Proxy {
    /// Returns whether the start of another epoch ends one that was released from the cap. Each answer must be the same.
    fn released_is_cut(&self) -> bool {
        false
    }

    /// Returns whether [`examine`](Self::examine) may show anything. Where it never does and the user has no probes,
    /// nothing is looked at during a probation. The supervisor asks once, before anything runs.
    fn shows_evidence(&self) -> bool {
        true
    }

    /// Returns why it cannot be restarted cold, as a sentence, if it cannot. The supervisor asks once, before anything
    /// runs.
    fn no_cold_restart(&self) -> Option<&'static str> {
        None
    }

    /// Sends the signal to the process of every epoch.
    fn forward(&self, _signal: Signal) {}

    /// Returns what is known of the running epochs. It may take some milliseconds.
    async fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Makes health checks fail until further notice; returns the live epoch, if there is one.
    ///
    /// It is called to its end, even if whoever asked for it goes away.
    ///
    /// # Errors
    ///
    /// When the proxy cannot do that, or did not.
    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal> {
        Err(Refusal::NotSupported(Report::new(
            "this proxy has no health checks that could be made to fail",
        )))
    }

    /// Lets health checks succeed again; returns the live epoch, if there is one.
    ///
    /// # Errors
    ///
    /// When the proxy cannot do that, or did not.
    async fn undrain(&self) -> Result<Option<Epoch>, Refusal> {
        Err(Refusal::NotSupported(Report::new(
            "this proxy has no health checks that could be made to fail",
        )))
    }

    /// Returns the connections that clients have, in words.
    async fn held_by(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns why it cannot be seen whether clients have connections, in words; nothing if it can.
    async fn unknown_clients(&self) -> Vec<String> {
        vec!["the connections of clients cannot be seen".to_owned()]
    }

    /// Waits until no client is seen to have a connection. Where that cannot be seen, it never returns.
    async fn without_clients(&self) {
        pending::<()>().await;
    }

    /// Returns where clients connect to each running process, or nothing where the supervisor cannot look
    /// at the processes. The supervisor finds the connections itself, in the tables of the host.
    async fn listeners(&self) -> Option<Vec<EpochListeners>> {
        None
    }

    /// Looks at an epoch that is on probation, and returns what was seen of it.
    ///
    /// The supervisor calls it about once a second, and ends a call that takes too long.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time. A dropped look counts as one that has seen nothing.
    async fn examine(&self, _epoch: Epoch) -> Examination {
        Examination::default()
    }

    /// Asks the running epochs for their statistics, those of which can be asked. With `only_used`, what was never
    /// counted may be left out. The status server shows the answers at `/stats/prometheus`.
    ///
    /// The supervisor calls it when somebody asks there, one call at a time, and waits six seconds. The loop of the
    /// supervisor takes no part.
    ///
    /// # Errors
    ///
    /// When there are never any, for this reason, as a sentence for people.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    async fn statistics(&self, _only_used: bool) -> Result<Vec<EpochStatistics>, String> {
        Err("this server has no statistics that could be shown here; ask its processes".to_owned())
    }

    /// Tells this what is observed of the processes, from here on. It is called once, before anything runs.
    fn observe(&self, _observe: Observe) {}

    /// Returns what a drain that was not done in time has cut, in words.
    fn cut(&self) -> Option<String> {
        None
    }

    /// Returns how what served has ended under its clients, if it did so together with a stop that found nothing to
    /// drain any more. Whoever waits for the end asks it, so each answer must be the same.
    fn lost(&self) -> Option<String> {
        None
    }

    /// Returns the last lines of the process whose failure this is.
    fn last_words(&self, _error: &(dyn Error + 'static)) -> Vec<String> {
        Vec::new()
    }
}

/// What runs, and what has run.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The processes that run.
    pub epochs: BTreeMap<Epoch, EpochFacts>,
    /// The epoch that ended last.
    pub last_exit: Option<LastExit>,
    /// Whether health checks fail on request.
    pub drained: bool,
    /// The base id of Envoy's shared memory, where there is one.
    pub base_id: Option<u32>,
}

/// The process of an epoch.
#[derive(Clone, Debug)]
pub struct EpochFacts {
    /// Its process id.
    pub pid: u32,
    /// What it runs with.
    pub config: Configuration,
    /// Whether clients can connect to it, where that can be seen.
    pub listens: Option<bool>,
    /// The connections that clients have to it, where they can be counted.
    pub active_connections: Option<u64>,
    /// The memory it has in RAM, in bytes, shared pages included.
    pub rss_bytes: Option<u64>,
}
