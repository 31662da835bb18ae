//! Clients that make requests without pause and count each one that is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::connection::{Connection, Lost, Sources};
use crate::http::Response;
pub use crate::report::{ClientKind, Failure, FailureKind, KEPT_FAILURES, Latency, Report};
pub use crate::tally::Progress;
use crate::tally::Tally;

/// After a failure, so that a refusing port does not turn a client into a busy loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(5);

/// Which clients make up a load.
#[derive(Debug, Clone)]
pub struct Mix {
    /// Clients that open a connection for each request.
    pub new_connections: usize,
    /// Clients that keep their connection as long as the server lets them.
    pub keep_alive: usize,
    /// Clients with long requests, and the time one of their requests takes. Their path gets
    /// `?ms=` and this time appended; each request has a connection of its own.
    pub slow: Option<(usize, Duration)>,
    /// Between two requests of one client; `None` for no pause.
    pub pause: Option<Duration>,
    /// How long a request may take until it counts as lost, the time of a slow one not included.
    pub request_limit: Duration,
    /// What the clients ask for, by kind.
    pub paths: Paths,
}

impl Default for Mix {
    /// Two clients of each quick kind, none slow, 1 ms between requests, 10 s for each.
    fn default() -> Self {
        Self {
            new_connections: 2,
            keep_alive: 2,
            slow: None,
            pause: Some(Duration::from_millis(1)),
            request_limit: Duration::from_secs(10),
            paths: Paths::default(),
        }
    }
}

/// The paths of a load's requests; the defaults fit [`Backend`](crate::backend::Backend).
#[derive(Debug, Clone)]
pub struct Paths {
    /// Of [`ClientKind::NewConnection`]; `/` by default.
    pub new_connections: String,
    /// Of [`ClientKind::KeepAlive`]; `/` by default.
    pub keep_alive: String,
    /// Of [`ClientKind::Slow`], before `?ms=`; `/slow` by default.
    pub slow: String,
}

impl Default for Paths {
    fn default() -> Self {
        let [new_connections, keep_alive, slow] = ["/", "/", "/slow"].map(str::to_owned);
        Self {
            new_connections,
            keep_alive,
            slow,
        }
    }
}

/// Running clients, on a thread of their own. Dropping it ends them at once.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Tally>,
    order: watch::Sender<Order>,
    done: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    /// No further request; those under way are waited for.
    Finish,
    /// Requests under way are dropped and not counted.
    Abandon,
}

impl Load {
    /// Starts the clients of `mix` against `target`. The first requests are under way when this
    /// returns or soon after; wait for [`Load::progress`] to see them succeed.
    ///
    /// # Panics
    ///
    /// When no thread can be started.
    #[must_use]
    pub fn start(target: SocketAddr, mix: Mix) -> Self {
        let tally = Arc::new(Tally::start());
        let (order, orders) = watch::channel(Order::Run);
        let (finished, done) = oneshot::channel();
        let of_thread = Arc::clone(&tally);
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("the load's runtime needs only file descriptors");
                runtime.block_on(run_clients(target, &mix, &of_thread, orders));
                // Nobody listens when the load was dropped.
                let _receiver = finished.send(());
            })
            .expect("a thread for the load");
        Self {
            tally,
            order,
            done: Some(done),
            thread: Some(thread),
        }
    }

    /// Names the present moment: failures from here on are reported as "after `name`".
    pub fn mark(&self, name: impl Into<String>) {
        self.tally.mark(name.into());
    }

    /// The counts so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.tally.progress()
    }

    /// Lets each client finish its request, which at most takes the mix's limit, and reports.
    ///
    /// # Panics
    ///
    /// When the clients' thread panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the clients at once and loses the report.
    pub async fn stop(mut self) -> Report {
        let done = self.order_the_end();
        assert!(done.await.is_ok(), "the load's thread panicked");
        self.tally.report()
    }

    /// As [`Load::stop`], for a test without a runtime: blocks the thread.
    ///
    /// # Panics
    ///
    /// When the clients' thread panicked, or inside of a runtime.
    #[must_use]
    pub fn stop_blocking(mut self) -> Report {
        let done = self.order_the_end();
        assert!(done.blocking_recv().is_ok(), "the load's thread panicked");
        self.tally.report()
    }

    /// Tells the clients to finish; the receiver resolves once they have.
    fn order_the_end(&mut self) -> oneshot::Receiver<()> {
        self.tally.freeze_clock();
        self.order.send_replace(Order::Finish);
        self.done
            .take()
            .expect("each `stop` takes the load, so one of them is called once")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.order.send_replace(Order::Abandon);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported by `stop`, or does not matter to who gave the load up.
            let _result = thread.join();
        }
    }
}

