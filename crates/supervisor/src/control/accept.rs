//! The way in: connections are accepted, have a place, and are held for one request each.
//!
//! Where all places are taken, or no descriptor is left, the client that has let the server wait for longest
//! makes room for the next one: see [`connections`](super::connections). Without a client nothing here wakes
//! up.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_runtime::Shortage;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connections::{Connection, Connections, Dismissed};
use super::half_closed::{Shareable, conversation};

/// How many connections there are at most, those aside whose answer is waited for.
const CONNECTIONS: usize = 128;
/// How long to wait when no connection can be accepted: with all descriptors in use, the next
/// attempt fails as fast as the one before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a warning that no connection can be accepted lasts.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// The most that a request's head may take, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// What connections come from.
pub(crate) trait Listener: Send + Sync {
    type Stream: Shareable;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// The places for connections, and who has them.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    connections: Arc<Connections>,
}

impl Places {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(number)),
            connections: Arc::default(),
        }
    }
}

/// How many connections there may be, without taking more than an eighth of the descriptors that this
/// process may have: the others are for its proxies.
pub(crate) fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let eighth = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit / 8).unwrap_or(usize::MAX)
    });
    eighth.clamp(2, CONNECTIONS)
}

/// Accepts connections until it is closed, and waits for the end of those that there are. `converse` is one
/// connection to its end.
pub(crate) async fn accept<L, F>(
    listener: L,
    where_to: &'static str,
    places: Places,
    mut closed: oneshot::Receiver<()>,
    converse: impl Fn(L::Stream, OwnedSemaphorePermit, (Connection, Dismissed)) -> F,
) where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
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
                Ok(stream) => stream,
                Err(error) => {
                    let now = Instant::now();
                    if lock(&told).is_none_or(|before| now - before > TOLD_AGAIN) {
                        *lock(&told) = Some(now);
                        let open = places.connections.number();
                        tracing::warn!("{}", not_accepted(where_to, open, &error));
                    }
                    // Its descriptor is free once its task has ended.
                    places.connections.dismiss();
                    sleep(ACCEPT_PAUSE).await;
                    return None;
                }
            },
        };
        if let Ok(place) = Arc::clone(&places.free).try_acquire_owned() {
            return Some((stream, place));
        }
        *lock(&waits) = Some(stream);
        for _ in 0..2 {
            // Those who have just come and asked are given the time to be heard.
            yield_now().await;
        }
        loop {
            places.connections.dismiss();
            // Where nobody can be sent away, somebody may be a moment later.
            let place = Arc::clone(&places.free).acquire_owned();
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
                tracing::error!("a bug: a connection at {where_to} ended early: {error}");
            },
            accepted = next() => if let Some((stream, place)) = accepted {
                // From this moment on it can be sent away.
                let entry = places.connections.enter();
                conversations.spawn(converse(stream, place, entry));
            }
        }
    }
    drop(listener);
    while conversations.join_next().await.is_some() {}
}

/// Holds a connection for one request, until its answer was read, its client has gone or is dismissed, or
/// has let the server wait for too long. `turns` is until when the client has to do its next part; nothing
/// while the server has to.
pub(crate) async fn hold<S, V, B>(
    stream: S,
    service: V,
    mut turns: watch::Receiver<Option<Instant>>,
    dismissed: Dismissed,
) where
    S: Shareable,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
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

/// What is logged of a connection that was not accepted.
fn not_accepted(where_to: &str, open: usize, error: &io::Error) -> String {
    let remedy = match Shortage::of(error) {
        Some(shortage) => format!("raise the limit of {shortage}"),
        None => "its clients wait meanwhile".to_owned(),
    };
    format!(
        "{where_to} accepts no connection beside the {open} that it has: {error}; this is tried again every \
         {ACCEPT_PAUSE:?}: {remedy}"
    )
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_connection_that_is_not_accepted_is_told_with_its_reason_and_a_remedy() {
        let told = |errno: Errno| not_accepted("the status server", 12, &errno.into());
        insta::assert_snapshot!([told(Errno::MFILE), told(Errno::PERM)].join("\n"), @r"
        the status server accepts no connection beside the 12 that it has: Too many open files (os error 24); this is tried again every 100ms: raise the limit of open files of this process (RLIMIT_NOFILE, `ulimit -n`)
        the status server accepts no connection beside the 12 that it has: Operation not permitted (os error 1); this is tried again every 100ms: its clients wait meanwhile
        ");
    }
}
