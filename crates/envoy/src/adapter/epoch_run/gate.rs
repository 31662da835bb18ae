//! The gate of an epoch: the socket at which it asks for leave to take over, and the looks at it until it
//! gets that.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use handover_core::Epoch;
use handover_runtime::time_limit::timeout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::epochs::gate::{Step, after_state, after_targets};
use super::super::examination::{ask_behind_gate, subject};
use super::EpochRun;
use crate::admin::AdminClient;
use crate::files::RunDir;
use crate::gate::{ANSWER, overlay};

/// How long each answer of the epoch may take.
const ASK: Duration = Duration::from_secs(1);

/// The shortest and the longest pause between two looks. A pause is a tenth of the time that the gate
/// was closed so far, so that a look comes soon where it matters, or twice what the last look took.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// How long an epoch may lack something before that is told.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// How many connections are served at once. Envoy makes one.
const CONNECTIONS: usize = 8;

/// The pause after a connection that could not be accepted.
const SHORTAGE: Duration = Duration::from_millis(100);

/// How long a client gets to close a connection after its answer.
const CLOSE: Duration = Duration::from_secs(5);

/// A gate, which is closed. Its socket goes with the value.
#[derive(Debug)]
pub(super) struct Gate {
    listener: UnixListener,
    path: PathBuf,
    overlay: String,
}

impl Gate {
    /// Makes the socket in the run directory, which only the user of Envoy can enter.
    pub(super) fn new(run_dir: &RunDir, epoch: Epoch) -> Result<Self, NoGate> {
        let path = run_dir
            .path()
            .join(format!("gate-rev{}.sock", epoch.number()));
        let failed = |source| NoGate {
            path: path.clone(),
            source,
        };
        // One of a killed agent may be there.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let overlay =
            overlay(&path).ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let gate = Self {
            listener: UnixListener::bind(&path).map_err(failed)?,
            path: path.clone(),
            overlay,
        };
        // An Envoy that runs as another user may only have the group of the directory.
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(failed)?;
        Ok(gate)
    }

    /// Returns what is merged into the configuration of the epoch.
    pub(super) fn overlay(&self) -> &str {
        &self.overlay
    }

    /// Takes requests, tells of the first, and answers them once the gate is open.
    async fn serve(&self, open: &watch::Sender<bool>, asked: &Arc<Notify>) -> Infallible {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if clients.len() < CONNECTIONS => match accepted {
                    Ok((client, _)) => {
                        clients.spawn(serve_client(client, open.subscribe(), Arc::clone(asked)));
                    }
                    Err(error) => {
                        tracing::debug!("{}: {error}", self.path.display());
                        sleep(SHORTAGE).await;
                    }
                },
                Some(_ended) = clients.join_next() => {}
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The run directory may have been removed with all that was in it.
        let _removed = std::fs::remove_file(&self.path);
    }
}

/// Why an epoch gets no gate.
#[derive(Debug, thiserror::Error)]
#[error("no socket can be made at {}", path.display())]
pub(super) struct NoGate {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Serves one connection. What the client says does not matter.
async fn serve_client(mut client: UnixStream, mut open: watch::Receiver<bool>, asked: Arc<Notify>) {
    let mut said = [0; 4096];
    let mut has_asked = false;
    loop {
        tokio::select! {
            read = client.read(&mut said) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    has_asked = true;
                    asked.notify_one();
                }
            },
            opened = open.wait_for(|open| *open), if has_asked => match opened {
                Ok(_) => break,
                Err(_) => return,
            },
        }
    }
    let answered = async {
        client.write_all(ANSWER.as_bytes()).await?;
        client.shutdown().await?;
        while client.read(&mut said).await? > 0 {}
        io::Result::Ok(())
    };
    let _ended = timeout(CLOSE, answered).await;
}

impl EpochRun<'_> {
    /// Keeps the gate of the epoch, if it has one: closed until the epoch has what the older one had, and
    /// then open. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the gate and its socket go with it.
    pub(super) async fn keep_gate(&self) -> Infallible {
        let Some(gate) = self.take_gate() else {
            return std::future::pending().await;
        };
        let (open, asked) = (watch::Sender::new(false), Arc::new(Notify::new()));
        let mut serving = pin!(gate.serve(&open, &asked));
        tokio::select! {
            never = &mut serving => match never {},
            () = self.until_gate_opens(&asked) => {}
        }
        open.send_replace(true);
        serving.await
    }

    /// Looks at the epoch until it may take over.
    async fn until_gate_opens(&self, asked: &Notify) {
        // An epoch asks once its clusters are there, as far as Envoy waits for them.
        asked.notified().await;
        let subject = subject(&self.process);
        if !self.envoy.evidence.lock().can_hold(&subject) {
            let epoch = self.process.epoch;
            tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} takes over as soon as it is live: what the epoch before has was not seen"
            );
            return;
        }
        let admin = self.process.admin().with_time_limit(ASK);
        let (closed, mut was_held) = (Instant::now(), false);
        loop {
            let look = Instant::now();
            let held_by = match self.next_step(&admin).await {
                Step::Open => Some(Vec::new()),
                Step::AskResources => {
                    let answers = ask_behind_gate(&admin).await;
                    let is_awake = answers.silence().is_none();
                    is_awake.then(|| self.envoy.evidence.lock().holds(&subject, &answers))
                }
                Step::Wait => {
                    self.waiting.hold(Vec::new());
                    None
                }
                Step::Again | Step::AskState => None,
            };
            match held_by {
                Some(held_by) if held_by.is_empty() => break,
                Some(held_by) => was_held |= self.note_held(held_by, closed),
                None => {}
            }
            let pause = (closed.elapsed() / 10).clamp(PAUSES.0, PAUSES.1);
            sleep(pause.max(look.elapsed() * 2)).await;
        }
        self.waiting.hold(Vec::new());
        if was_held {
            let epoch = self.process.epoch;
            tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} has what the epoch before has, and takes over"
            );
        }
    }

    /// Keeps what holds the epoch back, and logs it where it was not known before. Returns whether anything
    /// was logged.
    ///
    /// What an epoch lacks in the first moments is on its way as a rule.
    fn note_held(&self, held_by: Vec<String>, closed: Instant) -> bool {
        let is_on_its_way = closed.elapsed() < ON_ITS_WAY;
        if is_on_its_way || !self.waiting.hold(held_by.clone()) {
            return false;
        }
        let epoch = self.process.epoch;
        tracing::warn!(
            epoch = epoch.number(),
            "epoch {epoch} does not take over without what the epoch before has: {}",
            held_by.join("; ")
        );
        true
    }

    async fn next_step(&self, admin: &AdminClient) -> Step {
        match after_targets(&admin.init_targets().await) {
            Step::AskState => {
                let state = admin.server_info().await;
                after_state(&state, self.process.restart_epoch())
            }
            step @ (Step::Wait | Step::Again | Step::AskResources | Step::Open) => step,
        }
    }
}
