//! The server that `demo` hands over, and that shows what a server needs for it: it takes the
//! passed socket, says `READY=1`, and on TERM says `STOPPING=1` and finishes what it has before it
//! ends.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::demo::DemoServerArgs;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::passed::Passed;

/// The path of a request that takes its time, and the time.
pub(super) const SLOW_PATH: &str = "/slow";
const SLOW: Duration = Duration::from_millis(400);

/// The header that tells which epoch has answered.
pub(super) const EPOCH_HEADER: HeaderName = HeaderName::from_static("x-epoch");

/// How long a kept connection may be silent, once the server ends, before it is closed. A request
/// that comes in this time is answered, with the word that it is the last.
const SILENCE: Duration = Duration::from_secs(1);

/// How long to wait when no connection can be accepted: with all descriptors in use, the next
/// attempt fails as fast as the one before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What the answers need to know.
struct Server {
    text: String,
    epoch: String,
    /// Whether this epoch is told to end.
    ending: AtomicBool,
}

/// Serves until TERM, then finishes and ends.
pub(crate) async fn run(args: DemoServerArgs, passed: Passed) -> Result<ExitCode, Fatal> {
    let text = match &args.config {
        Some(path) => read_config(path).or_exit(ExitCode::CONFIG)?,
        None => "hello".to_owned(),
    };
    let mut terminate = signal(SignalKind::terminate()).or_exit(ExitCode::OS)?;
    // Unless it is taken, this signal ends a process. There are no log files to open again.
    let _taken = signal(SignalKind::user_defined1()).or_exit(ExitCode::OS)?;
    let passed = passed.or_exit(ExitCode::USAGE)?.into_iter().next();
    let passed = passed
        .context("no socket was passed: start this server with `handover exec --listen`")
        .or_exit(ExitCode::USAGE)?;
    let listener = std::net::TcpListener::from(passed.into_descriptor());
    // Passed sockets block, and tokio needs one that does not.
    listener.set_nonblocking(true).or_exit(ExitCode::OS)?;
    let listener = TcpListener::from_std(listener).or_exit(ExitCode::OS)?;
    let server = Arc::new(Server {
        text,
        epoch: std::env::var("RESTART_EPOCH").unwrap_or_default(),
        ending: AtomicBool::new(false),
    });
    let (end, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    announce(b"READY=1")
        .context("sending READY=1")
        .or_exit(ExitCode::OS)?;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&server), ended.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    announce(b"STOPPING=1")
        .context("sending STOPPING=1")
        .or_exit(ExitCode::OS)?;
    // What waits in the socket is left to the next epoch, which has the same socket.
    drop(listener);
    server.ending.store(true, Ordering::Relaxed);
    drop(end);
    while connections.join_next().await.is_some() {}
    Ok(ExitCode::CLEAN)
}

fn read_config(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the configuration {}", path.display()))?;
    let text = text.trim().to_owned();
    anyhow::ensure!(
        !text.starts_with("broken"),
        "the configuration says: {text}"
    );
    Ok(text)
}

/// Says what this process does, where somebody wants to know.
fn announce(state: &[u8]) -> io::Result<()> {
    let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
    let Some(address) = address else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state, &notify_address(&address)?)?;
    Ok(())
}

/// An address that begins with `@` is an abstract one, without a file.
fn notify_address(text: &OsString) -> io::Result<SocketAddr> {
    match text.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(text),
    }
}

/// One connection to its end. When the server ends, the connection goes on until its client has
/// been told with an answer that it is the last one, or has been silent for a while.
async fn serve(stream: TcpStream, server: Arc<Server>, mut ended: watch::Receiver<()>) {
    // Without it, an answer may wait for the acknowledgement of the one before.
    let _unsupported = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&server)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that breaks a connection off is no fault of the server.
    tokio::select! {
        _ = &mut connection => return,
        _ = ended.changed() => {}
    }
    tokio::select! {
        _ = &mut connection => return,
        () = tokio::time::sleep(SILENCE) => connection.as_mut().graceful_shutdown(),
    }
    let _broken_off = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    server: Arc<Server>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == SLOW_PATH {
        tokio::time::sleep(SLOW).await;
    }
    let body = format!("{} from epoch {}\n", server.text, server.epoch);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if let Ok(epoch) = HeaderValue::from_str(&server.epoch) {
        response.headers_mut().insert(EPOCH_HEADER, epoch);
    }
    if server.ending.load(Ordering::Relaxed) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
