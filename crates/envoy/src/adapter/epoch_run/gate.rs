//! The gate of an epoch: the socket at which it asks for leave to take over, and the looks at it until it
//! gets that.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use handover_core::Epoch;
use handover_runtime::offload::OffloadError;
use handover_runtime::time_limit::timeout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::epoch_files::Shared;
use super::super::epochs::evidence::Subject;
use super::super::epochs::gate::{
    Look, Opening, Passage, Step, Verdict, after_state, after_targets,
};
use super::super::examination::{ask_behind_gate, subject};
use super::super::running::now;
use super::EpochRun;
use crate::admin::AdminClient;
use crate::drain::pause_after;
use crate::gate::{ANSWER, overlay};

/// How long the answers may take that tell whether it is the epoch that answers.
const ASK: Duration = Duration::from_secs(1);

/// How long each answer to what it has may take. The older epoch serves meanwhile, so patience costs
/// nothing; the statistics of 10,000 clusters take most of a second on a busy machine.
const ASK_RESOURCES: Duration = Duration::from_secs(5);

/// The bounds of the least pause between two looks. It is a tenth of the time that the gate was closed so
/// far, so that a look comes soon where it matters. [`pause_after`] makes it longer where looks take long.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

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
    epoch: Epoch,
    files: Shared,
}

impl Gate {
    /// Makes the socket in the run directory, which only the user of Envoy can enter.
    pub(super) async fn new(files: Shared, epoch: Epoch) -> Result<Self, NoGate> {
        let made = files.make(epoch, move |dir| {
            let path = dir.gate(epoch.number());
            match make_socket(&path) {
                Ok((socket, overlay)) => Ok((socket, overlay, path)),
                Err(source) => Err(NoGate::Os { path, source }),
            }
        });
        let (socket, overlay, path) = made.await.map_err(NoGate::NoThread)??;
        let listener = UnixListener::from_std(socket).map_err(|source| NoGate::Os {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            listener,
            path,
            overlay,
            epoch,
            files,
        })
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
        self.files
            .remove_gate(self.epoch, std::mem::take(&mut self.path));
    }
}

