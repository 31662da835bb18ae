//! An HTTP client that counts every lost request.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::support::LIMIT;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) epoch: u32,
    pub(crate) body: String,
    closes: bool,
}

/// A request over a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    Connection::open(address)?.get(path)
}

/// A request that was sent and is not answered yet.
pub(crate) struct Pending(Connection);

impl Pending {
    /// Connects and sends it. Connections are accepted in the order in which they were made, so a
    /// later request that is answered says that this one is with the server.
    pub(crate) fn send(address: SocketAddr, path: &str) -> io::Result<Self> {
        let mut connection = Connection::open(address)?;
        connection.send(path)?;
        Ok(Self(connection))
    }

    pub(crate) fn answer(mut self) -> io::Result<Answer> {
        self.0.receive()
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(path)?;
        self.receive()
    }

    fn send(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())
    }

    fn receive(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("answered with `{line}`")));
        }
        let (mut epoch, mut length, mut closes) = (None, None, false);
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "" => break,
                "x-epoch" => epoch = value.parse().ok(),
                "content-length" => length = value.parse().ok(),
                "connection" => closes = value == "close",
                _ => {}
            }
        }
        let missing = || io::Error::other("a header is missing");
        let mut body = vec![0; length.ok_or_else(missing)?];
        self.0.read_exact(&mut body)?;
        Ok(Answer {
            epoch: epoch.ok_or_else(missing)?,
            body: String::from_utf8_lossy(&body).into_owned(),
            closes,
        })
    }
}

/// Clients with new and with kept connections, until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |keep: bool| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut kept: Option<Connection> = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = match kept.take() {
                        Some(kept) => kept,
                        None => Connection::open(address)?,
                    };
                    let answer = connection.get("/")?;
                    answered.fetch_add(1, Ordering::Relaxed);
                    kept = (keep && !answer.closes).then_some(connection);
                }
                Ok(())
            })
        };
        let clients = vec![client(true), client(false)];
        Self {
            stop,
            answered,
            clients,
        }
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops the clients. Each ends with the first request that it loses.
    pub(crate) fn assert_no_loss(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap().unwrap();
        }
    }
}
