//! A server that misbehaves on demand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// What the server does once it has read a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Answers `200` and reads the next request.
    Answer,
    /// The same, with `x-config: one`.
    AnswerAsOne,
    /// Answers, announces the close and closes.
    AnswerAndAnnounceClose,
    /// Answers and closes without a word.
    AnswerAndClose,
    /// Answers with status 503.
    Refuse,
    /// Closes without an answer.
    Close,
    /// Resets the connection without an answer.
    Reset,
    /// Sends a part of the head and closes.
    PartialHead,
    /// Sends a part of the body and closes.
    PartialBody,
    /// Sends a part of the body and resets the connection.
    PartialBodyAndReset,
    /// Sends a body that ends with the connection, and resets it.
    EndlessBodyAndReset,
    /// Sends another protocol.
    Garbage,
    /// Sends more than it announced.
    TooMuch,
    /// Says nothing until the client gives up.
    Silence,
}

const PARTIAL_BODY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel";

/// Gets the number of the connection and of the request on it, both from 0.
type Script = dyn Fn(usize, usize) -> Act + Send + Sync;

/// A server that follows a script, one thread for each connection.
pub(crate) struct FakeServer {
    addr: SocketAddr,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl FakeServer {
    pub(crate) fn start(script: impl Fn(usize, usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_for(usize::MAX, script)
    }

    /// It stops listening when it has accepted `connections`, before it answers the last of them.
    pub(crate) fn start_for(
        connections: usize,
        script: impl Fn(usize, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let peers = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let acceptor = thread::spawn({
            let (peers, stopped) = (Arc::clone(&peers), Arc::clone(&stopped));
            move || accept(listener, connections, &peers, &stopped, &script)
        });
        Self {
            addr,
            peers,
            stopped,
            acceptor: Some(acceptor),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the connections came from.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor, unless it has gone already.
        let _refused = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

fn accept(
    listener: TcpListener,
    connections: usize,
    peers: &Mutex<Vec<SocketAddr>>,
    stopped: &AtomicBool,
    script: &Arc<Script>,
) {
    let mut listener = Some(listener);
    let mut threads = Vec::new();
    while let Some(listening) = &listener {
        let (stream, peer) = listening.accept().unwrap();
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        peers.lock().unwrap().push(peer);
        let number = threads.len();
        if number + 1 == connections {
            listener = None;
        }
        let script = Arc::clone(script);
        threads.push(thread::spawn(move || serve(stream, number, &*script)));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

fn serve(mut stream: TcpStream, connection: usize, script: &Script) {
    // A client that neither closes nor asks must not hold the test.
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut request = 0;
    while read_request(&mut stream) {
        // The client may be gone: what it sees is what the test is about.
        let _gone = match script(connection, request) {
            Act::Answer => send(&stream, "200 OK", "", "hello"),
            Act::AnswerAsOne => send(&stream, "200 OK", "x-config: one\r\n", "hello"),
            Act::AnswerAndAnnounceClose => {
                let _gone = send(&stream, "200 OK", "connection: close\r\n", "hello");
                return close(&stream);
            }
            Act::AnswerAndClose => {
                let _gone = send(&stream, "200 OK", "", "hello");
                return close(&stream);
            }
            Act::Refuse => send(&stream, "503 Service Unavailable", "", "no upstream\n"),
            Act::Close => return close(&stream),
            Act::Reset => return reset(&stream),
            Act::PartialHead => {
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le");
                return close(&stream);
            }
            Act::PartialBody => {
                let _gone = stream.write_all(PARTIAL_BODY);
                return close(&stream);
            }
            Act::PartialBodyAndReset => {
                let _gone = stream.write_all(PARTIAL_BODY);
                return reset(&stream);
            }
            Act::EndlessBodyAndReset => {
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello");
                return reset(&stream);
            }
            Act::Garbage => stream.write_all(b"SSH-2.0-nothing\r\n"),
            Act::TooMuch => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello"),
            Act::Silence => Ok(()),
        };
        request += 1;
    }
}

/// `false` when the client has closed or reset its connection.
fn read_request(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return false,
        }
    }
    true
}

fn send(mut stream: &TcpStream, status: &str, header: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let response = format!("HTTP/1.1 {status}\r\n{header}content-length: {length}\r\n\r\n{body}");
    stream.write_all(response.as_bytes())
}

fn close(stream: &TcpStream) {
    let _gone = stream.shutdown(Shutdown::Both);
}

/// Without lingering, closing sends a reset.
fn reset(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}
