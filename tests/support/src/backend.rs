//! An upstream that answers, slowly if asked to, and counts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Interval, interval};

/// What `/` answers.
pub const GREETING: &str = "hello from the backend\n";

/// Between two bytes of a `/stream` answer.
pub const DRIP_INTERVAL: Duration = Duration::from_millis(100);

/// An HTTP/1.1 server on a loopback port of its own, run by a thread of its own; it ends with the
/// value.
///
/// | path | answer |
/// |---|---|
/// | `/` | 200 with [`GREETING`] |
/// | `/slow?ms=N` | the same, head and body after N milliseconds |
/// | `/stream?ms=N` | 200 at once, then one byte each [`DRIP_INTERVAL`] for N milliseconds; its length is announced, so that a cut is seen |
/// | anything else | 404 |
#[derive(Debug)]
pub struct Backend {
    addr: SocketAddr,
    counts: Counts,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts it; it accepts connections when this returns.
    ///
    /// # Panics
    ///
    /// When no loopback port can be bound or no thread started.
    #[must_use]
    pub fn start() -> Self {
        let counts = Counts::default();
        let (stop, stopped) = oneshot::channel();
        let (bound, addr) = mpsc::channel();
        let of_thread = counts.clone();
        let thread = thread::Builder::new()
            .name("backend".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("the backend's runtime needs only file descriptors");
                runtime.block_on(async {
                    let listener = TcpListener::bind(("127.0.0.1", 0))
                        .await
                        .expect("a free loopback port for the backend");
                    bound
                        .send(listener.local_addr())
                        .expect("the starter waits for the address");
                    tokio::select! {
                        () = accept(listener, of_thread) => {}
                        // An error means that the `Backend` was dropped, which asks the same.
                        _ = stopped => {}
                    }
                });
            })
            .expect("a thread for the backend");
        let addr = addr
            .recv()
            .expect("the backend's thread panicked before it listened")
            .expect("a bound socket has an address");
        Self {
            addr,
            counts,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests have come so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts.lock().values().sum()
    }

    /// How many requests have come for `target`: a path with its query, or a path, whatever the
    /// query.
    #[must_use]
    pub fn requests_to(&self, target: &str) -> u64 {
        let counts = self.counts.lock();
        let meant = counts.iter().filter(|(asked, _)| {
            let path = asked
                .split_once('?')
                .map_or(asked.as_str(), |(path, _)| path);
            *asked == target || path == target
        });
        meant.map(|(_, count)| count).sum()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the backend has shown itself to its clients already.
            let _result = thread.join();
        }
    }
}

/// Requests by path and query.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, counts: Counts) {
    loop {
        // Accepting fails for a connection that is gone again; the next one is not affected.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // Small answers must not wait for the acknowledgement of the previous ones.
        let _best_effort = stream.set_nodelay(true);
        let counts = counts.clone();
        let service = service_fn(move |request| answer(request, counts.clone()));
        tokio::spawn(async move {
            // A connection's error concerns the client, which reports it.
            let _result = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: Counts,
) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    let target = request.uri().path_and_query();
    let target = target.map_or(path, |target| target.as_str()).to_owned();
    *counts.lock().entry(target).or_default() += 1;
    let time = milliseconds(request.uri().query());
    let (status, body) = match path {
        "/" => (StatusCode::OK, Answer::whole(GREETING)),
        "/slow" => {
            tokio::time::sleep(time).await;
            (StatusCode::OK, Answer::whole(GREETING))
        }
        "/stream" => (StatusCode::OK, Answer::dripping(time)),
        _ => (StatusCode::NOT_FOUND, Answer::whole("no such path\n")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn milliseconds(query: Option<&str>) -> Duration {
    let text = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("ms="));
    Duration::from_millis(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}

enum Answer {
    Whole(Option<Bytes>),
    Dripping { interval: Interval, left: u64 },
}

impl Answer {
    fn whole(text: &'static str) -> Self {
        Self::Whole(Some(Bytes::from_static(text.as_bytes())))
    }

    fn dripping(time: Duration) -> Self {
        let bytes = time.as_millis().div_ceil(DRIP_INTERVAL.as_millis());
        let left = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self::Dripping {
            interval: interval(DRIP_INTERVAL),
            left,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Dripping { left: 0, .. } => Poll::Ready(None),
            Self::Dripping { interval, left } => {
                ready!(interval.poll_tick(context));
                *left -= 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b".")))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Dripping { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(Some(bytes)) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Whole(None) => SizeHint::with_exact(0),
            Self::Dripping { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
