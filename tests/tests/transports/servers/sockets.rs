//! WebSocket clients whose frames are real, so that a server may read them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use crate::clients::{End, Open, SILENCE, Wire};
use crate::wires::read_head;

/// The operation of a frame that ends the connection.
const CLOSE: u8 = 8;
/// The operation of a frame with text.
const TEXT: u8 = 1;

/// A final frame with the text `ping`. A client must mask it; a mask of zeros changes nothing.
const PING: &[u8] = b"\x81\x84\0\0\0\0ping";

/// A connection that was switched to WebSocket. Each text comes back.
struct Socket(TcpStream);

impl Wire for Socket {
    fn exchange(&mut self) -> Result<(), End> {
        self.0.write_all(PING)?;
        loop {
            match self.frame()? {
                (TEXT, text) if text == b"ping" => return Ok(()),
                (TEXT, other) => return Err(End::Other(format!("{other:?} came back"))),
                (CLOSE, _) => return Err(End::Announced("a close frame")),
                // Keep-alive frames of the server need no answer for as long as a test runs.
                _ => {}
            }
        }
    }
}

impl Socket {
    /// Reads one short frame: its operation and what it carries.
    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let [operation, length] = head;
        if length & 0x80 != 0 {
            // A backend that sends bytes back sends the mask back as well. It is zero.
            self.0.read_exact(&mut [0; 4])?;
        }
        let mut carried = vec![0; usize::from(length & 0x7f)];
        self.0.read_exact(&mut carried)?;
        Ok((operation & 0x0f, carried))
    }
}

pub(crate) fn web_sockets(addr: SocketAddr) -> Open {
    Arc::new(move || {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(
            b"GET /socket HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let head = read_head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(io::Error::other(head));
        }
        Ok(Box::new(Socket(stream)))
    })
}
