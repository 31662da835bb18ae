//! One request, one answer, bounded in size. Nothing of it outlives the future: the connection is
//! driven by the call itself, so that dropping the call closes the connection.

use std::path::Path;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::AdminAddress;

/// The most that a response's head may take, in bytes. Envoy's is about 250.
const MAX_HEAD: usize = 16 << 10;

/// How one exchange failed.
#[derive(Debug)]
pub(super) enum ExchangeError {
    Connect(std::io::Error),
    Http(hyper::Error),
    TooLarge,
}

/// Sends one request and reads the whole answer, at most `max_body` bytes of it.
pub(super) async fn exchange(
    address: &AdminAddress,
    method: Method,
    path_and_query: &str,
    max_body: usize,
) -> Result<(StatusCode, Vec<u8>), ExchangeError> {
    let request = Request::builder()
        .method(method)
        .uri(path_and_query)
        .header(HOST, "admin")
        .body(Empty::<Bytes>::new())
        // Paths come from this crate, queries are percent-encoded: what remains is a bug, which is
        // shown as a refused address rather than as a panic.
        .map_err(|error| ExchangeError::Connect(std::io::Error::other(error)))?;
    match address {
        AdminAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await;
            talk(stream.map_err(ExchangeError::Connect)?, request, max_body).await
        }
        AdminAddress::Unix(path) => {
            let stream = connect_unix(path).await;
            talk(stream.map_err(ExchangeError::Connect)?, request, max_body).await
        }
    }
}

async fn connect_unix(path: &Path) -> std::io::Result<UnixStream> {
    match path.to_str().and_then(|path| path.strip_prefix('@')) {
        // Envoy writes an abstract name with `@`, the system with a leading NUL.
        Some(name) => UnixStream::connect(format!("\0{name}")).await,
        None => UnixStream::connect(path).await,
    }
}

async fn talk<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    max_body: usize,
) -> Result<(StatusCode, Vec<u8>), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ExchangeError::Http)?;
    let mut exchange = pin!(async move {
        let response = sender
            .send_request(request)
            .await
            .map_err(ExchangeError::Http)?;
        let status = response.status();
        let mut body = pin!(response.into_body());
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ExchangeError::Http)?;
            if let Some(data) = frame.data_ref() {
                if read.len() + data.len() > max_body {
                    return Err(ExchangeError::TooLarge);
                }
                read.extend_from_slice(data);
            }
        }
        Ok((status, read))
    });
    tokio::select! {
        biased;
        result = &mut exchange => result,
        // The connection is over; what it has read or why it failed reaches the exchange.
        _ = connection => exchange.await,
    }
}
