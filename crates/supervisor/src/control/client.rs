//! Asking an instance over its socket.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::address::Reachable;
use super::wire::{ApplyRequest, Failed, MAX_ANSWER, Refusal};
use crate::source::BoxError;

/// How long an answer may take that nothing is waited for, and how much longer than asked for any
/// other.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when the instance has its queue full.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks an instance, over its socket.
#[derive(Debug)]
pub struct Client<'a> {
    socket: &'a Path,
}

/// What came back.
#[derive(Debug)]
pub enum Answered {
    /// It was done; the JSON text.
    Done(Bytes),
    /// It was not.
    Refused(Refusal),
}

/// Why there is no answer that could be believed or understood. Each names the socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody could be reached there.
    #[error("{}", unreachable(.socket, .source))]
    Unreachable {
        /// The path of the socket.
        socket: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A process of another user listens there, or it cannot be told who.
    #[error(
        "the instance at {} is not asked: {problem}; ask as the user that handover runs as",
        .socket.display()
    )]
    NotBelieved {
        /// The path of the socket.
        socket: PathBuf,
        /// What is wrong, as a sentence.
        problem: String,
    },
    /// It has not answered in time.
    #[error(
        "the instance at {} has not answered within {}",
        .socket.display(),
        humantime::format_duration(*.limit)
    )]
    TimedOut {
        /// The path of the socket.
        socket: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The conversation broke off.
    #[error("asking the instance at {}", .socket.display())]
    BrokenOff {
        /// The path of the socket.
        socket: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// What it has answered is not understood.
    #[error("the answer of {} ({status}) is not understood", .socket.display())]
    NotUnderstood {
        /// The path of the socket.
        socket: PathBuf,
        /// The HTTP status of the answer.
        status: u16,
        /// What is wrong with its text.
        source: serde_json::Error,
    },
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Request(#[source] serde_json::Error),
}

impl<'a> Client<'a> {
    /// Returns a client of the instance that has this socket.
    #[must_use]
    pub fn new(socket: &'a Path) -> Self {
        Self { socket }
    }

    /// Asks for what changes nothing. An answer may take ten seconds.
    ///
    /// # Errors
    ///
    /// When no answer comes that can be believed and understood.
    ///
    /// # Cancel safety
    ///
    /// The instance may have been asked when the future is dropped.
    pub async fn get(&self, path: &'static str) -> Result<Answered, ClientError> {
        self.ask(Method::GET, path, Bytes::new(), Duration::ZERO)
            .await
    }

    /// Asks for something to be done, which may take as long as `takes`. Ten seconds are added to that
    /// for the way there and back.
    ///
    /// # Errors
    ///
    /// When no answer comes that can be believed and understood.
    ///
    /// # Cancel safety
    ///
    /// The instance may have been asked when the future is dropped, and then does it all the same.
    pub async fn post(
        &self,
        path: &'static str,
        request: &impl Serialize,
        takes: Duration,
    ) -> Result<Answered, ClientError> {
        let body = serde_json::to_vec(request).map_err(ClientError::Request)?;
        self.ask(Method::POST, path, body.into(), takes).await
    }

    /// Gives a configuration, whose answer may take as long as `takes`. Ten seconds are added to that for the
    /// way there and back.
    ///
    /// # Errors
    ///
    /// When no answer comes that can be believed and understood.
    ///
    /// # Cancel safety
    ///
    /// The instance may have the configuration when the future is dropped, and then runs it all the same.
    pub async fn apply(
        &self,
        request: &ApplyRequest,
        configuration: Vec<u8>,
        takes: Duration,
    ) -> Result<Answered, ClientError> {
        let target = request.target();
        self.ask(Method::PUT, &target, configuration.into(), takes)
            .await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        takes: Duration,
    ) -> Result<Answered, ClientError> {
        let limit = takes.saturating_add(PATIENCE);
        let end = Instant::now()
            .checked_add(limit)
            // A time too far away for the clock is as good as none that a person would see the end of.
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
        let socket = || self.socket.to_owned();
        let exchange = async {
            let stream = connect(self.socket)
                .await
                .map_err(|source| ClientError::Unreachable {
                    socket: socket(),
                    source,
                })?;
            self.believe(&stream)?;
            let exchanged = exchange(stream, method, path, body).await;
            exchanged.map_err(|source| ClientError::BrokenOff {
                socket: socket(),
                source,
            })
        };
        let answered = timeout_at(end, exchange).await;
        let (status, body) = answered.map_err(|_| ClientError::TimedOut {
            socket: socket(),
            limit,
        })??;
        if status == StatusCode::OK {
            return Ok(Answered::Done(body));
        }
        match serde_json::from_slice::<Failed>(&body) {
            Ok(failed) => Ok(Answered::Refused(failed.error)),
            Err(source) => Err(ClientError::NotUnderstood {
                socket: socket(),
                status: status.as_u16(),
                source,
            }),
        }
    }

    /// Refuses to speak to a process of another user: whatever it answers would be believed. Root
    /// believes a user in a directory that is that user's alone, because nobody else can have put a
    /// socket there.
    fn believe(&self, stream: &UnixStream) -> Result<(), ClientError> {
        let own = rustix::process::geteuid().as_raw();
        let peer = stream.peer_cred().map(|peer| peer.uid());
        let directory = self.socket.parent().map(|parent| {
            let unnamed = parent.as_os_str().is_empty();
            std::fs::metadata(if unnamed { Path::new(".") } else { parent })
        });
        let directory = directory.and_then(Result::ok);
        let problem = match peer {
            Ok(peer) => {
                let place = directory.map(|found| (found.uid(), found.mode()));
                if is_believed(peer, own, place) {
                    return Ok(());
                }
                format!("a process of user {peer} listens there, and its answers are not believed")
            }
            Err(error) => format!("who listens there cannot be told ({error})"),
        };
        let socket = self.socket.to_owned();
        Err(ClientError::NotBelieved { socket, problem })
    }
}

/// Why nobody could be reached, in words.
fn unreachable(path: &Path, error: &io::Error) -> String {
    let socket = path.display();
    let owner = std::fs::metadata(path).map(|metadata| metadata.uid());
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        format!("no instance has the socket {socket}")
    } else if kind == io::ErrorKind::ConnectionRefused {
        format!("the instance that had the socket {socket} has ended")
    } else if let (io::ErrorKind::PermissionDenied, Ok(owner)) = (kind, owner) {
        format!("the instance at {socket} listens to user {owner} and root only")
    } else {
        format!("cannot connect to {socket}")
    }
}

/// Whether a server of user `peer` is believed by user `own`. The place is the owner and the mode of
/// the directory of its socket.
fn is_believed(peer: u32, own: u32, place: Option<(u32, u32)>) -> bool {
    let is_alone_there = place.is_some_and(|(owner, mode)| owner == peer && mode & 0o022 == 0);
    peer == own || peer == 0 || (own == 0 && is_alone_there)
}

async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let reachable = Reachable::new(socket)?;
    loop {
        match UnixStream::connect(reachable.path()).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
            result => return result,
        }
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), BoxError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "handover")
        .body(Full::new(body))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut exchange = pin!(async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        let body = body.collect().await?;
        Ok((status, body.to_bytes()))
    });
    tokio::select! {
        biased;
        result = &mut exchange => result,
        // The connection is over; what it has read or why it failed reaches the exchange.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_user_and_root_are_believed() {
        let (tmp, own) = (Some((0, 0o41777)), Some((1000, 0o40700)));
        assert!(is_believed(1000, 1000, tmp) && is_believed(0, 1000, tmp));
        assert!(!is_believed(1001, 1000, Some((1001, 0o40700))));
        // Root asks the instances of others where those are alone.
        assert!(is_believed(1000, 0, own) && is_believed(0, 0, None));
        for place in [tmp, None, Some((1000, 0o40770)), Some((1001, 0o40755))] {
            assert!(!is_believed(1000, 0, place), "{place:?}");
        }
    }
}
