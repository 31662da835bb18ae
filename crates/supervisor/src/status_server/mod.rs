//! The status server: what load balancers, orchestrators and people read of an instance over TCP.
//!
//! ```text
//!  client ──▶ TCP ──▶ server ──▶ routes ──▶ Question ──▶ the supervisor's loop
//!    ▲                             │                            │
//!    └────────── answers ◀─────────┴──── Verdict, Status ◀──────┘
//! ```
//!
//! Nothing can be changed here, unless the calls of other sidecars were asked for (`compat`), and nothing here decides anything. Whether an instance is ready is the
//! [`Verdict`] of the operator. `routes` maps it to a response. Each question goes through the loop of the
//! supervisor, so a loop that is stuck shows. The [metrics](crate::metrics), the `statistics` and the `page` alone do not
//! need it. Everyone who can connect may read, so `public` leaves out what the
//! control socket shows to its user only.
//!
//! A further endpoint is a line of `routes::ENDPOINTS` and an arm of `server`.

mod compat;
mod page;
mod public;
mod routes;
mod server;
mod stats;

use std::io;
use std::net::{SocketAddr, TcpListener};

use handover_netutil::{Listen, ListenError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::control::PendingAsk;
use crate::control::accept::{Places, accept, most_connections};
use crate::events::Events;
use crate::metrics::Scrape;
use crate::operator::Verdict;
use crate::statistics::Statistics;
use server::{FAREWELL, QUESTIONS, Server};

/// The listening socket of a status server. Nobody is answered until a supervisor runs with it.
#[derive(Debug)]
pub struct StatusListener {
    listener: TcpListener,
    address: SocketAddr,
    compat: bool,
}

impl StatusListener {
    /// Listens on this address. With port 0 the system chooses a free port.
    ///
    /// # Errors
    ///
    /// When the address belongs to another process or another host, or the operating system refuses a
    /// socket. The error names the address.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let listener = Listen::new(address).nonblocking(true).tcp()?;
        // The kernel always tells.
        let address = listener.local_addr().unwrap_or(address);
        Ok(Self {
            listener,
            address,
            compat: false,
        })
    }

    /// Sets whether programs on this host may end or drain the instance by `/quitquitquit`, `/drain`, `/graceful_shutdown`
    /// and `/graceful_startup`, as they do with the sidecars of service meshes. They may not, unless this is called.
    ///
    /// Every program that can connect from a loopback address may call them then, whichever user it belongs to.
    #[must_use]
    pub fn compat_endpoints(mut self, compat: bool) -> Self {
        self.compat = compat;
        self
    }

    /// Returns the address on which it listens, with the port that the system has chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What is asked of the loop.
#[derive(Debug)]
pub(crate) enum Question {
    /// Whether clients should be sent here.
    Verdict(oneshot::Sender<Verdict>),
    /// The status, after a look at the processes, or what a program on this host calls.
    Ask(PendingAsk),
}

/// The status server while it is served.
#[derive(Debug)]
pub(crate) struct StatusServer {
    questions: mpsc::Receiver<Question>,
    close: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl StatusServer {
    /// Begins to answer.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to watch the socket.
    pub(crate) fn serve(
        listener: StatusListener,
        scrape: Scrape,
        statistics: Statistics,
        events: Events,
    ) -> io::Result<Self> {
        let compat = listener.compat;
        let listener = tokio::net::TcpListener::from_std(listener.listener)?;
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let server = Server::new(sender, events, scrape, statistics, compat);
        let (close, closed) = oneshot::channel();
        let places = Places::new(most_connections());
        let serving = tokio::spawn(async move {
            let converse = |stream, place, entry| server.clone().converse(stream, place, entry);
            accept(listener, "the status server", places, closed, converse).await;
        });
        Ok(Self {
            questions,
            close,
            serving,
        })
    }

    /// What is asked next.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a question that has come is returned by the next call.
    pub(crate) async fn next(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            // The server has ended, which it does only when it is closed.
            None => std::future::pending().await,
        }
    }

    /// Takes no further connection, and lets the last answers be written.
    pub(crate) async fn close(self) {
        drop(self.questions);
        // It may have ended already.
        let _ended = self.close.send(());
        let abort = self.serving.abort_handle();
        if timeout(FAREWELL, self.serving).await.is_err() {
            abort.abort();
        }
    }
}
