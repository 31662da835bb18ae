//! Answering on the socket.
//!
//! Each connection is for one request. It has ten seconds to ask, as long as the answer takes, and
//! ten seconds to read it. Where all places are taken, or no descriptor is left, the client that has
//! let the supervisor wait for longest makes room for the next one: see [`connections`](super::connections). At
//! most sixteen answers are made at once. A question whose answer may take long gives its place to
//! others while it waits. A configuration may take a minute to be sent, and two are received at once. Without a client nothing here wakes up.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::accept::{Places, accept, hold, most_connections};
use super::ask::{PendingAsk, Supervisor};
use super::connections::{Connection, Dismissed, Owes};
use super::routes::{Wanted, exposition, read, respond, respond_with};
use super::socket::Socket;
use super::wire::{self, Code, EventsRequest, Refusal};
use crate::events::Events;
use crate::metrics::Scrape;

/// How many answers are made at once.
const ANSWERS: usize = 16;
/// How many answers are waited for at once.
const WAITING: usize = 64;
/// How long a client may take to ask, and how long to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to give a configuration.
const GIVING: Duration = Duration::from_secs(60);
/// How many configurations are received at once: each may take its size in memory.
const RECEIVED: usize = 2;
/// How long the last answers may take when everything ends.
const FAREWELL: Duration = Duration::from_secs(1);
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
    pub(crate) fn serve(socket: Socket, scrape: Scrape, events: Events) -> io::Result<Self> {
        let listener = UnixListener::from_std(socket.listener()?)?;
        let (sender, asked) = mpsc::channel(ANSWERS);
        let server = Arc::new(Server {
            supervisor: Supervisor(sender),
            scrape,
            events,
            answers: Semaphore::new(ANSWERS),
            waiting: Arc::new(Semaphore::new(WAITING)),
            receiving: Semaphore::new(RECEIVED),
            strangers: Mutex::default(),
        });
        let (close, closed) = oneshot::channel();
        let places = Places::new(most_connections());
        let serving = tokio::spawn(async move {
            let converse =
                |stream, place, entry| converse(stream, place, entry, Arc::clone(&server));
            accept(listener, "the control socket", places, closed, converse).await;
        });
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
    events: Events,
    answers: Semaphore,
    waiting: Arc<Semaphore>,
    receiving: Semaphore,
    /// The users who were refused.
    strangers: Mutex<BTreeSet<u32>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
struct Peer {
    user: u32,
    pid: Option<i32>,
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
    let (turn, turns) = watch::channel(Some(Instant::now() + PATIENCE));
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
    hold(stream, service, turns, dismissed).await;
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
        let receiving = match request.uri().path() {
            wire::CONFIG => match self.receiving.try_acquire() {
                Ok(receiving) => {
                    turn.send_replace(Some(Instant::now() + GIVING));
                    Some(receiving)
                }
                Err(_) => {
                    let message = format!("{RECEIVED} other configurations are being received");
                    return respond(&Err(Refusal::new(Code::Busy, message)));
                }
            },
            _ => None,
        };
        let wanted = read(request).await;
        drop(receiving);
        let wanted = match wanted {
            Ok(Wanted::Metrics(format)) => return exposition(self.scrape.text(format)),
            Ok(wanted) => wanted,
            Err(refusal) => return respond(&Err(refusal)),
        };
        turn.send_replace(None);
        entry.owes(Owes::Nothing);
        let waits = match &wanted {
            Wanted::Ask(ask) | Wanted::Apply(ask, _) => ask.waits(),
            Wanted::Events(request) => request.wait,
            Wanted::Metrics(_) => false,
        };
        let mut answering = None;
        let waiting = if waits {
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
        let response = match wanted {
            Wanted::Ask(ask) => respond(&self.supervisor.ask(ask, None, peer.pid).await),
            Wanted::Apply(ask, text) => {
                respond(&self.supervisor.ask(ask, Some(text), peer.pid).await)
            }
            Wanted::Events(request) => respond_with(Ok(&self.events_after(&request).await)),
            Wanted::Metrics(format) => exposition(self.scrape.text(format)),
        };
        drop((waiting, answering));
        response
    }

    async fn events_after(&self, request: &EventsRequest) -> wire::Events {
        let wait = match (request.wait, request.timeout_ms) {
            (false, _) => Duration::ZERO,
            (true, None) => Duration::MAX,
            (true, Some(limit)) => Duration::from_millis(limit),
        };
        self.events.after(request.after.as_deref(), wait).await
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

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
