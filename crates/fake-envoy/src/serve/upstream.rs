//! Sending a request to an upstream. Each has a connection of its own.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;
use crate::http::{Head, Length, Reader};

/// A stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// The beginning of an upstream's answer; its body follows.
pub(crate) struct Answer {
    pub(crate) head: Head,
    reader: Reader<Box<dyn Stream>>,
}

/// Why there is no answer: a status and a body for the client.
type Failed = (u16, &'static str);

const UNREACHABLE: Failed = (
    503,
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
);

/// Connects to an address.
pub(crate) async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Tcp(at) => {
            let stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Address::Pipe(path) => Box::new(UnixStream::connect(path).await?),
        Address::Udp(_) | Address::Internal(_) => return Err(io::ErrorKind::Unsupported.into()),
    })
}

/// Sends a request, and waits for the head of the answer.
pub(crate) async fn call(
    endpoint: Option<&Address>,
    head: &Head,
    body: &[u8],
) -> Result<Answer, Failed> {
    let Some(endpoint) = endpoint else {
        return Err((503, "no healthy upstream"));
    };
    exchange(endpoint, head, body)
        .await
        .map_err(|_| UNREACHABLE)
}

async fn exchange(endpoint: &Address, head: &Head, body: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(endpoint).await?;
    let own = [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "content-length",
    ];
    let mut text = format!("{}\r\n", head.line);
    for (name, value) in head
        .fields
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
    {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || !matches!(head.length(), Length::Unknown) {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut reader = Reader::new(stream);
    let head = reader.head().await?;
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Answer { head, reader })
}

/// Limits a call; zero is no limit.
pub(crate) async fn within(
    limit: Duration,
    call: impl Future<Output = Result<Answer, Failed>>,
) -> Result<Answer, Failed> {
    if limit.is_zero() {
        return call.await;
    }
    let limited = tokio::time::timeout(limit, call).await;
    limited.unwrap_or(Err((504, "upstream request timeout")))
}

impl Answer {
    /// Reads the whole body.
    pub(crate) async fn body(&mut self) -> io::Result<Vec<u8>> {
        match self.head.length() {
            Length::Unknown => {
                let mut body = Vec::new();
                loop {
                    let part = self.reader.part().await?;
                    if part.is_empty() {
                        return Ok(body);
                    }
                    body.extend(part);
                }
            }
            length @ (Length::Known(_) | Length::Chunked) => self.reader.body(length).await,
        }
    }

    /// Passes the body on as it comes.
    pub(crate) async fn copy_to(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        length: Length,
    ) -> io::Result<()> {
        let mut left = match length {
            Length::Known(length) => length,
            Length::Chunked | Length::Unknown => u64::MAX,
        };
        while left > 0 {
            let part = self.reader.part().await?;
            if part.is_empty() {
                break;
            }
            left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(left));
            match length {
                // The upstream closes behind its last chunk, so that its frames can be copied.
                Length::Known(_) | Length::Chunked => to.write_all(&part).await?,
                Length::Unknown => {
                    to.write_all(format!("{:x}\r\n", part.len()).as_bytes())
                        .await?;
                    to.write_all(&part).await?;
                    to.write_all(b"\r\n").await?;
                }
            }
        }
        match length {
            Length::Unknown => to.write_all(b"0\r\n\r\n").await,
            // A body that ends early must not look whole.
            Length::Known(_) if left > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Length::Known(_) | Length::Chunked => Ok(()),
        }
    }
}
