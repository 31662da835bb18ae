//! Speaking to a running epoch as its child does.
//!
//! An epoch that is replaced side by side, by one under another base id, has no child that would
//! tell it to give way. So the agent says it in the child's place, in the words of Envoy's own
//! protocol. Envoy compares the version of that protocol in shared memory alone, so epochs of
//! different versions understand these messages; they were the same in Envoy 1.36 to 1.40.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram};
use std::time::Duration;

use handover_runtime::time_limit::timeout;
use tokio::net::UnixDatagram;

use super::BaseId;
use super::message::{Anything, Frames, RequestKind, frame, has_shut_down_admin, request};
use super::socket::{DATAGRAM, Role, address_of, name_of};

/// How long the epoch may take to answer: 5 s. It takes a few milliseconds, unless it is merging the
/// statistics of a large configuration or its machine is overloaded.
const ANSWER: Duration = Duration::from_secs(5);

/// A running epoch, as the next one under its base id sees it.
///
/// ```no_run
/// use handover_envoy::hot_restart::{BaseId, Parent};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// // Epoch 3 of base id 7 must give way to an Envoy under another base id.
/// let parent = Parent::new(BaseId::new(7)?, 3);
/// parent.shut_down_admin().await?;
/// // Here the other one is started, and goes live.
/// parent.drain_listeners()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    base_id: BaseId,
    restart_epoch: u32,
}

