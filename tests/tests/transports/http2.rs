//! HTTP/2 clients by the crate `h2`, which shows a GOAWAY as such.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clients::{End, Open, SILENCE, Wire};

/// How many requests of one connection are under way at once.
const LANES: usize = 4;

type Send = SendRequest<bytes::Bytes>;

/// A connection on which several requests are under way at any time, as a browser or a gRPC client has it.
/// Requests begin until the peer sends a GOAWAY, and those that have begun are waited for.
struct Requests {
    send: Send,
    goes_away: bool,
    under_way: JoinSet<Result<(), End>>,
    // Last, so that it ends after all that it drives.
    runtime: Runtime,
}

impl Wire for Requests {
    fn exchange(&mut self) -> Result<(), End> {
        let Self {
            send,
            goes_away,
            under_way,
            runtime,
        } = self;
        let exchange = async {
            while !*goes_away && under_way.len() < LANES {
                match begin(send, "/").await {
                    Ok(response) => {
                        under_way.spawn(async { read_all(body_of(response).await?).await });
                    }
                    Err(End::Announced(_)) => *goes_away = true,
                    Err(other) => return Err(other),
                }
            }
            match under_way.join_next().await {
                Some(result) => result.expect("a request does not panic"),
                None => Err(End::Announced("GOAWAY")),
            }
        };
        within_silence(runtime, exchange)
    }
}

/// An answer that goes on and on.
struct Answer {
    send: Send,
    body: RecvStream,
    was_told: bool,
    // Last, so that it ends after all that it drives.
    runtime: Runtime,
}

impl Wire for Answer {
    fn exchange(&mut self) -> Result<(), End> {
        let Self {
            send,
            body,
            was_told,
            runtime,
        } = self;
        let part = async {
            let part = next_part(body).await;
            *was_told |= matches!(is_ready(send).await, Err(End::Announced(_)));
            part
        };
        match within_silence(runtime, part) {
            Err(_) if *was_told => Err(End::Other("cut after a GOAWAY".to_owned())),
            other => other,
        }
    }
}

fn within_silence<F: Future<Output = Result<(), End>>>(runtime: &Runtime, work: F) -> F::Output {
    let result = runtime.block_on(async { timeout(SILENCE, work).await });
    result.unwrap_or(Err(End::Silent))
}

/// What an error says of a request that was under way or not begun.
fn end(error: &h2::Error, begun: bool) -> End {
    if error.is_io() {
        let kind = error.get_io().map(io::Error::kind);
        return kind.map_or(End::Closed, |kind| io::Error::from(kind).into());
    }
    match error.is_go_away() && !begun {
        true => End::Announced("GOAWAY"),
        false => End::Other(error.to_string()),
    }
}

/// Whether another request may begin.
async fn is_ready(send: &mut Send) -> Result<(), End> {
    let ready = send.clone().ready().await;
    *send = ready.map_err(|error| end(&error, false))?;
    Ok(())
}

/// Sends a request.
async fn begin(send: &mut Send, path: &str) -> Result<ResponseFuture, End> {
    // What has come since the last exchange is read first.
    tokio::task::yield_now().await;
    is_ready(send).await?;
    let request = http::Request::get(format!("http://x{path}")).body(());
    let request = request.expect("the path is plain");
    let sent = send.send_request(request, true);
    let (response, _) = sent.map_err(|error| end(&error, false))?;
    Ok(response)
}

async fn body_of(response: ResponseFuture) -> Result<RecvStream, End> {
    let response = response.await.map_err(|error| end(&error, true))?;
    match response.status() {
        http::StatusCode::OK => Ok(response.into_body()),
        status => Err(End::Other(status.to_string())),
    }
}

async fn read_all(mut answer: RecvStream) -> Result<(), End> {
    while let Some(data) = answer.data().await {
        let data = data.map_err(|error| end(&error, true))?;
        let _closed = answer.flow_control().release_capacity(data.len());
    }
    Ok(())
}

async fn next_part(answer: &mut RecvStream) -> Result<(), End> {
    match answer.data().await {
        Some(Ok(data)) => {
            let _closed = answer.flow_control().release_capacity(data.len());
            Ok(())
        }
        Some(Err(error)) => Err(end(&error, true)),
        None => Err(End::Closed),
    }
}

async fn connect(addr: SocketAddr) -> io::Result<Send> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let shaken = h2::client::handshake(stream).await;
    let (send, connection) = shaken.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // What ends the connection is told to whoever uses it.
        let _end = connection.await;
    });
    Ok(send)
}

/// Requests, several at once.
pub(crate) fn requests(addr: SocketAddr) -> Open {
    Arc::new(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let send = runtime.block_on(connect(addr))?;
        Ok(Box::new(Requests {
            send,
            goes_away: false,
            under_way: JoinSet::new(),
            runtime,
        }))
    })
}

/// One answer of a minute.
pub(crate) fn answer(addr: SocketAddr) -> Open {
    Arc::new(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (send, body) = runtime.block_on(async {
            let mut send = connect(addr).await?;
            let begun = async { body_of(begin(&mut send, "/stream?ms=60000").await?).await };
            let body = begun
                .await
                .map_err(|end| io::Error::other(end.to_string()))?;
            Ok::<_, io::Error>((send, body))
        })?;
        Ok(Box::new(Answer {
            send,
            body,
            was_told: false,
            runtime,
        }))
    })
}