/// Why an epoch gets no gate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoGate {
    #[error("no socket can be made at {}", path.display())]
    Os {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no thread can make its socket")]
    NoThread(#[source] OffloadError),
}

/// Makes the socket of a gate, and returns it with what is merged into the configuration. It blocks.
fn make_socket(path: &Path) -> io::Result<(StdListener, String)> {
    // One of a killed agent may be there.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let overlay = overlay(path).ok_or(io::ErrorKind::InvalidFilename)?;
    let socket = StdListener::bind(path)?;
    socket.set_nonblocking(true)?;
    // An Envoy that runs as another user may only have the group of the directory.
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok((socket, overlay))
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
        let closed = Instant::now();
        let mut passage = Passage::new(now());
        let opening = loop {
            let began = Instant::now();
            let look = self.look_behind_gate(&subject).await;
            match passage.handle_look(look, now()) {
                Verdict::Open(opening) => break opening,
                Verdict::Closed { held_by, is_news } => self.note_held(held_by, is_news),
            }
            let least = (closed.elapsed() / 10).clamp(PAUSES.0, PAUSES.1);
            sleep(pause_after(began.elapsed(), least)).await;
        };
        self.waiting.hold(Vec::new());
        self.log_opening(opening);
    }

    /// Asks the epoch, as far as it is certain to be the one that answers, for what it has.
    async fn look_behind_gate(&self, subject: &Subject) -> Look {
        let admin = self.process.admin().with_time_limit(ASK);
        match self.next_step(&admin).await {
            Step::AskResources => {
                let answers = ask_behind_gate(&admin.with_time_limit(ASK_RESOURCES)).await;
                Look::Lacks {
                    held_by: self.envoy.evidence.lock().holds(subject, &answers),
                    unanswered: answers.unanswered(),
                }
            }
            Step::Wait => Look::Waits,
            Step::Again | Step::AskState => Look::Nothing,
        }
    }

    /// Keeps what holds the epoch back, and logs it.
    fn note_held(&self, held_by: Option<Vec<String>>, is_news: bool) {
        let Some(held_by) = held_by else { return };
        if is_news {
            let epoch = self.process.epoch;
            tracing::warn!(
                epoch = epoch.number(),
                "epoch {epoch} does not take over without what the epoch before has: {}",
                held_by.join("; ")
            );
        }
        self.waiting.hold(held_by);
    }

    fn log_opening(&self, opening: Opening) {
        let epoch = self.process.epoch;
        match opening {
            Opening::HasAll { was_told: false } => {}
            Opening::HasAll { was_told: true } => tracing::info!(
                epoch = epoch.number(),
                "epoch {epoch} has what the epoch before has, and takes over"
            ),
            Opening::Unanswered(why) => tracing::warn!(
                epoch = epoch.number(),
                "epoch {epoch} takes over without a look at all that it has: {why}"
            ),
        }
    }

    async fn next_step(&self, admin: &AdminClient) -> Step {
        match after_targets(&admin.init_targets().await) {
            Step::AskState => {
                let state = admin.server_info().await;
                after_state(&state, self.process.restart_epoch())
            }
            step @ (Step::Wait | Step::Again | Step::AskResources) => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::epoch_files::EpochFiles;
    use super::*;
    use crate::files::RunDir;

    const LIMIT: Duration = Duration::from_secs(30);

    fn temporary() -> tempfile::TempDir {
        let mut builder = tempfile::Builder::new();
        builder.prefix("handover-").tempdir().unwrap()
    }

    fn files_in(run_dir: &Path) -> EpochFiles {
        EpochFiles::new(RunDir::create(run_dir).unwrap())
    }

    async fn gate_in(directory: &tempfile::TempDir) -> Gate {
        let files = files_in(&directory.path().join("run"));
        Gate::new(files.shared(), Epoch::new(1)).await.unwrap()
    }

    async fn client_that_says(gate: &Gate, what: &[u8]) -> UnixStream {
        let mut client = UnixStream::connect(&gate.path).await.unwrap();
        client.write_all(what).await.unwrap();
        client
    }

    async fn answer_to(client: &mut UnixStream) -> String {
        let mut answer = String::new();
        let read = tokio::time::timeout(LIMIT, client.read_to_string(&mut answer));
        read.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn whoever_has_asked_gets_the_answer_once_the_gate_is_open_and_not_before() {
        let directory = temporary();
        let gate = gate_in(&directory).await;
        let (open, asked) = (watch::Sender::new(false), Arc::new(Notify::new()));
        let clients = async {
            // Garbage, nothing at all, one that goes away, and the same request twice.
            let mut garbage = client_that_says(&gate, &[0xff; 100_000]).await;
            let mut silent = client_that_says(&gate, b"").await;
            drop(client_that_says(&gate, b"POST").await);
            let mut first = client_that_says(&gate, b"POST / HTTP/1.1\r\n").await;
            let mut second = client_that_says(&gate, b"POST / HTTP/1.1\r\n").await;
            asked.notified().await;
            let mut nothing = [0; 1];
            for client in [&mut garbage, &mut silent, &mut first, &mut second] {
                let read = client.read(&mut nothing);
                let early = tokio::time::timeout(Duration::from_millis(20), read).await;
                assert!(early.is_err(), "{early:?}");
            }
            open.send_replace(true);
            assert_eq!(answer_to(&mut first).await, ANSWER);
            assert_eq!(answer_to(&mut second).await, ANSWER);
            assert_eq!(answer_to(&mut garbage).await, ANSWER);
            silent.write_all(b"GET").await.unwrap();
            assert_eq!(answer_to(&mut silent).await, ANSWER);
        };
        tokio::select! {
            never = gate.serve(&open, &asked) => match never {},
            () = clients => {}
        }
    }

    #[tokio::test]
    async fn clients_beyond_the_limit_wait_for_their_turn() {
        let directory = temporary();
        let gate = gate_in(&directory).await;
        let (open, asked) = (watch::Sender::new(false), Arc::new(Notify::new()));
        let clients = async {
            let mut idle = Vec::new();
            for _ in 0..CONNECTIONS {
                idle.push(client_that_says(&gate, b"").await);
            }
            let mut last = client_that_says(&gate, b"POST").await;
            let early = tokio::time::timeout(Duration::from_millis(20), asked.notified()).await;
            assert!(
                early.is_err(),
                "it had its turn beside {CONNECTIONS} others"
            );
            drop(idle);
            asked.notified().await;
            open.send_replace(true);
            assert_eq!(answer_to(&mut last).await, ANSWER);
        };
        tokio::select! {
            never = gate.serve(&open, &asked) => match never {},
            () = clients => {}
        }
    }

    #[tokio::test]
    async fn the_socket_goes_with_the_gate_and_one_that_was_left_is_replaced() {
        let directory = temporary();
        let gate = gate_in(&directory).await;
        let path = gate.path.clone();
        assert!(gate.overlay().contains(path.to_str().unwrap()));
        std::mem::forget(gate);
        assert!(path.exists());
        drop(gate_in(&directory).await);
        let gone = async {
            while path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_named() {
        let directory = temporary();
        let long = directory.path().join("x".repeat(120));
        let epoch = Epoch::new(1);
        let error = Gate::new(files_in(&long).shared(), epoch).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("envoy-rev1.gate"), "{error}");
        // Something that is in its place and cannot be removed.
        let run_dir = directory.path().join("run");
        let files = files_in(&run_dir);
        std::fs::create_dir(run_dir.join("envoy-rev1.gate")).unwrap();
        Gate::new(files.shared(), epoch).await.unwrap_err();
    }
}
