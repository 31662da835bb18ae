//! Listens, and gives each request to the transport that it came by.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::state::Shared;
use super::{rest, stream};

/// Serves until `stopped`, which also resolves when its sender is dropped.
pub(super) fn run(addr: SocketAddr, shared: &Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the control plane's runtime needs only file descriptors");
    runtime.block_on(async {
        tokio::select! {
            () = come_and_go(addr, shared) => {}
            // An error means that the control plane was dropped, which asks the same.
            _ = stopped => {}
        }
    });
}

/// Listens while it is not away. All connections end with the listening.
async fn come_and_go(addr: SocketAddr, shared: &Arc<Shared>) {
    loop {
        until(shared, false).await;
        let listener = listen(addr).await;
        shared.listens(true);
        {
            let mut connections = JoinSet::new();
            tokio::select! {
                () = accept(&listener, &mut connections, shared) => {}
                () = until(shared, true) => {}
            }
            connections.shutdown().await;
        }
        drop(listener);
        shared.listens(false);
    }
}

/// Listens at its claimed address, as soon as nobody has a copy of the socket that listened there before: a process
/// that another thread starts has one until it executes its program.
async fn listen(addr: SocketAddr) -> TcpListener {
    for _ in 0..500 {
        match TcpListener::bind(addr).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            bound => return bound.expect("the port of the control plane is claimed"),
        }
    }
    panic!("somebody else listens on {addr}");
}

/// Waits until it is away, or is not.
async fn until(shared: &Shared, away: bool) {
    let mut changes = shared.changes();
    while shared.look(|state| state.away) != away {
        // The sender is in `shared`, which is borrowed.
        let _change = changes.changed().await;
    }
}

async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>, shared: &Arc<Shared>) {
    loop {
        // Accepting fails for a connection that is gone again; the next one is not affected.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(shared);
        let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
        connections.spawn(async move {
            // A connection's error concerns its Envoy, which logs it.
            let _result = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Infallible> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_grpc =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    Ok(if is_grpc {
        stream::answer(request, shared).await
    } else {
        rest::answer(request, &shared).await
    })
}
