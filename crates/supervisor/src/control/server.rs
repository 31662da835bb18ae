//! Answering on the socket.
//!
//! Each connection is for one request. It has ten seconds to ask, as long as the answer takes, and
//! ten seconds to read it. Where all places are taken, or no descriptor is left, the client that has
//! let the supervisor wait for longest makes room for the next one: see [`connections`](super::connections). At
//! most sixteen answers are made at once. A question whose answer may take long gives its place to
//! others while it waits. Without a client nothing here wakes up.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ask::{PendingAsk, Supervisor};
use super::connections::{Connection, Connections, Dismissed, Owes};
use super::half_closed::conversation;
use super::routes::{Wanted, exposition, read, respond};
use super::socket::Socket;
use super::wire::{Code, Refusal};
use crate::metrics::Scrape;

/// How many connections there are at most, those aside whose answer is waited for.
const CONNECTIONS: usize = 128;
/// How many answers are made at once.
const ANSWERS: usize = 16;
/// How many answers are waited for at once.
const WAITING: usize = 64;
/// How long a client may take to ask, and how long to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last answers may take when everything ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be accepted: with all descriptors in use, the next
/// attempt fails as fast as the one before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a warning that no connection can be accepted lasts.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// The most that a request's head may take, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Of how many users it is remembered that they were told of.
const STRANGERS: usize = 32;

/// The control socket while it is served.
#[derive(Debug)]
pub(crate) struct Control {
    socket: Socket,
    asked: mpsc::Receiver<PendingAsk>,
    close: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Control {
    /// Begins to answer.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a descriptor.
    pub(crate) fn serve(socket: Socket, scrape: Scrape) -> io::Result<Self> {
        let listener = UnixListener::from_std(socket.listener()?)?;
        let (sender, asked) = mpsc::channel(ANSWERS);
        let server = Arc::new(Server {
            supervisor: Supervisor(sender),
            scrape,
            places: Arc::new(Semaphore::new(most_connections())),
            answers: Semaphore::new(ANSWERS),
            connections: Arc::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            strangers: Mutex::default(),
        });
        let (close, closed) = oneshot::channel();
        let serving = tokio::spawn(accept(listener, server, closed));
        Ok(Self {
            socket,
            asked,
            close,
            serving,
        })
    }

    /// What is asked next.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a question that has come is told by the next call.
    pub(crate) async fn next(&mut self) -> PendingAsk {
        match self.asked.recv().await {
            Some(asked) => asked,
            // The server has ended, which it does only when it is closed.
            None => std::future::pending().await,
        }
    }

    /// Takes no further connection, removes the socket, and lets the last answers be written.
    pub(crate) async fn close(self) {
        drop(self.socket);
        // What was asked and not answered is answered by this: everything has ended.
        drop(self.asked);
        // It may have ended already.
        let _ended = self.close.send(());
        let abort = self.serving.abort_handle();
        if timeout(FAREWELL, self.serving).await.is_err() {
            abort.abort();
        }
    }
}

struct Server {
    supervisor: Supervisor,
    scrape: Scrape,
    places: Arc<Semaphore>,
    answers: Semaphore,
    connections: Arc<Connections>,
    waiting: Arc<Semaphore>,
    /// The users who were refused.
    strangers: Mutex<BTreeSet<u32>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
struct Peer {
    user: u32,
    pid: Option<i32>,
}

async fn accept(listener: UnixListener, server: Arc<Server>, mut closed: oneshot::Receiver<()>) {
    let mut conversations = JoinSet::new();
    // When it was told last that no connection can be accepted.
    let told = Mutex::new(None::<Instant>);
    // One that was accepted and waits for a place.
    let waits = Mutex::new(None);
    let next = async || {
        let accepted = lock(&waits).take();
        let stream = match accepted {
            Some(stream) => stream,
            None => match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    let now = Instant::now();
                    if lock(&told).is_none_or(|before| now - before > TOLD_AGAIN) {
                        *lock(&told) = Some(now);
                        tracing::warn!(
                            "no connection could be accepted at the control socket: {error}"
                        );
                    }
                    // Its descriptor is free once its task has ended.
                    server.connections.dismiss();
                    sleep(ACCEPT_PAUSE).await;
                    return None;
                }
            },
        };
        if let Ok(place) = Arc::clone(&server.places).try_acquire_owned() {
            return Some((stream, place));
        }
        *lock(&waits) = Some(stream);
        for _ in 0..2 {
            // Those who have just come and asked are given the time to be heard.
            yield_now().await;
        }
        loop {
            server.connections.dismiss();
            // Where nobody can be sent away, somebody may be a moment later.
            let place = Arc::clone(&server.places).acquire_owned();
            if let Ok(place) = timeout(ACCEPT_PAUSE, place).await {
                // The places are never closed.
                return Some((lock(&waits).take()?, place.ok()?));
            }
        }
    };
    loop {
        tokio::select! {
            biased;
            _ = &mut closed => break,
            Some(ended) = conversations.join_next() => if let Err(error) = ended {
                tracing::error!("a bug: a connection at the control socket ended early: {error}");
            },
            accepted = next() => if let Some((stream, place)) = accepted {
                // From this moment on it can be sent away.
                let entry = server.connections.enter();
                conversations.spawn(converse(stream, place, entry, Arc::clone(&server)));
            }
        }
    }
    drop(listener);
    while conversations.join_next().await.is_some() {}
}

