//! One HTTP/1.1 response, read to its exact end, and a small blocking client.
//!
//! A ready-made client hides what a loss counter must know: whether a connection broke before the
//! first byte of the response or in the middle of its body. So the reading is done here, without
//! I/O: bytes in, a [`Response`] or a [`Broken`] out.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, values trimmed, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Whether another request may follow on the same connection.
    pub reusable: bool,
}

impl Response {
    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text, with what is not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why the bytes of a connection are not a complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended before the first byte.
    Nothing,
    /// The connection ended in the middle; the text tells where.
    Partial(String),
    /// The bytes are not an HTTP/1.1 response; the text tells why.
    Malformed(String),
}

/// Collects the bytes of one response.
///
/// Push what was read; `Some` ends it. At the end of the connection call
/// [`ResponseReader::end_of_input`].
#[derive(Debug, Default)]
pub struct ResponseReader {
    bytes: Vec<u8>,
}

impl ResponseReader {
    /// Whether at least one byte has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Takes the next bytes; `Some` once the response is complete.
    ///
    /// # Errors
    ///
    /// [`Broken::Malformed`] when the bytes cannot become a response, or go on after its end: no
    /// client here pipelines.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Response>, Broken> {
        self.bytes.extend_from_slice(bytes);
        self.parse(false).map_err(Broken::Malformed)
    }

    /// The connection has ended: a body without a length is complete, all else is broken.
    ///
    /// # Errors
    ///
    /// [`Broken`], which tells how far the response came.
    pub fn end_of_input(&self) -> Result<Response, Broken> {
        if self.bytes.is_empty() {
            return Err(Broken::Nothing);
        }
        match self.parse(true) {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Broken::Partial(self.progress())),
            Err(reason) => Err(Broken::Malformed(reason)),
        }
    }

    /// How much of the response is there, in words.
    #[must_use]
    pub fn progress(&self) -> String {
        let Some((head, body)) = split_head(&self.bytes) else {
            return format!("{} bytes of the head", self.bytes.len());
        };
        match parse_head(head).and_then(|(_, headers)| framing(&headers)) {
            Ok(Framing::Length(length)) => format!("{} of {length} bytes of the body", body.len()),
            Ok(Framing::Chunked) => {
                format!("{} bytes of a chunked body without its end", body.len())
            }
            Ok(Framing::UntilClose) | Err(_) => format!("{} bytes of the body", body.len()),
        }
    }

    fn parse(&self, ended: bool) -> Result<Option<Response>, String> {
        let Some((head, rest)) = split_head(&self.bytes) else {
            let magic = b"HTTP/1.1 ";
            return if self
                .bytes
                .iter()
                .zip(magic)
                .all(|(byte, wanted)| byte == wanted)
            {
                Ok(None)
            } else {
                Err("the response does not begin with HTTP/1.1".to_owned())
            };
        };
        let (status, headers) = parse_head(head)?;
        let framing = framing(&headers)?;
        let body = match framing {
            Framing::Length(length) => match rest.len() {
                got if got < length => None,
                got if got == length => Some(rest.to_vec()),
                got => return Err(format!("{got} bytes of body where {length} were announced")),
            },
            Framing::Chunked => join_chunks(rest)?,
            Framing::UntilClose => ended.then(|| rest.to_vec()),
        };
        Ok(body.map(|body| Response {
            status,
            reusable: framing != Framing::UntilClose && !asks_to_close(&headers),
            headers,
            body,
        }))
    }
}

/// Sends `GET path` on a connection of its own and reads the whole response, within `limit`.
///
/// # Errors
///
/// What the socket reports, [`io::ErrorKind::TimedOut`] after `limit`, or
/// [`io::ErrorKind::InvalidData`] for a response that is not complete and well-formed.
pub fn get(addr: SocketAddr, path: &str, limit: Duration) -> io::Result<Response> {
    call("GET", addr, path, "", limit)
}

/// Like [`get`], with one more header.
///
/// # Errors
///
/// Those of [`get`].
pub fn get_with(
    addr: SocketAddr,
    path: &str,
    (name, value): (&str, &str),
    limit: Duration,
) -> io::Result<Response> {
    call("GET", addr, path, &format!("{name}: {value}\r\n"), limit)
}

/// Like [`get`], with the method `POST` and no body, as Envoy's admin endpoint wants it.
///
/// # Errors
///
/// Those of [`get`].
pub fn post(addr: SocketAddr, path: &str, limit: Duration) -> io::Result<Response> {
    call("POST", addr, path, "", limit)
}

