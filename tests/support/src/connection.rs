//! One client connection of the load, which knows how far each exchange came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::http::{Broken, Response, ResponseReader};
use crate::report::FailureKind;

/// Source addresses 127.0.0.2 to 127.0.0.16. A connection that the client closes keeps its port
/// for a minute, and each address has its own 28,000 ephemeral ports. 127.0.0.1 is left out: a
/// port taken there could be one that a test is about to listen on.
const SOURCES: std::ops::RangeInclusive<u8> = 2..=16;

/// Why an exchange gave no response, and whether a retry is safe.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
    /// The peer ended the connection without a byte of response.
    pub(crate) ended_unanswered: bool,
}

impl Lost {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            ended_unanswered: false,
        }
    }
}

/// Picks the source address of each new connection in turn.
#[derive(Debug)]
pub(crate) struct Sources {
    last: u8,
}

impl Sources {
    /// Clients that start at different numbers spread over the addresses.
    pub(crate) fn starting_at(client: usize) -> Self {
        let count = usize::from(SOURCES.end() - SOURCES.start()) + 1;
        let offset = u8::try_from(client % count).unwrap_or_default();
        Self {
            last: SOURCES.start() + offset,
        }
    }

    /// A copy for one connection; the next copy is for the next address.
    pub(crate) fn turn(&mut self) -> Self {
        let copy = Self { last: self.last };
        self.next();
        copy
    }

    fn next(&mut self) -> Ipv4Addr {
        self.last = if self.last == *SOURCES.end() {
            *SOURCES.start()
        } else {
            self.last + 1
        };
        Ipv4Addr::new(127, 0, 0, self.last)
    }
}

/// An open connection, idle between its exchanges.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) async fn open(
        target: SocketAddr,
        sources: &mut Sources,
        limit: Duration,
    ) -> Result<Self, Lost> {
        match timeout(limit, connect(target, sources)).await {
            Ok(Ok(stream)) => Ok(Self { stream }),
            Ok(Err(error)) => {
                let kind = kind_of_connect(error.kind());
                Err(Lost::new(kind, error.to_string()))
            }
            Err(_) => Err(Lost::new(
                FailureKind::ConnectTimeout,
                format!("no connection in {limit:?}"),
            )),
        }
    }

    /// Whether the peer has left the idle connection open and silent.
    ///
    /// # Errors
    ///
    /// When there are bytes nobody asked for.
    pub(crate) fn is_usable(&self) -> Result<bool, Lost> {
        // The kernel is asked, not the runtime: its readiness may be a turn of the loop behind,
        // and a FIN that is here already must not be taken for a race.
        let mut byte = [0];
        match rustix::net::recv(
            &self.stream,
            &mut byte,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        ) {
            Err(Errno::AGAIN) => Ok(true),
            Ok((0, _)) | Err(_) => Ok(false),
            Ok(_) => Err(Lost::new(
                FailureKind::Malformed,
                "bytes on an idle connection".to_owned(),
            )),
        }
    }

    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        limit: Duration,
    ) -> Result<Response, Lost> {
        let mut reader = ResponseReader::default();
        match timeout(limit, self.write_and_read(request, &mut reader)).await {
            Ok(result) => result,
            Err(_) => {
                let came = if reader.has_begun() {
                    reader.progress()
                } else {
                    "no byte".to_owned()
                };
                Err(Lost::new(
                    FailureKind::Timeout,
                    format!("{came} in {limit:?}"),
                ))
            }
        }
    }

    async fn write_and_read(
        &mut self,
        request: &[u8],
        reader: &mut ResponseReader,
    ) -> Result<Response, Lost> {
        // A peer may answer and close without reading the request, so a failed write is no verdict:
        // what can be read is.
        let written = self.stream.write_all(request).await;
        let mut buffer = [0; 16 * 1024];
        loop {
            let error = match self.stream.read(&mut buffer).await {
                Ok(0) => written.err(),
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    match reader.push(bytes) {
                        Ok(None) => continue,
                        Ok(Some(response)) => return Ok(response),
                        Err(broken) => return Err(ended_early(broken, None)),
                    }
                }
                Err(error) => Some(error),
            };
            return match (reader.end_of_input(), error.as_ref()) {
                (Ok(response), None) => Ok(response),
                // A body without a length ends with the connection, but not with a reset.
                (Ok(_), error) => Err(ended_early(Broken::Partial(reader.progress()), error)),
                (Err(broken), error) => Err(ended_early(broken, error)),
            };
        }
    }
}

async fn connect(target: SocketAddr, sources: &mut Sources) -> io::Result<TcpStream> {
    let socket = match target.ip() {
        IpAddr::V4(ip) => {
            let socket = TcpSocket::new_v4()?;
            if ip.is_loopback() {
                socket.bind((sources.next(), 0).into())?;
            }
            socket
        }
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    socket.connect(target).await
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of I/O error are an open list"
)]
fn kind_of_connect(error: io::ErrorKind) -> FailureKind {
    match error {
        io::ErrorKind::ConnectionRefused => FailureKind::ConnectRefused,
        io::ErrorKind::ConnectionReset => FailureKind::Reset,
        io::ErrorKind::TimedOut => FailureKind::ConnectTimeout,
        _ => FailureKind::ConnectFailed,
    }
}

fn ended_early(broken: Broken, error: Option<&io::Error>) -> Lost {
    let cause = error
        .as_ref()
        .map_or_else(|| "end of stream".to_owned(), |error| error.to_string());
    match broken {
        Broken::Nothing => {
            let kind = if error.is_some() {
                FailureKind::Reset
            } else {
                FailureKind::ClosedBeforeResponse
            };
            Lost {
                kind,
                detail: cause,
                ended_unanswered: true,
            }
        }
        Broken::Partial(progress) => Lost::new(
            FailureKind::PartialResponse,
            format!("{progress}, then {cause}"),
        ),
        Broken::Malformed(reason) => Lost::new(FailureKind::Malformed, reason),
    }
}
