//! An epoch between its spawn and the moment it is live: what it is asked, and how it is told why it
//! is not live.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use tokio::time::Instant;

use super::super::epochs::end::KillReason;
use super::super::running::off_the_runtime;
use super::EpochRun;
use crate::admin::{AdminAddress, AdminClient, NotLive, ServerInfo, ServerState};
use crate::listening::{ListeningSockets, Place};
use handover_tokio::error_chain;

/// How often an epoch that initialises is asked for whom it waits.
const ASK: Duration = Duration::from_secs(1);

/// The pauses before further looks at an epoch beside which a newer one has failed. An epoch closes its
/// listeners within milliseconds, unless the machine is busy.
const LATER: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// How many of those it waits for are named.
const NAMED: usize = 5;

/// What was seen of an epoch that is not live yet.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    obstacle: Option<Arc<NotLive>>,
    /// For whom it waits, and when it was asked.
    targets: Vec<String>,
    asked: Option<Instant>,
    /// Whether the last look has shown the admin endpoint among its own sockets.
    has_the_endpoint: bool,
    /// Its sockets at the end, and whether they are in the same place as we.
    sockets: Option<(ListeningSockets, Place)>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the sockets of a process that is about to be ended, so that its end can be explained.
    pub(super) async fn look(&self, pid: u32, admin: &AdminAddress) {
        let address = admin.clone();
        let looked = off_the_runtime(move || {
            let sockets = ListeningSockets::of(pid).ok()?;
            Some((sockets.without(&address), Place::of(pid, &address)))
        });
        self.lock().sockets = looked.await.flatten();
    }

    /// Tells why the epoch was not live.
    pub(super) fn why(&self, admin: &AdminAddress) -> String {
        let seen = self.lock();
        let mut why = match seen.obstacle.as_deref() {
            None => format!("its admin endpoint {admin} was not asked"),
            Some(NotLive::State { state, .. }) => waits_for(state, &seen.targets),
            Some(NotLive::OtherEpoch { answering, .. }) => {
                format!("epoch {answering} answers at its admin endpoint {admin}")
            }
            Some(NotLive::Unreachable { source, .. }) => error_chain(source),
            Some(obstacle @ NotLive::NoAnswer { .. }) => obstacle.to_string(),
        };
        // One that has said that it initialises needs no further proof of what it is.
        if matches!(seen.obstacle.as_deref(), Some(NotLive::State { .. })) {
            return why;
        }
        if let Some((sockets, place)) = &seen.sockets {
            // Writing to a string cannot fail.
            let _ = write!(why, "; the process runs, and clients reach it at {sockets}");
            if let Some(hint) = place.hint(admin) {
                let _ = write!(why, "; {hint}");
            } else if sockets.hides_some() {
                why.push_str(
                    "; it has sockets in a place that handover cannot see, as with \
                     network_namespace_filepath: admin.address must be without it",
                );
            }
        }
        why
    }
}

/// `it is INITIALIZING and waits for its listeners (LDS)`.
fn waits_for(state: &ServerState, targets: &[String]) -> String {
    let named = targets.iter().take(NAMED).map(String::as_str);
    let mut whom = named.collect::<Vec<_>>().join(", ");
    let more = targets.len().saturating_sub(NAMED);
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(whom, " and {more} more");
    }
    if whom.is_empty() {
        // These are not among the targets that Envoy names.
        whom.push_str(match state {
            ServerState::PreInitializing => {
                "its clusters (by CDS), their endpoints (by EDS) or their first health checks"
            }
            ServerState::Initializing => "its listeners (by LDS)",
            ServerState::Live | ServerState::Draining | ServerState::Other(_) => {
                return format!("its state is {state}");
            }
        });
    }
    format!("it is {state} and waits for {whom}")
}

impl EpochRun<'_> {
    /// Waits until the epoch says that it is live. Returns why it must be killed once it is known
    /// never to say so.
    pub(super) async fn until_live(&self) -> Result<ServerInfo, KillReason> {
        let admin = self.process.admin();
        let pid = self.process.pid();
        let judge = |obstacle: Arc<NotLive>| {
            let (admin, waiting) = (admin.clone(), Arc::clone(&self.waiting));
            async move { judged(obstacle, pid, &admin, &waiting).await }
        };
        let restart_epoch = self.process.restart_epoch();
        let poll = &self.envoy.settings.live_poll;
        match admin.wait_live_unless(restart_epoch, poll, judge).await {
            Ok(Ok(info)) => Ok(info),
            Ok(Err(why)) => Err(KillReason::Refuses { why }),
            // Only a poll with a limit gives up; the start deadline ends what is not live by then.
            Err(error) => {
                tracing::warn!(epoch = self.process.epoch.number(), "{error}");
                std::future::pending().await
            }
        }
    }

    /// Looks at the sockets of the process, which is about to be ended, so that its end can be
    /// explained.
    pub(super) async fn look_at_sockets(&self) {
        let admin = &self.process.config.bootstrap().admin;
        self.waiting.look(self.process.pid(), admin).await;
    }

    /// Looks whether this start, which has failed, has cost an older epoch its listeners: a new epoch
    /// takes them over in the moment in which it is live, seen or not. The older one serves nobody
    /// then, and says so, so that its configuration is started again.
    pub(super) async fn look_after_failed_start(&self) {
        self.look_whether_any_listens(self.process.epoch).await;
        self.envoy.running.note_failed_start();
    }

    /// Looks again a little later, for as long as this epoch is the newest live one: it may have been
    /// told to close its listeners and not have done so when the newer one ended. Never returns.
    pub(super) async fn look_after_failed_starts(&self) {
        let mut failed = self.envoy.running.failed_starts();
        while failed.changed().await.is_ok() {
            for later in LATER {
                tokio::time::sleep(later).await;
                let newest = self.envoy.running.table().newest();
                if let Some(newest) = newest {
                    self.look_whether_any_listens(newest).await;
                }
            }
        }
        // The sender lives as long as the adapter, so this is never reached.
        std::future::pending::<()>().await;
    }

    async fn look_whether_any_listens(&self, failed: Epoch) {
        let Some(process) = self.envoy.running.has_lost_listeners().await else {
            return;
        };
        let epoch = process.epoch;
        tracing::error!(
            epoch = epoch.number(),
            "epoch {epoch} runs and does not listen any more: epoch {failed} had taken its \
             listeners over before it failed"
        );
        process.control.stopped_serving();
    }
}

