//! Clients that send requests until they are stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use handover_runtime::offload::offload;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::server::{EPOCH_HEADER, SLOW_PATH};
use super::tally::{Kind, Tally};

/// How many clients of each kind there are, and how long each pauses between two requests. Together
/// they keep a server busy and leave the rest of a small machine to it.
const CLIENTS: [(Kind, usize, Duration); 3] = [
    (Kind::New, 4, Duration::from_millis(4)),
    (Kind::Kept, 4, Duration::from_millis(2)),
    (Kind::Slow, 4, Duration::from_millis(10)),
];

/// How long after one client of a kind the next one starts.
const STAGGER: Duration = Duration::from_millis(90);

/// A request that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(5);

/// The clients, at work.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts all clients, on a thread of their own: their times must not depend on what else this
    /// process does.
    ///
    /// # Errors
    ///
    /// When there is no thread, or no runtime.
    pub(crate) fn start(address: SocketAddr, tally: &Arc<Tally>) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tally = Arc::clone(tally);
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || runtime.block_on(clients(address, &tally, &stopped)))?;
        Ok(Self { stop, thread })
    }

    /// Lets each client finish its last request, and returns when all have.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // Each request has its limit, so this ends.
        let _ended = offload(move || self.thread.join()).await;
    }
}

async fn clients(address: SocketAddr, tally: &Arc<Tally>, stopped: &watch::Receiver<bool>) {
    let mut clients = JoinSet::new();
    for (kind, count, pause) in CLIENTS {
        for index in 0..count {
            // In step, all slow requests could fall between two hand-overs.
            let start = STAGGER.saturating_mul(u32::try_from(index).unwrap_or(0));
            let client = Client {
                address,
                kind,
                tally: Arc::clone(tally),
            };
            let mut stopped = stopped.clone();
            clients.spawn(async move {
                let mut kept = None;
                let _over = tokio::time::timeout(start, stopped.changed()).await;
                while !*stopped.borrow() {
                    kept = client.request(kept).await;
                    // Whether it was stopped or the pause is over, the loop looks.
                    let _over = tokio::time::timeout(pause, stopped.changed()).await;
                }
            });
        }
    }
    while clients.join_next().await.is_some() {}
}

type Connection = SendRequest<Empty<Bytes>>;

struct Client {
    address: SocketAddr,
    kind: Kind,
    tally: Arc<Tally>,
}

impl Client {
    /// One request, counted. Returns the connection if another one may be sent over it.
    async fn request(&self, kept: Option<Connection>) -> Option<Connection> {
        let started = Instant::now();
        let exchange = tokio::time::timeout(LIMIT, self.exchange(kept)).await;
        let outcome = exchange.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {LIMIT:?}")));
        match outcome {
            Ok((epoch, kept)) => {
                let time = started.elapsed();
                self.tally.answered(self.kind, time, epoch.as_deref());
                kept
            }
            Err(error) => {
                self.tally
                    .failed(self.kind, format!("{:?}: {error:#}", self.kind));
                None
            }
        }
    }

    async fn exchange(
        &self,
        kept: Option<Connection>,
    ) -> Result<(Option<String>, Option<Connection>)> {
        let mut connection = match still_open(kept).await {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let path = match self.kind {
            Kind::New | Kind::Kept => "/",
            Kind::Slow => SLOW_PATH,
        };
        let mut request = Request::get(path).header(HOST, self.address.to_string());
        if self.kind != Kind::Kept {
            request = request.header(CONNECTION, "close");
        }
        let request = request.body(Empty::new()).context("making the request")?;
        let response = connection
            .send_request(request)
            .await
            .context("no answer")?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "answered with {status}");
        let epoch = response
            .headers()
            .get(EPOCH_HEADER)
            .and_then(|epoch| Some(epoch.to_str().ok()?.to_owned()));
        let keep = self.kind == Kind::Kept && !says_close(&response);
        response
            .into_body()
            .collect()
            .await
            .context("the answer broke off")?;
        Ok((epoch, keep.then_some(connection)))
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address)
            .await
            .context("connecting")?;
        // Without it, a request may wait for the acknowledgement of the one before.
        stream.set_nodelay(true).context("connecting")?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .context("connecting")?;
        // It ends with its sender; its errors reach the request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The kept connection, if the server has not closed it. One that was closed before the next
/// request was sent was closed as HTTP provides for it: nothing is lost.
async fn still_open(kept: Option<Connection>) -> Option<Connection> {
    let mut kept = kept?;
    kept.ready().await.is_ok().then_some(kept)
}

fn says_close<B>(response: &Response<B>) -> bool {
    response
        .headers()
        .get(CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}
