//! Requests to the demo server, whose answers say which epoch they come from.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use handover_test_support::http::{self, Broken, Response, ResponseReader};
use handover_test_support::load::{Load, Mix};

use crate::support::LIMIT;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) epoch: u32,
    pub(crate) body: String,
}

impl Answer {
    fn of(response: &Response) -> io::Result<Self> {
        if response.status != 200 {
            return Err(io::Error::other(format!("answered with {response:?}")));
        }
        let epoch = response.header("x-epoch").map(str::parse);
        match epoch {
            Some(Ok(epoch)) => Ok(Self {
                epoch,
                body: response.text(),
            }),
            _ => Err(io::Error::other(format!("no epoch in {response:?}"))),
        }
    }
}

/// A request over a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    Answer::of(&http::get(address, path, LIMIT)?)
}

/// A request that was sent and is not answered yet.
pub(crate) struct Pending(TcpStream);

impl Pending {
    /// Connects and sends it. Connections are accepted in the order in which they were made, so a
    /// later request that is answered says that this one is with the server.
    pub(crate) fn send(address: SocketAddr, path: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
        Ok(Self(stream))
    }

    pub(crate) fn answer(mut self) -> io::Result<Answer> {
        let broken = |broken: Broken| io::Error::other(format!("{broken:?}"));
        let mut reader = ResponseReader::default();
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.read(&mut buffer)?;
            let response = match length {
                0 => Some(reader.end_of_input().map_err(broken)?),
                length => reader.push(&buffer[..length]).map_err(broken)?,
            };
            if let Some(response) = response {
                return Answer::of(&response);
            }
        }
    }
}

/// One client with new connections and one that keeps its own, without a pause.
pub(crate) fn load(address: SocketAddr) -> Load {
    let mix = Mix {
        new_connections: 1,
        keep_alive: 1,
        pause: None,
        ..Mix::default()
    };
    Load::start(address, mix)
}
