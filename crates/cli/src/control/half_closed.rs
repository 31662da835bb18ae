//! Clients that have said all they have to say: they close their side after the request, as
//! `socat` and `nc -N` do, and wait for the answer. A client that is gone looks the same to a
//! reader, so it is looked at more closely.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::sleep;

/// How often a client that has closed its side is looked at while it waits.
const LOOK: Duration = Duration::from_millis(500);

/// A connection, whose end of the client's side is noted.
pub(super) struct Conversation {
    stream: Arc<UnixStream>,
    has_ended: watch::Sender<bool>,
}

/// Tells when a client is gone.
pub(super) struct Client {
    stream: Arc<UnixStream>,
    has_ended: watch::Receiver<bool>,
}

pub(super) fn conversation(stream: UnixStream) -> (Conversation, Client) {
    let stream = Arc::new(stream);
    let (sender, has_ended) = watch::channel(false);
    let client = Client {
        stream: Arc::clone(&stream),
        has_ended,
    };
    let conversation = Conversation {
        stream,
        has_ended: sender,
    };
    (conversation, client)
}

impl Client {
    /// Waits until the client has closed both sides. Until it has closed its own nothing wakes up.
    pub(super) async fn gone(&mut self) {
        // The sender lives in the connection, which ends before this is of no use.
        if self.has_ended.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
        while !self.has_hung_up() {
            sleep(LOOK).await;
        }
    }

    /// Whether nobody reads what we write.
    fn has_hung_up(&self) -> bool {
        let mut looked = [PollFd::new(&*self.stream, PollFlags::empty())];
        let at_once = Timespec::default();
        let found = poll(&mut looked, Some(&at_once));
        let hung_up = PollFlags::HUP | PollFlags::ERR;
        found.is_ok() && looked.iter().any(|fd| fd.revents().intersects(hung_up))
    }
}

impl AsyncRead for Conversation {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.stream.poll_read_ready(context))?;
            let before = buffer.filled().len();
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(0) if buffer.remaining() > 0 => {
                    self.has_ended.send_replace(true);
                    return Poll::Ready(Ok(()));
                }
                Ok(count) => {
                    buffer.set_filled(before.saturating_add(count));
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Conversation {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write);
        Poll::Ready(shut.map_err(io::Error::from))
    }
}
