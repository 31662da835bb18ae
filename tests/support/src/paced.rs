//! Requests at a fixed rate, each timed from the moment at which it was due.
//!
//! A client that waits for an answer before it sends the next request hides a stall: while the server stands still, the
//! client asks nothing. Here a thread lets requests begin at fixed times, whatever became of those before.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::connection::{Connection, Lost, Sources};
use crate::report::FailureKind;

/// How long a request may take, a retry included.
const LIMIT: Duration = Duration::from_secs(10);

/// Connections of HTTP/2 that take the requests in turn, as proxies and gRPC clients keep a few of them.
const CONNECTIONS: usize = 4;

/// What answers of HTTP/2 may need until they are read. By default the client ends a connection that has more than
/// about a hundred small answers unread, as after a stall, and takes that for an attack.
const UNREAD: usize = 64 << 20;

/// How the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 on as many kept connections as there are requests at once.
    Http1,
    /// HTTP/2 without TLS on four connections.
    Http2,
}

/// Running requests, on threads of their own. Dropping it ends them.
#[derive(Debug)]
pub struct Paced {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

/// What became of one request.
#[derive(Debug, Clone)]
struct Sample {
    due: Instant,
    result: Result<Duration, String>,
}

/// What became of the requests.
#[derive(Debug, Clone)]
pub struct Report {
    samples: Vec<Sample>,
}

impl Paced {
    /// Begins `rate` requests a second for `/` at `target`.
    ///
    /// A connection that the server closes while it is idle, or an HTTP/2 connection on which it announces its end, is
    /// replaced. A request that raced with that gets one retry, as any client would do, and its time goes on.
    ///
    /// # Panics
    ///
    /// When no thread can be started.
    #[must_use]
    pub fn start(target: SocketAddr, protocol: Protocol, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (begin, due) = mpsc::unbounded_channel();
        let of_thread = Arc::clone(&samples);
        let client = thread::Builder::new()
            .name("paced-client".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("the load's runtime needs only file descriptors");
                runtime.block_on(run(Clients::new(target, protocol), due, of_thread));
            });
        let is_over = Arc::clone(&stop);
        let pace = thread::Builder::new()
            .name("paced-clock".to_owned())
            .spawn(move || {
                // A thread of its own, because the timers of the runtime are only good to a millisecond.
                let interval = Duration::from_secs(1) / rate.max(1);
                let mut next = Instant::now();
                // What was due before the end begins, also where the machine was too busy for it until then.
                while !is_over.load(Ordering::Relaxed) || next <= Instant::now() {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    if begin.send(next).is_err() {
                        return;
                    }
                    next += interval;
                }
            });
        let threads = [client, pace].map(|thread| thread.expect("a thread for the load"));
        Self {
            stop,
            threads: threads.into(),
            samples,
        }
    }

    /// Begins no further request, waits for those under way, and reports.
    ///
    /// # Panics
    ///
    /// When a client panicked.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a thread of the load panicked");
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        Report {
            samples: std::mem::take(&mut *samples),
        }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic does not matter to who gave the load up.
            let _result = thread.join();
        }
    }
}

impl Report {
    /// The same of those requests alone that were due in this time.
    #[must_use]
    pub fn due_within(mut self, begin: Instant, length: Duration) -> Self {
        let end = begin + length;
        self.samples
            .retain(|sample| (begin..end).contains(&sample.due));
        self
    }

    /// How long each answered request took, from the moment at which it was due.
    pub fn times(&self) -> impl Iterator<Item = Duration> {
        let results = self.samples.iter().map(|sample| &sample.result);
        results.filter_map(|result| result.as_ref().ok().copied())
    }

    /// What became of each request that was not answered with 200.
    #[must_use]
    pub fn lost(&self) -> Vec<&str> {
        let results = self.samples.iter().map(|sample| &sample.result);
        results
            .filter_map(|result| result.as_ref().err().map(String::as_str))
            .collect()
    }
}