/// One connection to its end.
async fn converse(
    stream: UnixStream,
    place: OwnedSemaphorePermit,
    (entry, dismissed): (Connection, Dismissed),
    server: Arc<Server>,
) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let peer = Peer {
        user: credentials.uid(),
        pid: credentials.pid(),
    };
    // Until when the client has to do its next part; nothing while the supervisor has to.
    let (turn, mut turns) = watch::channel(Some(Instant::now() + PATIENCE));
    let turn = Arc::new(turn);
    let entry = Arc::new(entry);
    let place = Arc::new(Mutex::new(Some(place)));
    let service = service_fn(|request| {
        let (server, turn) = (Arc::clone(&server), Arc::clone(&turn));
        let (place, entry) = (Arc::clone(&place), Arc::clone(&entry));
        async move {
            let response = server.answer(request, peer, &turn, &entry, &place).await;
            entry.owes(Owes::Reading);
            turn.send_replace(Some(Instant::now() + PATIENCE));
            Ok::<_, Infallible>(response)
        }
    });
    let (conversation, client) = conversation(stream);
    let connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(conversation), service);
    let mut connection = std::pin::pin!(connection);
    let mut gone = std::pin::pin!(client.gone());
    loop {
        let limit = *turns.borrow_and_update();
        let too_late = async {
            match limit {
                Some(limit) => sleep_until(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // A client that breaks a connection off is no fault of ours.
            _ = &mut connection => return,
            // The sender is in the connection, which is polled first.
            _ = turns.changed() => {}
            () = too_late => return,
            () = dismissed.come() => return,
            // What it has asked for may still be waited for.
            () = &mut gone => return,
        }
    }
}

impl Server {
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        turn: &watch::Sender<Option<Instant>>,
        entry: &Connection,
        place: &Mutex<Option<OwnedSemaphorePermit>>,
    ) -> Response<Full<Bytes>> {
        if let Err(refusal) = self.admit(peer) {
            return respond(&Err(refusal));
        }
        let ask = match read(request).await {
            Ok(Wanted::Metrics(format)) => return exposition(self.scrape.text(format)),
            Ok(Wanted::Ask(ask)) => ask,
            Err(refusal) => return respond(&Err(refusal)),
        };
        turn.send_replace(None);
        entry.owes(Owes::Nothing);
        let mut answering = None;
        let waiting = if ask.waits() {
            let Ok(waiting) = Arc::clone(&self.waiting).try_acquire_owned() else {
                let message = format!("{WAITING} others are waiting already");
                return respond(&Err(Refusal::new(Code::Busy, message)));
            };
            drop(lock(place).take());
            Some(waiting)
        } else {
            // It is never closed.
            answering = self.answers.acquire().await.ok();
            None
        };
        let answer = self.supervisor.ask(ask, peer.pid).await;
        drop((waiting, answering));
        respond(&answer)
    }

    /// Refuses everybody but our own user and root.
    fn admit(&self, peer: Peer) -> Result<(), Refusal> {
        let own = rustix::process::geteuid().as_raw();
        let Peer { user, pid } = peer;
        if user == own || user == 0 {
            return Ok(());
        }
        let mut strangers = lock(&self.strangers);
        if strangers.len() < STRANGERS && strangers.insert(user) {
            let pid = pid.unwrap_or_default();
            tracing::warn!(
                user,
                pid,
                "refused process {pid} of user {user} at the control socket"
            );
        }
        Err(Refusal::new(
            Code::Forbidden,
            format!("user {user} may not ask here: only user {own} and root may"),
        ))
    }
}

/// How many connections there may be, without taking more than an eighth of the descriptors that this
/// process may have: the others are for its proxies.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let eighth = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit / 8).unwrap_or(usize::MAX)
    });
    eighth.clamp(2, CONNECTIONS)
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
