//! Serving the admin endpoint on the main thread.

use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};

use super::{Effect, Page, View, answer};
use crate::config::Address;
use crate::date::Date;
use crate::faults::Habit;
use crate::http::{Reader, reason};
use crate::serve::listening::listen_for_admin;
use crate::serve::{Requests, pause_after};
use crate::statistics::{Import, Number, Statistics};

/// What the endpoint asks the process.
pub(crate) trait Backend {
    /// Returns what the pages show.
    fn view(&self) -> View;
    /// Does what a call wants.
    fn perform(&self, effect: Effect);
}

/// An endpoint that connections reach, and that nobody answers on yet.
#[derive(Debug)]
pub(crate) struct BoundAdmin {
    socket: Socket,
    is_unix: bool,
}

/// A running endpoint. Dropping it closes the endpoint and its connections soon.
#[derive(Debug)]
pub(crate) struct AdminServer(JoinHandle<()>);

/// The statistics of the endpoint.
#[derive(Clone, Debug)]
struct Counters {
    requests: Requests,
    active: [Number; 2],
    total: [Number; 2],
}

impl BoundAdmin {
    /// Binds the address and listens.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub(crate) fn bind(address: &Address) -> io::Result<Self> {
        Ok(Self {
            socket: listen_for_admin(address)?,
            is_unix: matches!(address, Address::Pipe(_)),
        })
    }

    /// Answers in a local task.
    ///
    /// # Errors
    ///
    /// The runtime does not take the socket.
    pub(crate) fn serve(
        self,
        statistics: &Statistics,
        backend: Rc<impl Backend + 'static>,
    ) -> io::Result<AdminServer> {
        let Self { socket, is_unix } = self;
        // Envoy names the part of the main thread, which tells it from a listener called `admin`.
        let names = ["listener.admin", "listener.admin.main_thread"];
        let counters = Counters {
            requests: Requests::new(statistics, "admin"),
            active: names.map(|name| {
                statistics.gauge(&format!("{name}.downstream_cx_active"), Import::Never)
            }),
            total: names.map(|name| statistics.counter(&format!("{name}.downstream_cx_total"))),
        };
        let task = if is_unix {
            let listener = UnixListener::from_std(socket.into())?;
            tokio::task::spawn_local(async move {
                let mut connections = JoinSet::new();
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let call = serve(stream, Rc::clone(&backend), counters.clone());
                            connections.spawn_local(call);
                        }
                        Err(error) => pause_after(&error).await,
                    }
                    while connections.try_join_next().is_some() {}
                }
            })
        } else {
            let listener = TcpListener::from_std(socket.into())?;
            tokio::task::spawn_local(async move {
                let mut connections = JoinSet::new();
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let call = serve(stream, Rc::clone(&backend), counters.clone());
                            connections.spawn_local(call);
                        }
                        Err(error) => pause_after(&error).await,
                    }
                    while connections.try_join_next().is_some() {}
                }
            })
        };
        Ok(AdminServer(task))
    }
}

impl AdminServer {
    /// Closes the endpoint, and returns once its address is free.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        let _was_aborted = (&mut self.0).await;
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts a connection for as long as it is open.
struct Open(Counters);

impl Drop for Open {
    fn drop(&mut self) {
        for number in &self.0.active {
            number.subtract(1);
        }
    }
}

async fn serve<S>(stream: S, backend: Rc<impl Backend>, counters: Counters)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for number in counters.active.iter().chain(&counters.total) {
        number.add(1);
    }
    let open = Open(counters);
    // A client that goes away is no fault of the server.
    let _client_went = answer_all(stream, &*backend, &open.0.requests).await;
}

async fn answer_all<S>(stream: S, backend: &impl Backend, requests: &Requests) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = Reader::new(stream);
    while let Some(head) = reader.head().await? {
        let _ignored = reader.body(head.length()).await?;
        let habits = backend.view().habits;
        if habits.has(&Habit::AdminSilent) {
            std::future::pending::<()>().await;
        }
        let slow = habits.value(|habit| {
            if let Habit::AdminSlow(time) = habit {
                Some(*time)
            } else {
                None
            }
        });
        tokio::time::sleep(slow.unwrap_or(Duration::ZERO)).await;
        if habits.has(&Habit::AdminGarbage) {
            reader
                .stream
                .write_all(b"\x00\x01 fake garbage \xff\xfe\n")
                .await?;
            return reader.stream.shutdown().await;
        }
        let Some((method, target, _)) = head.request() else {
            let page = Page::text(400, "Bad Request");
            write(&mut reader.stream, &page, true, true).await?;
            return reader.stream.shutdown().await;
        };
        requests.began();
        let (page, effect) = answer(method, target, &backend.view());
        requests.answered(page.status);
        let closes = head.closes();
        // The answer goes first: a call that ends the process is answered too.
        write(&mut reader.stream, &page, closes, method != "HEAD").await?;
        backend.perform(effect);
        if closes {
            return reader.stream.shutdown().await;
        }
    }
    Ok(())
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    page: &Page,
    closes: bool,
    has_body: bool,
) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let date = Date::of(now.unwrap_or_default().as_secs()).http();
    let connection = if closes { "connection: close\r\n" } else { "" };
    let (status, content_type, body) = (page.status, page.content_type, &page.body);
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\ncache-control: no-cache, max-age=0\r\n\
         x-content-type-options: nosniff\r\ndate: {date}\r\nserver: envoy\r\n{connection}\
         transfer-encoding: chunked\r\n\r\n",
        reason(status),
    );
    if has_body {
        if !body.is_empty() {
            text.push_str(&format!("{:x}\r\n{body}\r\n", body.len()));
        }
        text.push_str("0\r\n\r\n");
    }
    stream.write_all(text.as_bytes()).await
}