async fn run(
    clients: Clients,
    mut due: mpsc::UnboundedReceiver<Instant>,
    samples: Arc<Mutex<Vec<Sample>>>,
) {
    let clients = Arc::new(clients);
    let mut requests = JoinSet::new();
    let mut number = 0_usize;
    while let Some(due) = due.recv().await {
        let (clients, samples) = (Arc::clone(&clients), Arc::clone(&samples));
        let turn = number;
        number = number.wrapping_add(1);
        requests.spawn(async move {
            let result = match timeout_at((due + LIMIT).into(), clients.request(turn)).await {
                Ok(Ok(())) => Ok(due.elapsed()),
                Ok(Err(lost)) => Err(lost),
                Err(_) => Err(format!("no answer in {LIMIT:?}")),
            };
            let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push(Sample { due, result });
        });
        while requests.try_join_next().is_some() {}
    }
    // A client's panic is a bug of this crate: it must not pass for a quiet client.
    requests.join_all().await;
}

/// The connections of the load.
enum Clients {
    Http1(Http1),
    Http2(Box<Http2>),
}

impl Clients {
    fn new(target: SocketAddr, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(Http1 {
                target,
                idle: Mutex::new(Vec::new()),
                sources: Mutex::new(Sources::starting_at(0)),
            }),
            Protocol::Http2 => Self::Http2(Box::new(Http2 {
                target,
                connections: std::array::from_fn(|_| tokio::sync::Mutex::new(None)),
            })),
        }
    }

    async fn request(&self, turn: usize) -> Result<(), String> {
        match self {
            Self::Http1(clients) => clients.request().await,
            Self::Http2(clients) => clients.request(turn).await,
        }
    }
}

struct Http1 {
    target: SocketAddr,
    idle: Mutex<Vec<Connection>>,
    sources: Mutex<Sources>,
}

impl Http1 {
    async fn request(&self) -> Result<(), String> {
        while let Some(connection) = self.take() {
            match connection.is_usable() {
                Ok(true) => match self.exchange(connection).await {
                    // The server has closed it at the same moment.
                    Err(lost) if lost.ended_unanswered => break,
                    result => return result.map_err(|lost| told(&lost)),
                },
                Ok(false) => {}
                Err(lost) => return Err(told(&lost)),
            }
        }
        let mut source = self.next_source();
        let result = match Connection::open(self.target, &mut source, LIMIT).await {
            Ok(connection) => self.exchange(connection).await,
            Err(lost) => Err(lost),
        };
        result.map_err(|lost| told(&lost))
    }

    fn next_source(&self) -> Sources {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.turn()
    }

    fn take(&self) -> Option<Connection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    async fn exchange(&self, mut connection: Connection) -> Result<(), Lost> {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", self.target);
        let response = connection.exchange(request.as_bytes(), LIMIT).await?;
        if response.reusable {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
        }
        match response.status {
            200 => Ok(()),
            // Envoy says there why it has no answer of the upstream.
            status => Err(Lost::new(FailureKind::Status(status), response.text())),
        }
    }
}

fn told(lost: &Lost) -> String {
    format!("{} ({})", lost.kind, lost.detail)
}

struct Http2 {
    target: SocketAddr,
    connections: [tokio::sync::Mutex<Option<SendRequest<Bytes>>>; CONNECTIONS],
}

impl Http2 {
    async fn request(&self, turn: usize) -> Result<(), String> {
        match self.attempt(turn).await {
            Err(lost) if lost.is_untouched => self.attempt(turn).await,
            result => result,
        }
        .map_err(|lost| lost.told)
    }

    async fn attempt(&self, turn: usize) -> Result<(), LostStream> {
        let mut sender = self.sender(turn).await?;
        let request = http::Request::get(format!("http://{}/", self.target)).body(());
        let request = request.map_err(|error| LostStream::for_good(error.to_string()))?;
        let (response, _) = sender.send_request(request, true)?;
        let response = response.await?;
        let status = response.status();
        let (mut body, mut text) = (response.into_body(), Vec::new());
        while let Some(part) = body.data().await {
            let part = part?;
            // Only a stream that has ended cannot give its window back.
            let _ended = body.flow_control().release_capacity(part.len());
            text.extend_from_slice(&part);
        }
        if status == http::StatusCode::OK {
            Ok(())
        } else {
            let text = String::from_utf8_lossy(&text);
            Err(LostStream::for_good(format!("status {status} ({text})")))
        }
    }

