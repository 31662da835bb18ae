//! One connection of a client.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::Handler;
use super::drain::draw;
use super::upstream::{self, Answer};
use crate::config::{Delays, RouteAction};
use crate::date::Date;
use crate::http::{Head, Length, Reader, reason};

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Connection<S> {
    handler: Handler,
    reader: Reader<S>,
}

/// An answer of the server itself.
struct Local<'a> {
    status: u16,
    body: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

/// Counts a request for as long as it is answered.
struct Active<'a>(&'a Handler);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.requests.active.subtract(1);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(handler: Handler, stream: S) -> Self {
        Self {
            handler,
            reader: Reader::new(stream),
        }
    }

    /// Answers requests until one side closes.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            match self.reader.head().await {
                Ok(Some(head)) => {
                    if !self.answer(head).await? {
                        break;
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let bad = Local {
                        status: 400,
                        body: "Bad Request",
                        headers: Vec::new(),
                    };
                    self.write(&bad, true, true).await?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.reader.stream.shutdown().await
    }

    /// Answers a request. Returns whether the connection stays open.
    async fn answer(&mut self, head: Head) -> io::Result<bool> {
        let handler = self.handler.clone();
        let Some((method, target, minor)) = head.request() else {
            let bad = Local {
                status: 400,
                body: "Bad Request",
                headers: Vec::new(),
            };
            self.write(&bad, true, true).await?;
            return Ok(false);
        };
        handler.requests.began();
        let active = Active(&handler);
        let body = self.reader.body(head.length()).await?;
        let has_body = method != "HEAD";
        if minor == 0 {
            let old = Local {
                status: 426,
                body: "Upgrade Required",
                headers: Vec::new(),
            };
            self.write(&old, true, has_body).await?;
            handler.requests.finished(426);
            return Ok(false);
        }
        let host = head.field("host").unwrap_or_default();
        let routed = handler.routes.route(host, target);
        let of_route = routed.as_ref().and_then(|routed| routed.delays);
        self.delay(&head, of_route).await;
        let is_last = |drains: bool| drains || head.closes();
        let status = match routed {
            None => {
                handler.requests.routed.add(1);
                handler.requests.unrouted.add(1);
                let missing = Local {
                    status: 404,
                    body: "",
                    headers: Vec::new(),
                };
                let closes = is_last(self.drains());
                self.write(&missing, closes, has_body).await?;
                (404, closes)
            }
            Some(routed) => match routed.action {
                RouteAction::Direct { status, body } => {
                    handler.requests.routed.add(1);
                    handler.requests.direct.add(1);
                    let direct = Local {
                        status: *status,
                        body,
                        headers: routed.headers,
                    };
                    let closes = is_last(self.drains());
                    self.write(&direct, closes, has_body).await?;
                    (*status, closes)
                }
                RouteAction::Forward { cluster, timeout } => {
                    handler.requests.routed.add(1);
                    let endpoint = handler.service.bootstrap.endpoint(cluster);
                    let call = upstream::call(endpoint, &head, &body);
                    match upstream::within(*timeout, call).await {
                        Ok(answer) => {
                            // The answer may have taken long, so the drain is looked at behind it.
                            let closes = is_last(self.drains());
                            let status = answer.head.status().unwrap_or(502);
                            self.pass_on(answer, &routed.headers, closes, has_body)
                                .await?;
                            (status, closes)
                        }
                        Err((status, body)) => {
                            let failed = Local {
                                status,
                                body,
                                headers: routed.headers,
                            };
                            let closes = is_last(self.drains());
                            self.write(&failed, closes, has_body).await?;
                            (status, closes)
                        }
                    }
                }
            },
        };
        let (status, closes) = status;
        handler.requests.finished(status);
        drop(active);
        Ok(!closes)
    }

    /// Holds the request as the fault filter of the configuration and a fault of the fake want it.
    async fn delay(&self, head: &Head, of_route: Option<Delays>) {
        let mut delay = self.handler.service.slow_answers();
        let http = self.handler.listener.http.as_ref();
        if let Some(delays) = http.and_then(|http| http.delays(of_route)) {
            delay += delays.fixed;
            let asked = head.field("x-envoy-fault-delay-request");
            let asked = asked.filter(|_| delays.by_header);
            let millis = asked.and_then(|millis| millis.parse().ok());
            delay += Duration::from_millis(millis.unwrap_or(0));
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    fn drains(&self) -> bool {
        let drains = self.handler.service.drain.closes(draw());
        if drains {
            self.handler.requests.drain_close.add(1);
        }
        drains
    }

    async fn write(&mut self, local: &Local<'_>, closes: bool, has_body: bool) -> io::Result<()> {
        let status = local.status;
        let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        let mut field = |name: &str, value: &str| {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        };
        for (name, value) in &local.headers {
            field(name, value);
        }
        if status != 204 {
            field("content-length", &local.body.len().to_string());
        }
        if !local.body.is_empty() {
            field("content-type", "text/plain");
        }
        field("date", &now());
        field("server", "envoy");
        if closes {
            field("connection", "close");
        }
        text.push_str("\r\n");
        if has_body && status != 204 {
            text.push_str(local.body);
        }
        self.reader.stream.write_all(text.as_bytes()).await
    }

    async fn pass_on(
        &mut self,
        mut answer: Answer,
        headers: &[(&str, &str)],
        closes: bool,
        has_body: bool,
    ) -> io::Result<()> {
        let head = &answer.head;
        let length = head.length();
        let mut text = format!("{}\r\n", head.line.replacen("HTTP/1.0", "HTTP/1.1", 1));
        let own = [
            "connection",
            "keep-alive",
            "date",
            "server",
            "transfer-encoding",
        ];
        let kept = head
            .fields
            .iter()
            .filter(|(name, _)| !own.contains(&name.as_str()));
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in kept.chain(headers.iter().copied()) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("date: {}\r\nserver: envoy\r\n", now()));
        let is_chunked = !matches!(length, Length::Known(_));
        if is_chunked {
            text.push_str("transfer-encoding: chunked\r\n");
        }
        if closes {
            text.push_str("connection: close\r\n");
        }
        text.push_str("\r\n");
        self.reader.stream.write_all(text.as_bytes()).await?;
        if !has_body {
            return Ok(());
        }
        answer.copy_to(&mut self.reader.stream, length).await
    }
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Date::of(now.unwrap_or_default().as_secs()).http()
}
