//! Readiness found out from outside: by a TCP connection or an HTTP request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A question to a server whether it serves.
///
/// It needs tokio's I/O driver and timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    address: SocketAddr,
    /// What is asked for by HTTP; none if a connection is all that is asked for.
    request: Option<Request>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    host: String,
    path: String,
}

/// Why a server is not taken as ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No connection.
    #[error("could not connect to {address}")]
    Connect {
        /// The address probed.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer was there.
    #[error("{address} did not answer the request")]
    Exchange {
        /// The address probed.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The answer is not HTTP/1.
    #[error("{address} answered something that is not HTTP: `{}`", answer.escape_debug())]
    NotHttp {
        /// The address probed.
        address: SocketAddr,
        /// The beginning of the answer.
        answer: String,
    },
    /// The server says that it is not ready, by a status outside of 200 to 399.
    #[error("{address} answered with status {status}; 200 to 399 is ready")]
    Status {
        /// The address probed.
        address: SocketAddr,
        /// The status.
        status: u16,
    },
    /// One question took longer than a second.
    #[error("{address} did not answer within 1 s")]
    NoAnswer {
        /// The address probed.
        address: SocketAddr,
    },
    /// The server did not become ready in time.
    #[error("{address} was not ready within {limit:?}")]
    NotInTime {
        /// The address probed.
        address: SocketAddr,
        /// The time it was given.
        limit: Duration,
        /// What the last question brought, if one was answered.
        #[source]
        last: Option<Box<ProbeError>>,
    },
}

/// A path that cannot stand in an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be requested: a path begins with `/` and has no spaces", path.escape_debug())]
pub struct InvalidPath {
    path: String,
}

/// A host that cannot be named in an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be named in a request: a host has printable ASCII characters only", host.escape_debug())]
pub struct InvalidHost {
    host: String,
}

/// How long one question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// The pause after the first question. It doubles with each one, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// No status line is longer than this, in bytes.
const LONGEST_STATUS_LINE: usize = 1024;

impl Probe {
    /// Counts a server as ready as soon as a connection is accepted.
    pub fn tcp(address: SocketAddr) -> Self {
        Self {
            address,
            request: None,
        }
    }

    /// Counts a server as ready as soon as a GET of this path is answered with a status from 200 to
    /// 399, which is what Kubernetes takes as success.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`] if the path does not begin with `/`, or has spaces or control characters.
    pub fn http(address: SocketAddr, path: &str) -> Result<Self, InvalidPath> {
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidPath { path: path.into() });
        }
        Ok(Self {
            address,
            request: Some(Request {
                host: address.to_string(),
                path: path.to_owned(),
            }),
        })
    }

    /// Names this host, with its port, in the HTTP request. Otherwise the address is named.
    ///
    /// # Errors
    ///
    /// [`InvalidHost`] if it is empty, or has spaces or control characters.
    pub fn with_host(mut self, host: &str) -> Result<Self, InvalidHost> {
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidHost { host: host.into() });
        }
        if let Some(request) = &mut self.request {
            host.clone_into(&mut request.host);
        }
        Ok(self)
    }

    /// Asks once, for at most a second.
    ///
    /// # Errors
    ///
    /// Why the server is not ready.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the connection is closed.
    pub async fn check(&self) -> Result<(), ProbeError> {
        let address = self.address;
        timeout(ANSWER_LIMIT, self.ask())
            .await
            .unwrap_or(Err(ProbeError::NoAnswer { address }))
    }

    /// Asks once, and waits for the answer for at most `limit`.
    ///
    /// # Errors
    ///
    /// Why the server is not ready.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the connection is closed.
    pub async fn check_within(&self, limit: Duration) -> Result<(), ProbeError> {
        let late = ProbeError::NotInTime {
            address: self.address,
            limit,
            last: None,
        };
        timeout(limit, self.ask()).await.unwrap_or(Err(late))
    }

    /// Asks until the server is ready: at once, then after 5 ms, 10 ms and so on up to every 200 ms.
    ///
    /// # Errors
    ///
    /// [`ProbeError::NotInTime`] with the last reason.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call starts from the beginning.
    pub async fn until_ready(&self, limit: Duration) -> Result<(), ProbeError> {
        let mut last = None;
        let asking = self.ask_until_ready(|error| last = Some(Box::new(error)));
        let ready = timeout(limit, asking).await;
        ready.map_err(|_| ProbeError::NotInTime {
            address: self.address,
            limit,
            last,
        })
    }

    /// The same without a limit: tells each answer until the server is ready.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call starts from the beginning.
    pub async fn ask_until_ready(&self, mut not_ready: impl FnMut(ProbeError)) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.check().await {
            not_ready(error);
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn ask(&self) -> Result<(), ProbeError> {
        let address = self.address;
        let mut connection = TcpStream::connect(address)
            .await
            .map_err(|source| ProbeError::Connect { address, source })?;
        let Some(request) = &self.request else {
            return Ok(());
        };
        let Request { host, path } = request;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: handover\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        let broken = |source| ProbeError::Exchange { address, source };
        connection
            .write_all(request.as_bytes())
            .await
            .map_err(broken)?;
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') && answer.len() < LONGEST_STATUS_LINE {
            let mut part = [0; 256];
            let count = connection.read(&mut part).await.map_err(broken)?;
            if count == 0 {
                break;
            }
            answer.extend_from_slice(part.get(..count).unwrap_or_default());
        }
        match status(&answer) {
            Some(200..=399) => Ok(()),
            Some(status) => Err(ProbeError::Status { address, status }),
            None => Err(ProbeError::NotHttp {
                address,
                answer: String::from_utf8_lossy(&answer).chars().take(80).collect(),
            }),
        }
    }
}

