//! Looks at the sockets of running epochs.

use std::collections::BTreeSet;
use std::sync::Arc;

use handover_core::Epoch;
use handover_runtime::offload::offload;
use handover_tokio::error_chain;

use super::clients::Clients;
use super::{EnvoyProcess, RunningEpochs};
use crate::admin::{AdminAddress, Exclude, ListenerConnections};
use crate::connections::{self, ConnectionsError, Listening};
use crate::drain::ListenersSeen;
use crate::listening::{ListeningSockets, Serves};

impl RunningEpochs {
    /// Notes where each epoch listens. It closes its listeners once a newer one is live, and its
    /// connections can be found by them alone. Replaced epochs are passed over: when the newest one
    /// has died nobody listens, and its successor must not wait for this.
    pub(in crate::adapter) async fn note_listening(&self) {
        let epochs: Vec<_> = self.table().not_replaced().collect();
        for (epoch, pid) in epochs {
            let Some(process) = self.process(epoch).filter(|process| process.pid() == pid) else {
                continue;
            };
            match off_the_runtime(move || Listening::of(pid)).await {
                Some(Ok(listening)) => {
                    let sockets = ListeningSockets::from(&listening);
                    let serves = sockets.without(&process.config.bootstrap().admin).serves();
                    self.table().note_listeners(epoch, Some(serves));
                    process.note_listening(listening);
                }
                Some(Err(error)) => {
                    tracing::debug!("{}", error_chain(&error));
                    self.table().note_listeners(epoch, None);
                }
                None => {}
            }
        }
    }

    /// Looks whether the newest live epoch has lost its listeners to a newer one that has failed. If
    /// so, it counts as replaced and is returned, once.
    pub(in crate::adapter) async fn has_lost_listeners(&self) -> Option<Arc<EnvoyProcess>> {
        let (epoch, pid) = self.table().may_have_lost_listeners()?;
        let process = self.process(epoch)?;
        let serves = serves(pid, &process.config.bootstrap().admin).await;
        // One that has ended meanwhile says so itself.
        if process.has_ended() {
            return None;
        }
        let lost = self.table().has_lost_listeners(epoch, pid, serves);
        lost.then_some(process)
    }

    /// Looks whether an epoch that gives way listens on nothing any more. An epoch that has just
    /// ended does not.
    pub(in crate::adapter) async fn has_given_way(&self, process: &EnvoyProcess) -> bool {
        let epoch = process.epoch;
        if !self.table().has_listeners(epoch) {
            return true;
        }
        let serves = serves(process.pid(), &process.config.bootstrap().admin).await;
        self.table().has_given_way(epoch, serves)
    }

