//! As much of HTTP/1.1 as both ends of a test need.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The largest head that is read, as in Envoy.
const MAX_HEAD: usize = 60 << 10;
/// The largest body that is kept.
const MAX_BODY: usize = 16 << 20;

/// The head of a request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) line: String,
    /// The fields, with names in lower case.
    pub(crate) fields: Vec<(String, String)>,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Known(u64),
    Chunked,
    /// Until the connection ends. A request of this kind has no body.
    Unknown,
}

impl Head {
    /// Reads a head without its empty line. Nothing where it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let line = lines.next()?.to_owned();
        let fields = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
            is_name.then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        let fields = fields.collect::<Option<_>>()?;
        Some(Self { line, fields })
    }

    /// Returns the value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let field = fields.find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }

    /// Returns method, target and minor version of a request.
    pub(crate) fn request(&self) -> Option<(&str, &str, u8)> {
        let mut words = self.line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ => return None,
        };
        let is_sound = words.next().is_none() && !method.is_empty() && !target.is_empty();
        is_sound.then_some((method, target, minor))
    }

    /// Returns the status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.line.split(' ').nth(1)?.parse().ok()
    }

    /// Returns whether the sender closes after this.
    pub(crate) fn closes(&self) -> bool {
        let connection = self.field("connection").unwrap_or_default();
        connection
            .split(',')
            .any(|token| token.trim().eq_ignore_ascii_case("close"))
    }

    /// Returns how long the body is.
    pub(crate) fn length(&self) -> Length {
        let is_chunked = self
            .field("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
        if is_chunked {
            return Length::Chunked;
        }
        let length = self.field("content-length").and_then(|it| it.parse().ok());
        length.map_or(Length::Unknown, Length::Known)
    }
}

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads a head. Nothing where the stream ended before one began.
    ///
    /// # Errors
    ///
    /// `InvalidData` for what is no head.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what has come stays in the buffer.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let end = self.buffer.windows(4).position(|part| part == b"\r\n\r\n");
            if let Some(end) = end {
                let head = Head::parse(self.buffer.get(..end).unwrap_or_default());
                self.buffer.drain(..end + 4);
                return head
                    .map(Some)
                    .ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads the body of a request.
    pub(crate) async fn body(&mut self, length: Length) -> io::Result<Vec<u8>> {
        match length {
            Length::Unknown => Ok(Vec::new()),
            Length::Known(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.exactly(length).await
            }
            Length::Chunked => {
                let mut body = Vec::new();
                loop {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(size, 16)
                        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    if size == 0 {
                        // Trailers end with an empty line.
                        while !self.line().await?.is_empty() {}
                        return Ok(body);
                    }
                    body.extend(self.exactly(size).await?);
                    self.line().await?;
                    if body.len() > MAX_BODY {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
            }
        }
    }

    /// Returns the next part of a body that is passed on as it comes; empty at the end of the stream.
    pub(crate) async fn part(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAX_BODY {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while self.buffer.len() < length {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            let end = self.buffer.windows(2).position(|part| part == b"\r\n");
            if let Some(end) = end {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line)
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
            }
            if self.buffer.len() > MAX_HEAD || !self.fill().await? {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Returns the words for a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let mut runtime = runtime;
        runtime.build().unwrap().block_on(future)
    }

    #[test]
    fn requests_in_one_stream_are_read_one_by_one() {
        let stream: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPUT /b HTTP/1.1\r\n\
            transfer-encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /c HTTP/1.0\r\nconnection: Keep, Close\r\n\r\n";
        block_on(async {
            let mut reader = Reader::new(stream);
            let mut seen = Vec::new();
            while let Some(head) = reader.head().await.unwrap() {
                let body = reader.body(head.length()).await.unwrap();
                let (method, target, minor) = head.request().unwrap();
                let body = String::from_utf8(body).unwrap();
                seen.push(format!(
                    "{method} {target} {minor} {body} {}",
                    head.closes()
                ));
            }
            assert_eq!(
                seen,
                ["POST /a 1 abc false", "PUT /b 1 ab false", "GET /c 0  true"]
            );
        });
    }

    proptest::proptest! {
        #[test]
        fn no_stream_makes_it_panic(stream in "((GET|/|HTTP/1.1|content-length: 3|transfer-encoding: chunked|[ :0-9a-z]|\r\n){0,20})") {
            block_on(async {
                let mut reader = Reader::new(stream.as_bytes());
                while let Ok(Some(head)) = reader.head().await {
                    let _request = (head.request(), head.status());
                    if reader.body(head.length()).await.is_err() {
                        break;
                    }
                }
            });
        }
    }
}