/// The status of a complete status line: `HTTP/1.1 200 OK`.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(answer.get(..end)?).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?.get(1..)?.strip_prefix(' ')?;
    let digits = rest.get(..3)?;
    let ends = matches!(rest.as_bytes().get(3), None | Some(b' ' | b'\r'));
    (ends && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection after the other with these bytes, the last one for ever.
    async fn server(answers: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut turn = 0;
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let count = connection.read(&mut request).await.unwrap();
                assert!(request[..count].starts_with(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:"));
                connection.write_all(answers[turn]).await.unwrap();
                turn = (turn + 1).min(answers.len() - 1);
            }
        });
        address
    }

    #[tokio::test]
    async fn a_server_is_asked_until_it_says_yes() {
        let address = server(&[
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            b"",
            b"HTTP/1.0 204 \r\n\r\n",
        ])
        .await;
        let probe = Probe::http(address, "/ready").unwrap();
        probe.until_ready(Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_reason_is_told_when_time_is_up() {
        let address = server(&[b"HTTP/1.1 500 no\r\n\r\n"]).await;
        let probe = Probe::http(address, "/ready").unwrap();
        let error = probe.until_ready(Duration::from_millis(50)).await;
        let Err(ProbeError::NotInTime { last, .. }) = error else {
            panic!("{error:?}");
        };
        let last = last.unwrap();
        assert!(
            matches!(*last, ProbeError::Status { status: 500, .. }),
            "{last}"
        );
    }

    #[tokio::test]
    async fn a_server_that_is_not_ready_is_not_asked_in_a_hot_loop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe::http(listener.local_addr().unwrap(), "/ready").unwrap();
        let limit = FIRST_PAUSE * 10;
        let mut asked = 0;
        let server = async {
            loop {
                drop(listener.accept().await.unwrap());
                asked += 1;
            }
        };
        tokio::select! {
            ready = probe.until_ready(limit) => ready.unwrap_err(),
            () = server => unreachable!("it never ends"),
        };
        assert!((1..=11).contains(&asked), "{asked}");
    }

    #[tokio::test]
    async fn the_status_line_is_enough_of_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe::http(listener.local_addr().unwrap(), "/ready").unwrap();
        let server = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
            // The rest never comes.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            checked = timeout(Duration::from_secs(10), probe.check()) => checked.unwrap().unwrap(),
            () = server => unreachable!("it never ends"),
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_and_refused() {
        const ENDLESS: &[u8] = &[b'x'; 100_000];
        let address = server(&[ENDLESS]).await;
        let error = Probe::http(address, "/ready").unwrap().check().await;
        let Err(ProbeError::NotHttp { answer, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(answer.len(), 80);
    }

    #[tokio::test]
    async fn a_connection_is_enough_for_tcp_and_none_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe::tcp(listener.local_addr().unwrap());
        probe.check().await.unwrap();
        drop(listener);
        let error = probe.check().await.unwrap_err();
        assert!(matches!(error, ProbeError::Connect { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_does_not_hold_the_probe() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probe = Probe::http(address, "/").unwrap();
        let error = probe.check().await.unwrap_err();
        assert!(matches!(error, ProbeError::NoAnswer { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_waited_for_as_long_as_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probe = Probe::http(address, "/").unwrap();
        let limit = Duration::from_secs(7);
        let before = tokio::time::Instant::now();
        let error = probe.check_within(limit).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{address} was not ready within 7s")
        );
        assert!(before.elapsed() >= limit);
    }

    #[tokio::test]
    async fn a_host_is_named_in_place_of_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = connection.read(&mut request).await.unwrap();
            connection
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                .await
                .unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let probe = Probe::http(address, "/").unwrap();
        let probe = probe.with_host("www.example.com:80").unwrap();
        probe.check_within(Duration::from_secs(60)).await.unwrap();
        let request = server.await.unwrap();
        assert!(
            request.contains("\r\nHost: www.example.com:80\r\n"),
            "{request}"
        );
    }

    #[test]
    fn a_host_cannot_smuggle_a_second_request() {
        let probe = Probe::http("127.0.0.1:80".parse().unwrap(), "/").unwrap();
        for bad in ["", "a b", "a\r\nX: y", "\u{e9}"] {
            assert!(probe.clone().with_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_whole_status_line_counts() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 404\r\n"), Some(404));
        for bad in [
            "HTTP/1.1 200 OK",
            "HTTP/2 200 OK\r\n",
            "HTTP/1.1 20\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1  200\r\n",
            "SSH-2.0-OpenSSH\r\n",
            "",
        ] {
            assert_eq!(status(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_path_cannot_smuggle_a_second_request() {
        let address = "127.0.0.1:80".parse().unwrap();
        for bad in ["", "ready", "/a b", "/a\r\nX: y", "/\u{e9}"] {
            assert!(Probe::http(address, bad).is_err(), "{bad:?}");
        }
    }
}
