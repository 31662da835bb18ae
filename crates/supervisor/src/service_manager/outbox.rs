//! Messages on their way to the service manager.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

/// How long to wait before a full socket is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a socket may be full before that is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(5);

/// The most messages that wait. Of a state there are two for each reload, so this is many reloads that a
/// service manager did not listen to. The oldest ones go.
const MOST: usize = 64;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// That this process is ready, reloads or stops. Each counts.
    State,
    /// A sentence. Only the newest one counts, as with all that follow.
    Status,
    Alive,
    MoreTime,
}

#[derive(Debug)]
pub(super) struct Outbox {
    /// Open from the beginning: a process that is short of descriptors must go on reporting.
    socket: UnixDatagram,
    to: SocketAddr,
    /// The address, for people.
    name: String,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Kind, String)>,
    /// Whether a task tries again.
    is_retrying: bool,
    /// Whether a problem was logged.
    is_logged: bool,
}

/// What became of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    All,
    /// The socket is full.
    Some,
}

impl Outbox {
    pub(super) fn open(to: SocketAddr, name: String) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            to,
            name,
            queue: Mutex::default(),
        })
    }

    /// Sends a message, or lets it wait while the socket is full.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, if the socket is full.
    pub(super) fn send(this: &Arc<Self>, kind: Kind, text: String) {
        let mut queue = this.queue();
        queue.push(kind, text);
        if this.send_waiting(&mut queue) == Sent::Some && !queue.is_retrying {
            queue.is_retrying = true;
            tokio::spawn(Arc::clone(this).retry());
        }
    }

    /// Waits until nothing waits to be sent, or until the limit is over.
    pub(super) async fn flush(&self, limit: Duration) {
        let begun = Instant::now();
        while self.send_waiting(&mut self.queue()) == Sent::Some && begun.elapsed() < limit {
            sleep(PAUSE).await;
        }
    }

    async fn retry(self: Arc<Self>) {
        let begun = Instant::now();
        loop {
            sleep(PAUSE).await;
            let mut queue = self.queue();
            match self.send_waiting(&mut queue) {
                Sent::All => {
                    queue.is_retrying = false;
                    return;
                }
                Sent::Some if begun.elapsed() >= LOGGED_AFTER => {
                    self.log(&mut queue, "the socket is full, and is not read");
                }
                Sent::Some => {}
            }
        }
    }

    /// Sends what waits. What the socket refuses otherwise than by being full is lost, as its reader is.
    fn send_waiting(&self, queue: &mut Queue) -> Sent {
        while let Some((_, text)) = queue.waiting.front() {
            match self.socket.send_to_addr(text.as_bytes(), &self.to) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Some,
                Err(error) => self.log(queue, &error.to_string()),
            }
            queue.waiting.pop_front();
        }
        Sent::All
    }

    fn log(&self, queue: &mut Queue, problem: &str) {
        if !queue.is_logged {
            queue.is_logged = true;
            warn!(
                "NOTIFY_SOCKET={}: {problem}; the service manager may believe that this process has \
                 failed",
                self.name
            );
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here is left half-way by a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, kind: Kind, text: String) {
        if kind != Kind::State {
            self.waiting.retain(|(waiting, _)| *waiting != kind);
        }
        self.waiting.push_back((kind, text));
        while self.waiting.len() > MOST {
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_waits_each_state_is_kept_and_of_the_rest_the_newest() {
        let mut queue = Queue::default();
        for (kind, text) in [
            (Kind::State, "READY"),
            (Kind::Status, "one"),
            (Kind::Alive, "alive"),
            (Kind::State, "RELOADING"),
            (Kind::Status, "two"),
            (Kind::State, "READY"),
            (Kind::Alive, "alive"),
        ] {
            queue.push(kind, text.to_owned());
        }
        let texts: Vec<&str> = queue.waiting.iter().map(|(_, text)| &**text).collect();
        assert_eq!(texts, ["READY", "RELOADING", "two", "READY", "alive"]);
        for _ in 0..1000 {
            queue.push(Kind::State, "READY".to_owned());
        }
        assert_eq!(queue.waiting.len(), MOST);
    }
}
