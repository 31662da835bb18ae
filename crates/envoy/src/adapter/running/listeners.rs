//! Where clients connect to each running epoch, for those who look at the connections themselves.

use handover_core::Epoch;

use super::clients::known_by;
use super::sockets::NotSeen;
use super::{EnvoyProcess, RunningEpochs};
use crate::admin::Exclude;
use crate::connections::LocalAddress;

/// A running epoch, and where clients connect to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EpochListeners {
    /// The number of the epoch.
    pub epoch: Epoch,
    /// Its process id.
    pub pid: u32,
    /// Where it was seen to listen, the admin endpoint included. An old epoch has closed them since.
    pub listeners: Vec<ListenerSeen>,
    /// Why connections of clients may be missing, as sentences without a full stop.
    pub not_seen: Vec<String>,
}

/// A listening socket of an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerSeen {
    /// Where it listens.
    pub address: LocalAddress,
    /// Its name in the configuration. A listener that has come by LDS has none that is known.
    pub name: Option<String>,
    /// What its connections are for.
    pub purpose: ListenerPurpose,
}

/// What the connections to a listener are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerPurpose {
    /// Clients, for whom a drain waits.
    Clients,
    /// Clients, for whom no drain waits.
    Excluded,
    /// The admin endpoint.
    Admin,
}

/// Returns where clients connect to each running epoch, oldest first.
pub(in crate::adapter) async fn of_each(running: &RunningEpochs) -> Vec<EpochListeners> {
    // The newest one has not been looked at: that is done when the next one starts.
    running.note_listening().await;
    let mut epochs = Vec::new();
    for process in running.all() {
        // Connections to an excluded listener are shown as well.
        let not_seen = match running.clients(&process, &Exclude::default()).await {
            Ok(clients) => clients.uncountable().map(str::to_owned),
            // One that has just ended has no connections.
            Err(NotSeen::Ended) => None,
            Err(why) => Some(why.to_string()),
        };
        epochs.push(EpochListeners {
            epoch: process.epoch,
            pid: process.pid(),
            listeners: listeners(&process, &running.exclude),
            not_seen: not_seen.into_iter().collect(),
        });
    }
    epochs
}

fn listeners(process: &EnvoyProcess, exclude: &Exclude) -> Vec<ListenerSeen> {
    let listening = process.seen_listening();
    let addresses = listening.addresses.iter().cloned();
    let listeners = addresses.map(|address| {
        let bootstrap = process.config.bootstrap();
        let (name, purpose) = known_by(&address, &listening, bootstrap, exclude);
        ListenerSeen {
            address,
            name,
            purpose,
        }
    });
    listeners.collect()
}