    /// Returns how many connections clients have to an epoch, or `None` where that cannot be seen
    /// from outside.
    pub(in crate::adapter) async fn connections(
        &self,
        process: &EnvoyProcess,
        exclude: &Exclude,
    ) -> Option<usize> {
        let holding = self.count_from_outside(process, exclude).await.ok()?;
        let count = holding.iter().map(|listener| listener.active).sum::<u64>();
        Some(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Returns the listeners of an epoch on which clients have connections, without the excluded
    /// ones, as its sockets show them: its own, and none of another epoch.
    pub(in crate::adapter) async fn count_from_outside(
        &self,
        process: &EnvoyProcess,
        exclude: &Exclude,
    ) -> Result<Vec<ListenerConnections>, NotSeen> {
        let clients = self.clients(process, exclude).await?;
        if let Some(why) = clients.uncountable() {
            return Err(NotSeen::Kind(why.to_owned()));
        }
        let (pid, addresses) = (process.pid(), clients.addresses());
        // Listeners of a control plane tell no direction. Which of them are inbound is seen by what Envoy
        // closes.
        let may_stay = exclude.inbound_only && process.is_told_to_close();
        let look = move || {
            let counts = connections::accepted(pid, &addresses)?;
            let listening = match may_stay {
                true => connections::listening_at(pid)?,
                false => BTreeSet::new(),
            };
            Ok((counts, listening))
        };
        let looked = off_the_runtime(look).await;
        // One that ends meanwhile has not closed its connections, it has cut them.
        if process.has_ended() {
            return Err(NotSeen::Ended);
        }
        let (mut counts, listening) = looked.ok_or(NotSeen::NoThread)?.map_err(not_seen)?;
        clients.leave_out_what_stays(&mut counts, &listening);
        Ok(clients.holding(&counts))
    }

    /// Returns whether an epoch that closes its listeners still listens where connections count.
    pub(in crate::adapter) async fn closing(
        &self,
        process: &EnvoyProcess,
        exclude: &Exclude,
    ) -> ListenersSeen {
        let Ok(clients) = self.clients(process, exclude).await else {
            return ListenersSeen::Unseen;
        };
        let pid = process.pid();
        match off_the_runtime(move || connections::listening_at(pid)).await {
            Some(Ok(listening)) => clients.closing(&listening),
            Some(Err(_)) | None => ListenersSeen::Unseen,
        }
    }

    /// Returns whether an epoch that closes all its listeners, because a newer one has replaced it, still has one, known
    /// or not.
    pub(in crate::adapter) async fn closing_all(&self, process: &EnvoyProcess) -> ListenersSeen {
        match serves(process.pid(), &process.config.bootstrap().admin).await {
            Some(Serves::Yes) => {
                let everybody = Exclude::default();
                self.closing(process, &everybody).await.of_an_open_one()
            }
            Some(Serves::No) => ListenersSeen::Closed,
            Some(Serves::Unknown) | None => ListenersSeen::Unseen,
        }
    }

    /// Returns whether any client is connected to an epoch, or `None` where that cannot be seen.
    pub(in crate::adapter) async fn has_clients(&self, process: &EnvoyProcess) -> Option<bool> {
        let counted = self.count_from_outside(process, &Exclude::default()).await;
        Some(!counted.ok()?.is_empty())
    }

    pub(super) async fn clients(
        &self,
        process: &EnvoyProcess,
        exclude: &Exclude,
    ) -> Result<Clients, NotSeen> {
        if !self.runs(process) {
            return Err(NotSeen::Ended);
        }
        if let Some(clients) = process.clients(exclude) {
            return Ok(clients);
        }
        let pid = process.pid();
        let looked = off_the_runtime(move || Listening::of(pid)).await;
        if process.has_ended() {
            return Err(NotSeen::Ended);
        }
        let listening = looked.ok_or(NotSeen::NoThread)?.map_err(not_seen)?;
        if !self.table().has_listeners(process.epoch) {
            return Err(NotSeen::Late);
        }
        process.note_listening(listening);
        process.clients(exclude).ok_or(NotSeen::Late)
    }

    /// Returns whether this very process still counts as running.
    fn runs(&self, process: &EnvoyProcess) -> bool {
        let running: Option<Epoch> = self
            .process(process.epoch)
            .filter(|running| running.pid() == process.pid())
            .map(|running| running.epoch);
        running.is_some()
    }
}

impl EnvoyProcess {
    /// Returns where it was seen to listen.
    pub(super) fn seen_listening(&self) -> Listening {
        self.listening().clone().unwrap_or_default()
    }

    fn note_listening(&self, listening: Listening) {
        self.listening().get_or_insert_default().extend(listening);
    }

    /// Returns where its clients are, if it was seen where it listens.
    fn clients(&self, exclude: &Exclude) -> Option<Clients> {
        let listening = self.listening();
        let bootstrap = self.config.bootstrap();
        listening
            .as_ref()
            .map(|listening| Clients::of(listening, bootstrap, exclude))
    }
}

/// Why the connections of an epoch are not seen from outside.
#[derive(Debug)]
pub(in crate::adapter) enum NotSeen {
    /// It has ended.
    Ended,
    /// Its sockets cannot be looked at.
    Look(ConnectionsError),
    /// It has a listener of a kind whose connections the kernel does not show.
    Kind(String),
    /// It was not seen where it listened before it closed its listeners.
    Late,
    /// There is no thread to look from.
    NoThread,
}

impl std::fmt::Display for NotSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended => f.write_str("it has ended"),
            Self::Look(error) => f.write_str(&error_chain(error)),
            Self::Kind(why) => f.write_str(why),
            Self::Late => f.write_str("it closed its listeners before they were seen"),
            Self::NoThread => f.write_str("no thread could be started to read its sockets"),
        }
    }
}

/// What has no sockets any more has ended, although its end may not have been seen yet.
fn not_seen(error: ConnectionsError) -> NotSeen {
    if error.has_ended() {
        NotSeen::Ended
    } else {
        NotSeen::Look(error)
    }
}

/// Does work that takes as long as the host has sockets: a tenth of a second on a busy one, during
/// which the runtime must see children end. Returns `None` where no thread can do it.
pub(in crate::adapter) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    offload(work)
        .await
        .inspect_err(|error| tracing::debug!("could not read the sockets: {}", error_chain(error)))
        .ok()
}

/// Returns whether a process listens for clients, or `None` if its sockets cannot be seen.
async fn serves(pid: u32, admin: &AdminAddress) -> Option<Serves> {
    let admin = admin.clone();
    let listening = move || {
        // This is asked again and again for as long as it is so, and takes a small part of the time of a whole look.
        let on_tcp = ListeningSockets::on_tcp(pid)?.without(&admin);
        Ok::<_, ConnectionsError>(match on_tcp.serves() {
            Serves::Yes => Serves::Yes,
            Serves::No | Serves::Unknown => ListeningSockets::of(pid)?.without(&admin).serves(),
        })
    };
    off_the_runtime(listening)
        .await?
        .inspect_err(|error| tracing::debug!("{}", error_chain(error)))
        .ok()
}