fn call(
    method: &str,
    addr: SocketAddr,
    path: &str,
    headers: &str,
    limit: Duration,
) -> io::Result<Response> {
    let end = Instant::now() + limit;
    let mut stream = TcpStream::connect_timeout(&addr, limit)?;
    stream.set_write_timeout(Some(limit))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut reader = ResponseReader::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut buffer) {
            // A read that reaches its timeout reports `WouldBlock` on Linux.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        let invalid = |broken| io::Error::new(io::ErrorKind::InvalidData, format!("{broken:?}"));
        if read == 0 {
            return reader.end_of_input().map_err(invalid);
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        if let Some(response) = reader.push(bytes).map_err(invalid)? {
            return Ok(response);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(header, _)| header == name)?;
    Some(value)
}

fn asks_to_close(headers: &[(String, String)]) -> bool {
    find(headers, "connection").is_some_and(|value| {
        value
            .split(',')
            .any(|option| option.trim().eq_ignore_ascii_case("close"))
    })
}

fn split_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at_checked(end)?;
    Some((head, rest.get(4..)?))
}

fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), String> {
    let head = str::from_utf8(head).map_err(|_| "the head is not UTF-8".to_owned())?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("bad status line {status_line:?}"))?;
    let headers = lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("bad header line {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Result<_, String>>()?;
    Ok((status, headers))
}

fn framing(headers: &[(String, String)]) -> Result<Framing, String> {
    if find(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        return Ok(Framing::Chunked);
    }
    match find(headers, "content-length") {
        None => Ok(Framing::UntilClose),
        Some(length) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| format!("bad content-length {length:?}")),
    }
}

/// The joined chunks, `None` while the last one has not come. Trailers are not expected here.
fn join_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let line = rest.get(..end).unwrap_or_default();
        let size = str::from_utf8(line)
            .ok()
            .and_then(|line| usize::from_str_radix(line, 16).ok())
            .ok_or_else(|| format!("bad chunk size {:?}", String::from_utf8_lossy(line)))?;
        let after_size = rest.get(end + 2..).unwrap_or_default();
        let Some((chunk, after)) = after_size.split_at_checked(size) else {
            return Ok(None);
        };
        match after.split_at_checked(2) {
            None => return Ok(None),
            Some((b"\r\n", next)) => rest = next,
            Some(_) => return Err("a chunk is longer than its size says".to_owned()),
        }
        if size == 0 {
            return if rest.is_empty() {
                Ok(Some(body))
            } else {
                Err("bytes after the last chunk".to_owned())
            };
        }
        body.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_LENGTH: &[u8] =
        b"HTTP/1.1 200 OK\r\nX-Config: one\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

    fn read_byte_by_byte(bytes: &[u8]) -> Result<Option<Response>, Broken> {
        let mut reader = ResponseReader::default();
        let mut found = None;
        for byte in bytes {
            assert_eq!(found, None, "complete before its last byte");
            found = reader.push(&[*byte])?;
        }
        Ok(found)
    }

    #[test]
    fn a_response_is_complete_with_its_last_byte_and_not_before() {
        for bytes in [WITH_LENGTH, CHUNKED] {
            let response = read_byte_by_byte(bytes).unwrap().unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"));
            assert!(response.reusable);
        }
    }

    #[test]
    fn header_names_are_found_in_lower_case() {
        let response = read_byte_by_byte(WITH_LENGTH).unwrap().unwrap();
        assert_eq!(response.header("x-config"), Some("one"));
    }

    #[test]
    fn an_early_end_tells_how_far_the_response_came() {
        let ends = [
            (&b""[..], Broken::Nothing),
            (
                b"HTTP/1.1 2",
                Broken::Partial("10 bytes of the head".to_owned()),
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
                Broken::Partial("3 of 5 bytes of the body".to_owned()),
            ),
        ];
        for (bytes, expected) in ends {
            let mut reader = ResponseReader::default();
            assert_eq!(reader.push(bytes), Ok(None));
            assert_eq!(reader.end_of_input(), Err(expected));
        }
        let mut chunked = ResponseReader::default();
        assert_eq!(chunked.push(&CHUNKED[..CHUNKED.len() - 5]), Ok(None));
        assert!(matches!(chunked.end_of_input(), Err(Broken::Partial(_))));
    }

    #[test]
    fn a_body_longer_than_announced_is_malformed() {
        let mut reader = ResponseReader::default();
        let result = reader.push(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nhello");
        assert!(matches!(result, Err(Broken::Malformed(_))));
    }

    #[test]
    fn bytes_of_another_protocol_are_malformed_at_once() {
        let mut reader = ResponseReader::default();
        assert!(matches!(reader.push(b"SSH-2.0"), Err(Broken::Malformed(_))));
    }

    #[test]
    fn a_close_header_or_a_body_without_length_ends_the_connection() {
        let close = b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n";
        assert!(!read_byte_by_byte(close).unwrap().unwrap().reusable);

        let mut reader = ResponseReader::default();
        assert_eq!(reader.push(b"HTTP/1.1 200 OK\r\n\r\nuntil close"), Ok(None));
        let response = reader.end_of_input().unwrap();
        assert_eq!(
            (response.text().as_str(), response.reusable),
            ("until close", false)
        );
    }
}
