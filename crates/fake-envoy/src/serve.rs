//! The data plane: worker threads that answer requests on the listening sockets.

mod connection;
pub(crate) mod drain;
pub(crate) mod listening;
pub(crate) mod upstream;

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use self::connection::Connection;
use self::drain::Drain;
pub(crate) use self::listening::Bound;
use crate::config::{Address, Bootstrap, Listener, RouteConfig};
use crate::statistics::{Import, Number, Statistics};

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) statistics: Statistics,
    pub(crate) drain: Drain,
    /// The connections of all listeners of clients.
    pub(crate) connections: Number,
    /// How long each answer is held back, in milliseconds.
    slow_answers: AtomicU64,
    /// Whether the workers accept.
    is_open: watch::Sender<bool>,
}

impl Service {
    pub(crate) fn new(bootstrap: Bootstrap, drain: Drain) -> Self {
        Self {
            statistics: Statistics::new(bootstrap.matcher.clone()),
            bootstrap,
            drain,
            connections: Number::default(),
            slow_answers: AtomicU64::new(0),
            is_open: watch::Sender::new(false),
        }
    }

    /// Lets the workers accept. A second call changes nothing.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Holds each answer back.
    pub(crate) fn set_slow_answers(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.slow_answers.store(millis, Ordering::Relaxed);
    }

    fn slow_answers(&self) -> Duration {
        Duration::from_millis(self.slow_answers.load(Ordering::Relaxed))
    }
}

/// The statistics of a listener, or of one worker of it.
#[derive(Clone, Debug)]
struct Connections {
    active: Number,
    total: Number,
}

impl Connections {
    fn new(statistics: &Statistics, name: &str) -> Self {
        Self {
            active: statistics.gauge(
                &format!("listener.{name}.downstream_cx_active"),
                Import::Add,
            ),
            total: statistics.counter(&format!("listener.{name}.downstream_cx_total")),
        }
    }
}

/// The statistics of requests.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    total: Number,
    completed: Number,
    active: Number,
    /// By the first digit of the status, from 1.
    classes: [Number; 5],
    routed: Number,
    direct: Number,
    unrouted: Number,
    connections_active: Number,
    connections_total: Number,
    drain_close: Number,
}

impl Requests {
    pub(crate) fn new(statistics: &Statistics, prefix: &str) -> Self {
        let counter = |name: &str| statistics.counter(&format!("http.{prefix}.{name}"));
        let gauge = |name: &str| statistics.gauge(&format!("http.{prefix}.{name}"), Import::Add);
        let class = |digit: u8| counter(&format!("downstream_rq_{digit}xx"));
        Self {
            total: counter("downstream_rq_total"),
            completed: counter("downstream_rq_completed"),
            active: gauge("downstream_rq_active"),
            classes: [class(1), class(2), class(3), class(4), class(5)],
            routed: counter("rq_total"),
            direct: counter("rq_direct_response"),
            unrouted: counter("no_route"),
            connections_active: gauge("downstream_cx_active"),
            connections_total: counter("downstream_cx_total"),
            drain_close: counter("downstream_cx_drain_close"),
        }
    }

    /// Counts a request that begins.
    pub(crate) fn began(&self) {
        self.total.add(1);
        self.active.add(1);
    }

    /// Counts the answer to a request, and that it is no more active.
    pub(crate) fn answered(&self, status: u16) {
        self.finished(status);
        self.active.subtract(1);
    }

    /// Counts the answer to a request.
    fn finished(&self, status: u16) {
        self.completed.add(1);
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(class) = self.classes.get(class) {
            class.add(1);
        }
    }
}