/// Why a running epoch cannot be spoken to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// The socket for its answers cannot be had.
    #[error(
        "cannot speak as the child of restart epoch {restart_epoch}: the socket {name} is taken"
    )]
    Bind {
        /// The epoch.
        restart_epoch: u32,
        /// The socket's name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What is said does not reach it.
    #[error("cannot reach restart epoch {restart_epoch} at its socket {name}")]
    Send {
        /// The epoch.
        restart_epoch: u32,
        /// The socket's name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Its answer cannot be received.
    #[error("cannot receive from restart epoch {restart_epoch}")]
    Receive {
        /// The epoch.
        restart_epoch: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("restart epoch {restart_epoch} did not close its admin endpoint within {ANSWER:?}")]
    Silent {
        /// The epoch.
        restart_epoch: u32,
    },
}

impl Parent {
    /// Names the epoch with this number under this base id. Nothing is opened or said yet.
    #[must_use]
    pub fn new(base_id: BaseId, restart_epoch: u32) -> Self {
        Self {
            base_id,
            restart_epoch,
        }
    }

    /// Lets the epoch close its admin endpoint, so that another Envoy can have the address, and waits
    /// until it has. It goes on serving. An older epoch that still drains for it ends at once, as at
    /// every hot restart; one whose endpoint is closed already answers all the same.
    ///
    /// It must be called within a tokio runtime with its I/O driver and timer enabled.
    ///
    /// # Errors
    ///
    /// [`ParentError`]. Unless it is [`ParentError::Silent`], the epoch has its endpoint.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the epoch may close its endpoint or not.
    pub async fn shut_down_admin(&self) -> Result<(), ParentError> {
        let restart_epoch = self.restart_epoch;
        let receive = |source| ParentError::Receive {
            restart_epoch,
            source,
        };
        // Envoy answers at the socket of the epoch that would be next, whoever sent the request.
        let child = name_of(Role::Child, self.base_id, restart_epoch.wrapping_add(1));
        let socket = address_of(&child)
            .and_then(|address| StdUnixDatagram::bind_addr(&address))
            .map_err(|source| ParentError::Bind {
                restart_epoch,
                name: format!("@{child}"),
                source,
            })?;
        self.say(&socket, RequestKind::ShutdownAdmin(Anything {}))?;
        let socket = UnixDatagram::from_std(socket).map_err(receive)?;
        let answered = async {
            let mut frames = Frames::default();
            let mut datagram = vec![0; DATAGRAM];
            loop {
                let length = socket.recv(&mut datagram).await.map_err(receive)?;
                let message = datagram.get(..length).and_then(|part| frames.take(part));
                if message.is_some_and(|message| has_shut_down_admin(&message)) {
                    return Ok(());
                }
            }
        };
        timeout(ANSWER, answered)
            .await
            .unwrap_or(Err(ParentError::Silent { restart_epoch }))
    }

    /// Lets the epoch close its listeners and drain. There is no answer: its listening sockets show
    /// the effect.
    ///
    /// Connections that it has not accepted are reset with the listeners. The adapter keeps new
    /// connections away first, so that there are none.
    ///
    /// # Errors
    ///
    /// [`ParentError::Bind`] or [`ParentError::Send`]; the epoch listens on.
    pub fn drain_listeners(&self) -> Result<(), ParentError> {
        let socket = StdUnixDatagram::unbound().map_err(|source| ParentError::Bind {
            restart_epoch: self.restart_epoch,
            name: "without a name".to_owned(),
            source,
        })?;
        self.say(&socket, RequestKind::DrainListeners(Anything {}))
    }

    /// Sends a request, and does not wait for room in the queue of one that does not read it.
    fn say(&self, socket: &StdUnixDatagram, kind: RequestKind) -> Result<(), ParentError> {
        let name = name_of(Role::Parent, self.base_id, self.restart_epoch);
        let said = address_of(&name).and_then(|address: SocketAddr| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(&frame(&request(kind)), &address)
        });
        said.map(|_sent| ()).map_err(|source| ParentError::Send {
            restart_epoch: self.restart_epoch,
            name: format!("@{name}"),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hot_restart::StandIn;

    fn base_id(offset: u32) -> BaseId {
        // Beyond what any test starts an Envoy with, and beyond those of the stand-in's tests.
        BaseId::new(10_000_000 + 10 * std::process::id() + offset).unwrap()
    }

    /// A stand-in answers as a parent does.
    #[tokio::test]
    async fn a_parent_that_answers_has_closed_its_endpoint() {
        let base_id = base_id(0);
        let parent = StandIn::bind(base_id, 4).unwrap();
        let running = tokio::spawn(async move { parent.run().await });
        let parent = Parent::new(base_id, 4);
        parent.shut_down_admin().await.unwrap();
        // The socket for the answer is free again for the child that may come.
        parent.shut_down_admin().await.unwrap();
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_says_nothing_is_not_waited_for_without_end() {
        let base_id = base_id(1);
        let name = name_of(Role::Parent, base_id, 0);
        let _deaf = StdUnixDatagram::bind_addr(&address_of(&name).unwrap()).unwrap();
        let error = Parent::new(base_id, 0).shut_down_admin().await.unwrap_err();
        assert!(matches!(error, ParentError::Silent { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_named() {
        let base_id = base_id(2);
        let parent = Parent::new(base_id, 2);
        let error = parent.shut_down_admin().await.unwrap_err();
        assert!(matches!(error, ParentError::Send { .. }), "{error}");
        let error = parent.drain_listeners().unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("parent_{}", base_id.tenfold() + 2)),
            "{error}"
        );
        let child = address_of(&name_of(Role::Child, base_id, 3)).unwrap();
        let _child = StdUnixDatagram::bind_addr(&child).unwrap();
        let error = parent.shut_down_admin().await.unwrap_err();
        assert!(matches!(error, ParentError::Bind { .. }), "{error}");
    }

    #[test]
    fn a_parent_is_told_to_close_its_listeners() {
        let base_id = base_id(3);
        let name = name_of(Role::Parent, base_id, 7);
        let parent = StdUnixDatagram::bind_addr(&address_of(&name).unwrap()).unwrap();
        Parent::new(base_id, 7).drain_listeners().unwrap();
        let mut datagram = [0; 64];
        let length = parent.recv(&mut datagram).unwrap();
        assert_eq!(
            datagram[..length],
            [0, 0, 0, 0, 0, 0, 0, 4, 0x0a, 0x02, 0x22, 0x00]
        );
    }
}