/// Keeps what an obstacle tells, and returns why the epoch will never be seen live, if that is so.
///
/// A refusal may come from somebody else: an older epoch that still has the endpoint, or a program
/// that listens at the same address in our network namespace and not in that of the epoch. So it
/// counts only when the epoch had the endpoint before it was asked, and has it afterwards.
async fn judged(
    obstacle: Arc<NotLive>,
    pid: u32,
    admin: &AdminClient,
    waiting: &Waiting,
) -> Option<String> {
    let had_the_endpoint = {
        let mut seen = waiting.lock();
        seen.obstacle = Some(Arc::clone(&obstacle));
        std::mem::take(&mut seen.has_the_endpoint)
    };
    match &*obstacle {
        NotLive::State { .. } => {
            let due = |asked: Option<Instant>| asked.is_none_or(|asked| asked.elapsed() >= ASK);
            let first = {
                let mut seen = waiting.lock();
                let due = due(seen.asked);
                if due {
                    // As a rule it is live in the next moment: only one that is slow is asked.
                    let first = seen.asked.is_none();
                    seen.asked = Some(Instant::now());
                    Some(first)
                } else {
                    None
                }
            };
            if first == Some(false)
                && let Ok(targets) = admin.init_dump().await
            {
                waiting.lock().targets = targets;
            }
            None
        }
        NotLive::Unreachable { source, .. } if source.is_refusal() => {
            let address = admin.address().clone();
            let has = off_the_runtime(move || {
                Place::of(pid, &address) == Place::Ours
                    && ListeningSockets::of(pid).is_ok_and(|sockets| sockets.has(&address))
            });
            let has = has.await.unwrap_or(false);
            waiting.lock().has_the_endpoint = has;
            (had_the_endpoint && has).then(|| error_chain(source))
        }
        NotLive::Unreachable { .. } | NotLive::OtherEpoch { .. } | NotLive::NoAnswer { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AdminError;
    use crate::admin::fake_peer::FakePeer;

    fn initializing(targets: &[&str]) -> String {
        let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
        waits_for(&ServerState::Initializing, &targets)
    }

    #[test]
    fn those_who_are_waited_for_are_named() {
        assert_eq!(
            initializing(&["shared target SdsApi cert"]),
            "it is INITIALIZING and waits for shared target SdsApi cert"
        );
        assert_eq!(
            initializing(&["1", "2", "3", "4", "5", "6", "7"]),
            "it is INITIALIZING and waits for 1, 2, 3, 4, 5 and 2 more"
        );
        assert_eq!(
            initializing(&[]),
            "it is INITIALIZING and waits for its listeners (by LDS)"
        );
        let state = ServerState::Other("DREAMING".to_owned());
        assert_eq!(waits_for(&state, &[]), "its state is DREAMING");
    }

    fn refused() -> Arc<NotLive> {
        Arc::new(NotLive::Unreachable {
            epoch: 0,
            source: AdminError::Status {
                address: "127.0.0.1:1".parse().unwrap(),
                path: "/server_info",
                status: 403,
                body: String::new(),
            },
        })
    }

    #[tokio::test]
    async fn a_refusal_counts_when_it_is_repeated_by_the_process_itself() {
        let waiting = Waiting::default();
        // The peer's socket is one of this process.
        let peer = FakePeer::always(Vec::new()).await;
        let admin = peer.client();
        let me = std::process::id();
        assert_eq!(judged(refused(), me, &admin, &waiting).await, None);
        let other = Arc::new(NotLive::OtherEpoch {
            epoch: 1,
            answering: 0,
        });
        assert_eq!(judged(other, me, &admin, &waiting).await, None);
        assert_eq!(judged(refused(), me, &admin, &waiting).await, None);
        let why = judged(refused(), me, &admin, &waiting).await;
        assert!(why.is_some_and(|why| why.contains("/server_info with 403")));
    }

    #[tokio::test]
    async fn a_refusal_of_somebody_else_does_not_count() {
        let waiting = Waiting::default();
        let peer = FakePeer::always(Vec::new()).await;
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        for _ in 0..3 {
            let judged = judged(refused(), other.id(), &peer.client(), &waiting).await;
            assert_eq!(judged, None);
        }
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[tokio::test]
    async fn an_endpoint_that_cannot_be_reached_is_told_with_what_the_process_listens_on() {
        let waiting = Waiting::default();
        let admin: AdminAddress = "unix:admin.sock".parse().unwrap();
        assert!(waiting.why(&admin).contains("was not asked"));
        let source = AdminError::Connect {
            address: admin.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let obstacle = Arc::new(NotLive::Unreachable { epoch: 1, source });
        let client = AdminClient::new(admin.clone());
        let judged = judged(obstacle, std::process::id(), &client, &waiting).await;
        assert_eq!(judged, None);
        waiting.look(std::process::id(), &admin).await;
        let why = waiting.why(&admin);
        assert!(
            why.starts_with("cannot connect to the admin endpoint unix:admin.sock: ")
                && why.contains("; the process runs, and clients reach it at "),
            "{why}"
        );
    }
}