async fn run_clients(
    target: SocketAddr,
    mix: &Mix,
    tally: &Arc<Tally>,
    mut orders: watch::Receiver<Order>,
) {
    let mut clients = JoinSet::new();
    for (kind, count, path, limit) in plan(mix) {
        for _ in 0..count {
            let client = Client {
                kind,
                target,
                request: request(target, &path, kind),
                limit,
                pause: mix.pause,
                sources: Sources::starting_at(clients.len()),
                idle: None,
                tally: Arc::clone(tally),
            };
            clients.spawn(client.run(orders.clone()));
        }
    }
    let abandoned = orders.wait_for(|order| *order == Order::Abandon);
    tokio::select! {
        // A client's panic is a bug of this crate: it must not pass for a quiet client.
        _ = clients.join_all() => {}
        _ = abandoned => {}
    }
}

fn plan(mix: &Mix) -> [(ClientKind, usize, String, Duration); 3] {
    let (slow, time) = mix.slow.unwrap_or_default();
    let slow_path = format!("{}?ms={}", mix.paths.slow, time.as_millis());
    [
        (
            ClientKind::NewConnection,
            mix.new_connections,
            mix.paths.new_connections.clone(),
            mix.request_limit,
        ),
        (
            ClientKind::KeepAlive,
            mix.keep_alive,
            mix.paths.keep_alive.clone(),
            mix.request_limit,
        ),
        (ClientKind::Slow, slow, slow_path, mix.request_limit + time),
    ]
}

fn request(target: SocketAddr, path: &str, kind: ClientKind) -> Vec<u8> {
    let connection = match kind {
        ClientKind::NewConnection | ClientKind::Slow => "close",
        ClientKind::KeepAlive => "keep-alive",
    };
    format!("GET {path} HTTP/1.1\r\nhost: {target}\r\nconnection: {connection}\r\n\r\n")
        .into_bytes()
}

struct Client {
    kind: ClientKind,
    target: SocketAddr,
    request: Vec<u8>,
    limit: Duration,
    pause: Option<Duration>,
    sources: Sources,
    idle: Option<Connection>,
    tally: Arc<Tally>,
}

impl Client {
    async fn run(mut self, mut orders: watch::Receiver<Order>) {
        while *orders.borrow() == Order::Run {
            let begun = Instant::now();
            let pause = match self.one_request().await {
                Ok(response) => {
                    let config = response.header("x-config");
                    self.tally.succeeded(self.kind, begun.elapsed(), config);
                    self.pause
                }
                Err((lost, retried)) => {
                    self.tally
                        .failed(self.kind, lost.kind, lost.detail, retried);
                    Some(self.pause.unwrap_or_default().max(PAUSE_AFTER_FAILURE))
                }
            };
            if let Some(pause) = pause {
                // An order ends the pause; so does the end of the orders.
                let _any = tokio::time::timeout(pause, orders.changed()).await;
            }
        }
    }

    /// A response with a good status, or what was lost and whether on the retry.
    async fn one_request(&mut self) -> Result<Response, (Lost, bool)> {
        let retried = match self.on_idle_connection().await {
            Some(Err(lost)) if lost.ended_unanswered => {
                self.tally.raced_with_idle_close();
                true
            }
            Some(result) => return result.and_then(accept_status).map_err(|lost| (lost, false)),
            None => false,
        };
        let fresh = Connection::open(self.target, &mut self.sources, self.limit).await;
        let result = match fresh {
            Ok(connection) => self.on(connection).await,
            Err(lost) => Err(lost),
        };
        result
            .and_then(accept_status)
            .map_err(|lost| (lost, retried))
    }

    /// `None` when there is no idle connection that the server has left open.
    async fn on_idle_connection(&mut self) -> Option<Result<Response, Lost>> {
        let connection = self.idle.take()?;
        match connection.is_usable() {
            Ok(true) => Some(self.on(connection).await),
            Ok(false) => {
                self.tally.closed_while_idle();
                None
            }
            Err(lost) => Some(Err(lost)),
        }
    }

    async fn on(&mut self, mut connection: Connection) -> Result<Response, Lost> {
        let response = connection.exchange(&self.request, self.limit).await?;
        if self.kind == ClientKind::KeepAlive {
            if response.reusable {
                self.idle = Some(connection);
            } else {
                self.tally.closed_as_announced();
            }
        }
        Ok(response)
    }
}

fn accept_status(response: Response) -> Result<Response, Lost> {
    if (200..300).contains(&response.status) {
        return Ok(response);
    }
    let detail = response
        .text()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    Err(Lost::new(FailureKind::Status(response.status), detail))
}
