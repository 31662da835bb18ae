//! The wires of each transport, and the backends behind Envoy.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use handover_test_support::http::ResponseReader;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::clients::{End, Open, SILENCE, Wire};

/// A socket whose reads end.
pub(crate) trait Stream: Read + Write + Send {
    fn limit_reads(&self, limit: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

impl Stream for UnixStream {
    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

/// Opens a stream.
pub(crate) type Connect = Arc<dyn Fn() -> io::Result<Box<dyn Stream>> + Send + Sync>;

pub(crate) fn tcp(addr: SocketAddr) -> Connect {
    Arc::new(move || {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    })
}

/// A path, or `@` and the name of an abstract socket.
pub(crate) fn unix(path: &Path) -> Connect {
    let path = path.to_owned();
    Arc::new(move || {
        let name = path.to_str().and_then(|path| path.strip_prefix('@'));
        let stream = match name {
            Some(name) => {
                let addr = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                UnixStream::connect_addr(&addr)?
            }
            None => UnixStream::connect(&path)?,
        };
        Ok(Box::new(stream))
    })
}

/// From another network namespace, which a file stands for.
pub(crate) fn tcp_within(namespace: PathBuf, addr: SocketAddr) -> Connect {
    Arc::new(move || {
        let namespace = File::open(&namespace)?;
        // A thread that has moved does not come back.
        let connecting = thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            TcpStream::connect(addr)
        });
        let stream = connecting.join().expect("connecting does not panic")?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    })
}

/// Bytes that come back.
struct Echo(Box<dyn Stream>);

impl Wire for Echo {
    fn exchange(&mut self) -> Result<(), End> {
        self.0.write_all(b"ping")?;
        let mut back = [0; 4];
        self.0.read_exact(&mut back)?;
        match &back {
            b"ping" => Ok(()),
            other => Err(End::Other(format!("{other:?} came back"))),
        }
    }
}

pub(crate) fn echo(connect: Connect) -> Open {
    Arc::new(move || {
        let stream = connect()?;
        stream.limit_reads(SILENCE)?;
        Ok(Box::new(Echo(stream)))
    })
}

/// A connection whose first answer switches it to WebSocket. The frames are bytes to Envoy, so bytes
/// stand for them.
pub(crate) fn web_socket(connect: Connect) -> Open {
    Arc::new(move || {
        let mut stream = connect()?;
        stream.limit_reads(SILENCE)?;
        stream.write_all(
            b"GET /socket HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let head = read_head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(io::Error::other(head));
        }
        Ok(Box::new(Echo(stream)))
    })
}

pub(crate) fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// One answer that goes on and on.
struct Answer(Box<dyn Stream>);

impl Wire for Answer {
    fn exchange(&mut self) -> Result<(), End> {
        match self.0.read(&mut [0; 1024])? {
            0 => Err(End::Closed),
            _ => Ok(()),
        }
    }
}

/// An HTTP/1.1 answer of a minute.
pub(crate) fn answer(connect: Connect, path: &'static str) -> Open {
    Arc::new(move || {
        let mut stream = connect()?;
        stream.limit_reads(SILENCE)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let head = read_head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(head));
        }
        Ok(Box::new(Answer(stream)))
    })
}

/// Requests one after the other on an HTTP/1.1 connection.
struct Requests {
    stream: Box<dyn Stream>,
    request: Vec<u8>,
}

impl Wire for Requests {
    fn exchange(&mut self) -> Result<(), End> {
        self.stream.write_all(&self.request)?;
        let (mut reader, mut buffer) = (ResponseReader::default(), [0; 4096]);
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(End::Closed);
            }
            let read = buffer.get(..count).unwrap_or_default();
            let response = reader.push(read);
            match response.map_err(|broken| End::Other(format!("{broken:?}")))? {
                None => {}
                Some(response) if response.status != 200 => {
                    let text = response.text();
                    return Err(End::Other(format!("{} {text}", response.status)));
                }
                Some(response) if response.reusable => return Ok(()),
                Some(_) => return Err(End::Announced("`connection: close`")),
            }
        }
    }
}

pub(crate) fn requests(connect: Connect, path: &'static str) -> Open {
    Arc::new(move || {
        let stream = connect()?;
        stream.limit_reads(SILENCE)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
        Ok(Box::new(Requests { stream, request }))
    })
}

/// A UDP session: datagrams from one port. The backend answers with the port that it sees, so a session
/// that Envoy has begun again is told from one that goes on.
struct Datagrams {
    socket: UdpSocket,
    sent: u64,
    seen_as: Option<u16>,
    /// Whether the first datagram is repeated.
    must_begin: bool,
}

impl Wire for Datagrams {
    fn exchange(&mut self) -> Result<(), End> {
        // A worker of Envoy may begin to read a moment after it is live.
        let is_first = std::mem::take(&mut self.must_begin);
        for _ in 0..if is_first { 20 } else { 0 } {
            if self.exchange_once().is_ok() {
                return Ok(());
            }
        }
        self.exchange_once()
    }
}

impl Datagrams {
    fn exchange_once(&mut self) -> Result<(), End> {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        self.socket.send(&number)?;
        let mut answer = [0; 16];
        loop {
            let count = self.socket.recv(&mut answer)?;
            let read = answer.get(..count).unwrap_or_default();
            let Some((back, port)) = read.split_first_chunk::<8>() else {
                return Err(End::Other(format!("{read:?} came back")));
            };
            if *back != number {
                // A late answer to an earlier datagram.
                continue;
            }
            let port = <[u8; 2]>::try_from(port).map(u16::from_be_bytes).ok();
            let before = self.seen_as.or(port);
            self.seen_as = port;
            return match before == port {
                true => Ok(()),
                false => Err(End::Other(OTHER_SESSION.to_owned())),
            };
        }
    }
}

/// The datagram was answered, and the backend has seen another session than before.
pub(crate) const OTHER_SESSION: &str = "answered by another session";

/// A session whose datagrams may take that long. Nobody repeats them.
pub(crate) fn datagrams(addr: SocketAddr, limit: Duration) -> Open {
    let is_first = AtomicBool::new(true);
    Arc::new(move || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(addr)?;
        socket.set_read_timeout(Some(limit))?;
        Ok(Box::new(Datagrams {
            socket,
            sent: 0,
            seen_as: None,
            must_begin: is_first.swap(false, Ordering::Relaxed),
        }))
    })
}

/// A backend that sends back what comes. A connection that begins with a request is switched to
/// WebSocket first, with the answer to the one key that clients here send. Its threads end with the test's
/// process.
pub(crate) fn echo_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve_echo(stream));
        }
    });
    addr
}

fn serve_echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 4];
    stream.peek(&mut first)?;
    if &first == b"GET " {
        read_head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )?;
    }
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

/// The same for datagrams: each answer has the port of its sender.
pub(crate) struct DatagramBackend {
    pub(crate) addr: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl DatagramBackend {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let addr = socket.local_addr().expect("it is bound");
        let limit = socket.set_read_timeout(Some(Duration::from_millis(200)));
        limit.expect("the limit is not zero");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let mut answer = buffer.get(..count).unwrap_or_default().to_vec();
                answer.extend(from.port().to_be_bytes());
                let _gone = socket.send_to(&answer, from);
            }
        });
        Self { addr, stop }
    }
}

impl Drop for DatagramBackend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
