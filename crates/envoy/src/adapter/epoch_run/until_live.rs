//! An epoch between its spawn and the moment it is live: what it is asked, and how it is told why it
//! is not live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;

use super::super::epochs::end::KillReason;
use super::super::epochs::start::{Question, Start};
use super::super::running::{now, off_the_runtime};
use super::EpochRun;
use crate::admin::{AdminAddress, AdminClient, NotLive, ServerInfo};
use crate::listening::{AddressView, ListeningSockets};

/// The pauses before further looks at an epoch beside which a newer one has failed. An epoch closes its
/// listeners within milliseconds, unless the machine is busy.
const LATER: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// What was seen of an epoch that is not live yet.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Start>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Start> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the sockets of a process that is about to be ended, so that its end can be explained.
    pub(super) async fn look(&self, pid: u32, admin: &AdminAddress) {
        let address = admin.clone();
        let looked = off_the_runtime(move || {
            let sockets = ListeningSockets::of(pid).ok()?;
            Some((sockets.without(&address), AddressView::of(pid, &address)))
        });
        let sockets = looked.await.flatten();
        self.lock().handle_sockets(sockets);
    }

    /// Returns why the epoch was not live.
    pub(super) fn why(&self, admin: &AdminAddress) -> String {
        self.lock().why(admin)
    }

    /// Keeps why the epoch may not take over.
    pub(super) fn hold(&self, held_by: Vec<String>) {
        self.lock().handle_held(held_by);
    }

    /// Finds out what an obstacle asks for. Returns why the epoch will never be seen live, if that is
    /// so.
    async fn judge(&self, obstacle: Arc<NotLive>, pid: u32, admin: &AdminClient) -> Option<String> {
        let question = self.lock().handle_obstacle(obstacle, now());
        match question? {
            Question::Targets => {
                let targets = admin.init_dump().await.ok()?;
                self.lock().handle_targets(targets);
                None
            }
            Question::Endpoint => {
                let has_it = has_the_endpoint(pid, admin.address()).await;
                self.lock().handle_endpoint(has_it)
            }
        }
    }
}

/// Returns whether an admin endpoint is seen among the sockets of a process.
async fn has_the_endpoint(pid: u32, admin: &AdminAddress) -> bool {
    let address = admin.clone();
    let has_it = off_the_runtime(move || {
        AddressView::of(pid, &address) == AddressView::Same
            && ListeningSockets::of(pid).is_ok_and(|sockets| sockets.has(&address))
    });
    has_it.await.unwrap_or(false)
}

impl EpochRun<'_> {
    /// Waits until the epoch says that it is live. Returns why it must be killed once it is known
    /// never to say so.
    pub(super) async fn until_live(&self) -> Result<ServerInfo, KillReason> {
        let admin = self.process.admin();
        let pid = self.process.pid();
        let judge = |obstacle: Arc<NotLive>| {
            let (admin, waiting) = (admin.clone(), Arc::clone(&self.waiting));
            async move {
                self.envoy.drains.uncover(&admin, &obstacle).await;
                waiting.judge(obstacle, pid, &admin).await
            }
        };
        let restart_epoch = self.process.restart_epoch();
        let poll = &self.envoy.settings.live_poll;
        let live = tokio::select! {
            live = admin.wait_live_unless(restart_epoch, poll, judge) => live,
            never = self.keep_gate() => match never {},
        };
        match live {
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

    /// Looks whether this epoch, which has ended, has cost an older one its listeners: a new epoch
    /// takes them over in the moment in which it is live, seen or not. The older one serves nobody
    /// then, and says so, so that its configuration is started again.
    pub(super) async fn look_after_end(&self) {
        let epoch = self.process.epoch;
        self.look_whether_any_listens(epoch).await;
        self.envoy.running.note_failed_start(epoch);
    }

    /// Looks again a little later, for as long as this epoch is the newest live one: it may have been
    /// told to close its listeners and not have done so when the newer one ended. Never returns.
    pub(super) async fn look_after_failed_starts(&self) {
        let mut failures = self.envoy.running.failed_starts();
        while failures.changed().await.is_ok() {
            let failed = *failures.borrow_and_update();
            for later in LATER {
                tokio::time::sleep(later).await;
                self.look_whether_any_listens(failed).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AdminError;
    use crate::admin::fake_peer::FakePeer;

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
        assert_eq!(waiting.judge(refused(), me, &admin).await, None);
        let why = waiting.judge(refused(), me, &admin).await;
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
            let why = waiting.judge(refused(), other.id(), &peer.client()).await;
            assert_eq!(why, None);
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
        let final_reason = waiting.judge(obstacle, std::process::id(), &client).await;
        assert_eq!(final_reason, None);
        waiting.look(std::process::id(), &admin).await;
        let why = waiting.why(&admin);
        assert!(
            why.starts_with("cannot connect to the admin endpoint unix:admin.sock: ")
                && why.contains("; the process runs, and clients reach it at "),
            "{why}"
        );
    }
}