/// What serves one listener on one worker.
#[derive(Clone, Debug)]
struct Handler {
    service: Arc<Service>,
    listener: Arc<Listener>,
    routes: Arc<RouteConfig>,
    whole: Connections,
    worker: Connections,
    requests: Requests,
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
struct Open(Vec<Number>);

impl Open {
    fn new(handler: &Handler) -> Self {
        let active = [
            &handler.whole.active,
            &handler.worker.active,
            &handler.requests.connections_active,
            &handler.service.connections,
        ];
        let totals = [
            &handler.whole.total,
            &handler.worker.total,
            &handler.requests.connections_total,
        ];
        for number in active.into_iter().chain(totals) {
            number.add(1);
        }
        Self(active.into_iter().cloned().collect())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for number in &self.0 {
            number.subtract(1);
        }
    }
}

/// Makes the statistics of all listeners, so that a gauge is there before the first connection.
pub(crate) fn prepare(service: &Service, listener: &Listener, workers: u32) {
    let name = &listener.stat_name;
    let _whole = Connections::new(&service.statistics, name);
    for worker in 0..workers {
        let _worker = Connections::new(&service.statistics, &format!("{name}.worker_{worker}"));
    }
    if let Some(http) = &listener.http {
        let _requests = Requests::new(&service.statistics, &http.stat_prefix);
    }
}

/// A listener as a worker gets it.
#[derive(Debug)]
struct Task {
    handler: Handler,
    socket: socket2::Socket,
    stop: watch::Receiver<bool>,
}

/// Why the workers cannot be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// A socket cannot be copied, or there is no descriptor left.
    Socket(io::Error),
    /// The system makes no further thread.
    Thread(io::Error),
}

/// Starts the worker threads. Each accepts on its own socket of each listener, once the service is
/// [open](Service::open).
pub(crate) fn start(
    service: &Arc<Service>,
    bound: &[Bound],
    routes: &[Arc<RouteConfig>],
    workers: u32,
) -> Result<(), StartError> {
    for worker in 0..workers {
        let mut tasks = Vec::new();
        for (bound, routes) in bound.iter().zip(routes) {
            let (Some(http), Some(socket)) = (&bound.listener.http, bound.sockets.of(worker))
            else {
                continue;
            };
            let name = &bound.listener.stat_name;
            let handler = Handler {
                service: Arc::clone(service),
                listener: Arc::clone(&bound.listener),
                routes: Arc::clone(routes),
                whole: Connections::new(&service.statistics, name),
                worker: Connections::new(&service.statistics, &format!("{name}.worker_{worker}")),
                requests: Requests::new(&service.statistics, &http.stat_prefix),
            };
            tasks.push(Task {
                handler,
                socket: socket.try_clone().map_err(StartError::Socket)?,
                stop: bound.stopped(),
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Socket)?;
        // One whose thread was not made must not be dropped here: its end would block the main thread.
        let runtime = ManuallyDrop::new(runtime);
        std::thread::Builder::new()
            .name(format!("wrk:worker_{worker}"))
            .spawn(move || work(&runtime, tasks))
            .map_err(StartError::Thread)?;
    }
    Ok(())
}

fn work(runtime: &tokio::runtime::Runtime, tasks: Vec<Task>) {
    let local = tokio::task::LocalSet::new();
    for task in tasks {
        local.spawn_local(async move {
            let name = task.handler.listener.name.clone();
            if let Err(error) = accept(task).await {
                crate::log::Log::raw(&format!("listener {name} cannot accept: {error}\n"));
            }
        });
    }
    // Connections outlive their listeners, and end with the process.
    local.block_on(runtime, std::future::pending::<()>());
}

/// Accepts until the listener is stopped. The socket is closed then, so that new connections are
/// refused or go to another process that has it.
async fn accept(mut task: Task) -> io::Result<()> {
    let is_unix = matches!(task.handler.listener.address, Address::Pipe(_));
    task.socket.set_nonblocking(true)?;
    let mut open = task.handler.service.is_open.subscribe();
    tokio::select! {
        _ = task.stop.wait_for(|stop| *stop) => return Ok(()),
        // The handler has the service, and with it the sender.
        _ = open.wait_for(|open| *open) => {}
    }
    if is_unix {
        let listener = UnixListener::from_std(task.socket.into())?;
        loop {
            tokio::select! {
                _ = task.stop.wait_for(|stop| *stop) => return Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => serve(&task.handler, stream),
                    Err(error) => pause_after(&error).await,
                },
            }
        }
    }
    let listener = TcpListener::from_std(task.socket.into())?;
    loop {
        tokio::select! {
            _ = task.stop.wait_for(|stop| *stop) => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _only_slower_without = stream.set_nodelay(true);
                    serve(&task.handler, stream);
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
}

/// Waits after a shortage, in which accepting again at once would only burn time.
pub(crate) async fn pause_after(error: &io::Error) {
    let is_of_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !is_of_client {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn serve<S>(handler: &Handler, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let open = Open::new(handler);
    let connection = Connection::new(handler.clone(), stream);
    tokio::task::spawn_local(async move {
        // A client that goes away is no fault of the server.
        let _client_went = connection.run().await;
        drop(open);
    });
}
