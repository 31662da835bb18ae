//! One client connection that stays open between its requests, for tests that watch what becomes of it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::http::{Response, ResponseReader};

/// A blocking HTTP/1.1 connection.
#[derive(Debug)]
pub struct KeptConnection {
    stream: TcpStream,
    host: SocketAddr,
    limit: Duration,
}

/// How the other end of a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// It is open, and has sent nothing that was not read.
    Open,
    /// It has closed the connection in order, by FIN.
    Closed,
    /// It has broken the connection, by RST.
    Reset,
    /// It has sent bytes that nobody has read.
    HasSent,
}

impl KeptConnection {
    /// Connects. Each request may take `limit`.
    ///
    /// # Errors
    ///
    /// What the socket reports.
    pub fn open(host: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&host, limit)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host,
            limit,
        })
    }

    /// Sends `GET path` and reads the whole response.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send) and [`receive`](Self::receive).
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send(path, &[])?;
        self.receive()
    }

    /// Sends `GET path` with further headers, and reads nothing.
    ///
    /// # Errors
    ///
    /// What the socket reports.
    pub fn send(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let further = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let further: String = further.collect();
        let host = self.host;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{further}\r\n");
        self.stream.write_all(request.as_bytes())
    }

    /// Reads the whole response to what was sent.
    ///
    /// # Errors
    ///
    /// What the socket reports, [`io::ErrorKind::TimedOut`] after the limit, or
    /// [`io::ErrorKind::InvalidData`] for a response that is not complete and well-formed.
    pub fn receive(&mut self) -> io::Result<Response> {
        let end = Instant::now() + self.limit;
        let invalid = |broken| io::Error::new(io::ErrorKind::InvalidData, format!("{broken:?}"));
        let mut reader = ResponseReader::default();
        let mut buffer = [0; 4 * 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let read = match self.stream.read(&mut buffer) {
                // A read that reaches its timeout reports `WouldBlock` on Linux.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                other => other?,
            };
            if read == 0 {
                return reader.end_of_input().map_err(invalid);
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            if let Some(response) = reader.push(bytes).map_err(invalid)? {
                return Ok(response);
            }
        }
    }

    /// Returns how the peer stands at this moment, as the kernel knows it.
    #[must_use]
    pub fn peer(&self) -> PeerState {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.stream, &mut [0; 1], flags) {
            Err(Errno::AGAIN) => PeerState::Open,
            Ok((0, _)) => PeerState::Closed,
            Ok(_) => PeerState::HasSent,
            Err(_) => PeerState::Reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::limit::eventually;

    const LONG: Duration = Duration::from_secs(10);

    fn pair() -> (KeptConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let connection = KeptConnection::open(addr, LONG).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (connection, peer)
    }

    fn wait_for(connection: &KeptConnection, state: PeerState) {
        let what = format!("{state:?}");
        eventually(LONG, &what, || (connection.peer() == state).then_some(()));
    }

    #[test]
    fn the_state_of_the_peer_is_what_the_kernel_knows() {
        let (connection, mut peer) = pair();
        assert_eq!(connection.peer(), PeerState::Open);
        peer.write_all(b"unasked").unwrap();
        wait_for(&connection, PeerState::HasSent);

        let (connection, peer) = pair();
        drop(peer);
        wait_for(&connection, PeerState::Closed);

        let (mut connection, peer) = pair();
        connection.send("/", &[]).unwrap();
        eventually(LONG, "the request", || peer.peek(&mut [0]).ok());
        // What was not read is reset.
        drop(peer);
        wait_for(&connection, PeerState::Reset);
    }

    #[test]
    fn requests_with_headers_follow_each_other() {
        let (mut connection, mut peer) = pair();
        for body in ["one", "two"] {
            connection.send("/path", &[("name", body)]).unwrap();
            let mut request = vec![0; 4096];
            let read = peer.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let wanted = format!("name: {body}\r\n\r\n");
            assert!(request.starts_with("GET /path HTTP/1.1\r\n"), "{request}");
            assert!(request.ends_with(&wanted), "{request}");
            write!(peer, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{body}").unwrap();
            assert_eq!(connection.receive().unwrap().text(), body);
        }
        drop(peer);
        wait_for(&connection, PeerState::Closed);
        assert!(connection.receive().is_err());
    }
}