    /// The connection whose turn it is, or another one in its place if the server has announced its end.
    async fn sender(&self, turn: usize) -> Result<SendRequest<Bytes>, LostStream> {
        let slot = self.connections.get(turn % CONNECTIONS);
        let slot = slot.ok_or_else(|| LostStream::for_good("no such connection".to_owned()))?;
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.as_ref()
            && let Ok(ready) = sender.clone().ready().await
        {
            return Ok(ready);
        }
        let failed = |error: std::io::Error| LostStream::for_good(format!("connecting: {error}"));
        let stream = TcpStream::connect(self.target).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut client = h2::client::Builder::new();
        client.data_frame_budget(UNREAD);
        let (sender, connection) = client.handshake(stream).await?;
        tokio::spawn(async move {
            // Its requests report what has become of it.
            let _ended = connection.await;
        });
        let sender = slot.insert(sender).clone();
        Ok(sender.ready().await?)
    }
}

/// Why a stream gave no response.
struct LostStream {
    told: String,
    /// The server has not begun with it, and says so: it may be sent again.
    is_untouched: bool,
}

impl LostStream {
    fn for_good(told: String) -> Self {
        Self {
            told,
            is_untouched: false,
        }
    }
}

impl From<h2::Error> for LostStream {
    fn from(error: h2::Error) -> Self {
        Self {
            is_untouched: error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM),
            told: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::backend::Backend;
    use crate::limit::eventually;

    #[test]
    fn requests_begin_at_their_times_and_are_answered() {
        let backend = Backend::start();
        let load = Paced::start(backend.addr(), Protocol::Http1, 500);
        eventually(Duration::from_secs(30), "50 requests", || {
            (backend.requests() >= 50).then_some(())
        });
        let report = load.stop();
        assert_eq!(report.lost(), [""; 0]);
        assert!(report.times().count() >= 50);
        let mut dues: Vec<_> = report.samples.iter().map(|sample| sample.due).collect();
        dues.sort_unstable();
        let intervals = dues.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            intervals
                .into_iter()
                .all(|one| one == Duration::from_millis(2))
        );
    }

    #[test]
    fn a_stall_is_part_of_the_time_of_each_request_that_was_due_in_it() {
        // It answers nothing for a while: a client that waits for answers would have asked once.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let load = Paced::start(listener.local_addr().unwrap(), Protocol::Http1, 100);
        let mut connections = Vec::new();
        for _ in 0..5 {
            connections.push(listener.accept().unwrap().0);
        }
        for mut connection in connections {
            let mut request = [0; 16];
            connection.read_exact(&mut request).unwrap();
        }
        drop(listener);
        let report = load.stop();
        assert!(report.samples.len() >= 5);
        assert_eq!(report.times().count(), 0);
        assert_eq!(report.lost().len(), report.samples.len());
    }

    /// With the client's default, all that were unread were lost, and the server had answered every one.
    #[test]
    fn many_small_answers_at_once_are_read_and_none_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let target = listener.local_addr().unwrap();
        let answered = Arc::new(AtomicUsize::new(0));
        let of_server = Arc::clone(&answered);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer_in_bursts(stream, Arc::clone(&of_server)));
            }
        });
        let load = Paced::start(target, Protocol::Http2, 4_000);
        eventually(Duration::from_secs(30), "eight bursts of answers", || {
            (answered.load(Ordering::Relaxed) >= 8).then_some(())
        });
        // What still waits for its burst does not matter, so the client is not asked to wait for it.
        let samples = load.samples.lock().unwrap().clone();
        runtime.shutdown_background();
        drop(load);
        let report = Report { samples };
        assert_eq!(report.lost(), [""; 0]);
    }

    /// Answers 300 requests at once, each in two parts.
    async fn answer_in_bursts(stream: TcpStream, answered: Arc<AtomicUsize>) {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok((_, respond))) = connection.accept().await {
            held.push(respond);
            if held.len() < 300 {
                continue;
            }
            for mut respond in held.drain(..) {
                let mut body = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                body.send_data(Bytes::from_static(b"a few bytes"), false)
                    .unwrap();
                body.send_data(Bytes::new(), true).unwrap();
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_requests_that_were_due_in_the_time_are_reported() {
        let begin = Instant::now();
        let sample = |milliseconds| Sample {
            due: begin + Duration::from_millis(milliseconds),
            result: Ok(Duration::from_millis(milliseconds)),
        };
        let report = Report {
            samples: vec![sample(0), sample(5), sample(10)],
        };
        let second = begin + Duration::from_millis(5);
        let report = report.due_within(second, Duration::from_millis(5));
        assert_eq!(
            report.times().collect::<Vec<_>>(),
            [Duration::from_millis(5)]
        );
    }
}
