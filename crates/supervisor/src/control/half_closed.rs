//! Clients that have said all they have to say: they close their side after the request, as
//! `socat` and `nc -N` do, and wait for the answer. A client that is gone looks the same to a
//! reader, so it is looked at more closely.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

/// How often a client that has closed its side is looked at while it waits.
const LOOK: Duration = Duration::from_millis(500);

/// A connection that two may look at.
pub(crate) trait Shareable: AsFd + Send + Sync + 'static {
    /// Waits until there is something to read.
    fn wait_to_read(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! shareable {
    ($($stream:ident)*) => { $(
        impl Shareable for $stream {
            async fn wait_to_read(&self) -> io::Result<()> {
                self.ready(Interest::READABLE).await.map(drop)
            }

            fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(context)
            }

            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }

            fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(context)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }
        }
    )* };
}

shareable!(TcpStream UnixStream);

/// A connection that somebody else watches meanwhile.
pub(super) struct Conversation<S>(Arc<S>);

/// Tells when a client is gone.
pub(super) struct Client<S>(Arc<S>);

pub(super) fn conversation<S: Shareable>(stream: S) -> (Conversation<S>, Client<S>) {
    let stream = Arc::new(stream);
    (Conversation(Arc::clone(&stream)), Client(stream))
}

impl<S: Shareable> Client<S> {
    /// Waits until the client has closed both sides. It wakes up only where there is something to
    /// read, and nobody reads it.
    pub(super) async fn gone(&self) {
        loop {
            // A failed wait is told to whoever reads as well.
            let _ready = self.0.wait_to_read().await;
            if self.has_hung_up() {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Whether nobody reads what we write.
    fn has_hung_up(&self) -> bool {
        let mut looked = [PollFd::new(&*self.0, PollFlags::empty())];
        let at_once = Timespec::default();
        let found = poll(&mut looked, Some(&at_once));
        let hung_up = PollFlags::HUP | PollFlags::ERR;
        found.is_ok() && looked.iter().any(|fd| fd.revents().intersects(hung_up))
    }
}

impl<S: Shareable> AsyncRead for Conversation<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.0.poll_read_ready(context))?;
            let before = buffer.filled().len();
            match self.0.try_read(buffer.initialize_unfilled()) {
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

impl<S: Shareable> AsyncWrite for Conversation<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write);
        Poll::Ready(shut.map_err(io::Error::from))
    }
}
