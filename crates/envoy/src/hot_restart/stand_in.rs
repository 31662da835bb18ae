//! Answering a live epoch in the place of its parent that has died.
//!
//! An Envoy whose parent dies early waits for answers that never come, and aborts 13 to 14 seconds
//! later. It cannot tell who answers: the owner of the parent's socket counts as the parent. So the agent
//! takes the socket and gives the answers of a parent that has nothing to hand over, until the child
//! says that it needs its parent no more.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep, timeout};

use super::BaseId;
use super::message::{Answer, Frames, HotRestartMessage, answer, frame, stats_reply};
use super::socket::{DATAGRAM, Role, address_of, name_of};

/// How long a child that waits for nobody can be silent: it asks for statistics every five seconds.
const SILENCE: Duration = Duration::from_secs(6);

/// The pauses between two tries to take a socket that is in use: a copy of a descriptor is mostly open for less than
/// the first.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The parent's socket, in our hands.
///
/// ```no_run
/// use handover_envoy::hot_restart::{BaseId, StandIn};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// // Epoch 3 of base id 7 has died; epoch 4 is live and misses it.
/// let stand_in = StandIn::bind(BaseId::new(7)?, 3)?;
/// stand_in.run().await?;
/// println!("epoch 4 has let its parent go");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StandIn {
    socket: UnixDatagram,
    /// The same socket for sending: tokio's type sends to paths only, and a child has an abstract
    /// name.
    sender: StdUnixDatagram,
    child: SocketAddr,
    epoch: u32,
}

/// Why nobody can stand in for a parent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandInError {
    /// The socket of the parent cannot be taken.
    #[error("cannot take the place of epoch {epoch}, whose socket is {name}: does it still run?")]
    Bind {
        /// The epoch.
        epoch: u32,
        /// The name of its socket.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The socket has failed.
    #[error("cannot continue in the place of epoch {epoch}")]
    Receive {
        /// The epoch.
        epoch: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl StandInError {
    /// Whether somebody has the socket.
    fn is_in_use(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

impl StandIn {
    /// Takes the place of an epoch. It must have died: its socket is free only then.
    ///
    /// It must be called within a tokio runtime with its I/O driver enabled. Dropping it gives the
    /// socket free, for the next epoch with that place (the number modulo 3).
    ///
    /// # Errors
    ///
    /// [`StandInError::Bind`], where the epoch, or another one with its place, still runs.
    pub fn bind(base_id: BaseId, epoch: u32) -> Result<Self, StandInError> {
        let name = name_of(Role::Parent, base_id, epoch);
        let failed = |source| StandInError::Bind {
            epoch,
            name: format!("@{name}"),
            source,
        };
        let address = address_of(&name).map_err(failed)?;
        let child = name_of(Role::Child, base_id, epoch.wrapping_add(1));
        let child = address_of(&child).map_err(failed)?;
        let sender = StdUnixDatagram::bind_addr(&address).map_err(failed)?;
        sender.set_nonblocking(true).map_err(failed)?;
        let socket = sender
            .try_clone()
            .and_then(UnixDatagram::from_std)
            .map_err(failed)?;
        Ok(Self {
            socket,
            sender,
            child,
            epoch,
        })
    }

    /// Takes the place of an epoch that has died as soon as it is free. A socket outlives its process for as long as
    /// somebody has a copy of its descriptor, such as a debugger, or a program that looks at sockets.
    ///
    /// It must be called within a tokio runtime with its I/O driver and its timer enabled.
    ///
    /// # Errors
    ///
    /// [`StandInError::Bind`], where it is not free for [`PATIENCE`](Self::PATIENCE).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken before it returns.
    pub async fn take(base_id: BaseId, epoch: u32) -> Result<Self, StandInError> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match Self::bind(base_id, epoch) {
                Err(error) if error.is_in_use() && begun.elapsed() < Self::PATIENCE => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                taken => return taken,
            }
        }
    }

    /// How long [`take`](Self::take) waits: 15 s. A child that is refused by its parent's socket tries ten times, a second
    /// apart, and aborts.
    pub const PATIENCE: Duration = Duration::from_secs(15);

    /// Answers until the child lets its parent go, which it does at the parent-shutdown time.
    ///
    /// A child that asked its parent for statistics just before that one died waits for the answer
    /// without end, and its main thread with it. So one that says nothing for six seconds gets the
    /// answer unasked. A child that waits for nothing takes it for the answer to its next question,
    /// which is the same one.
    ///
    /// # Errors
    ///
    /// [`StandInError::Receive`]. A reply that does not arrive is not an error: the child asks again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, but for a message of several datagrams, which the child then sends again.
    pub async fn run(&self) -> Result<(), StandInError> {
        let mut frames = Frames::default();
        let mut datagram = vec![0; DATAGRAM];
        let mut silent = true;
        loop {
            let receiving = self.socket.recv_from(&mut datagram);
            let received = if silent {
                match timeout(SILENCE, receiving).await {
                    Ok(received) => received,
                    Err(_elapsed) => {
                        silent = false;
                        self.reply(&stats_reply(), &self.child);
                        continue;
                    }
                }
            } else {
                receiving.await
            };
            silent = false;
            let (length, child) = received.map_err(|source| StandInError::Receive {
                epoch: self.epoch,
                source,
            })?;
            let Some(message) = datagram.get(..length).and_then(|part| frames.take(part)) else {
                continue;
            };
            match answer(&message) {
                Answer::Released => return Ok(()),
                Answer::Nothing => {}
                Answer::Reply(reply) => {
                    if reply.not_recognized {
                        tracing::warn!(
                            epoch = self.epoch,
                            "the child of epoch {} asks for something unknown",
                            self.epoch
                        );
                    }
                    self.reply(&reply, &child.into());
                }
            }
        }
    }

    /// It does not block: a reply that finds no room is asked for again.
    fn reply(&self, reply: &HotRestartMessage, child: &SocketAddr) {
        if let Err(error) = self.sender.send_to_addr(&frame(reply), child) {
            tracing::debug!(epoch = self.epoch, "a reply did not arrive: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hot_restart::{BaseIdChoice, HostPaths, OwnedBaseId};
    use handover_runtime::offload::offload;
    use prost::Message as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Another one at each call: tests that run beside each other in one process share no socket.
    fn base_id() -> BaseId {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % 8;
        // Beyond what any test starts an Envoy with.
        BaseId::new(100_000 + std::process::id() * 8 + number).unwrap()
    }

    #[tokio::test]
    async fn a_child_is_answered_until_it_lets_its_parent_go() {
        let stand_in = StandIn::bind(base_id(), 4).unwrap();
        let parent = stand_in.sender.local_addr().unwrap();
        let name = format!("handover-test-child-{}", std::process::id());
        let child = StdUnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap());
        let child = child.unwrap();
        let running = tokio::spawn(async move { stand_in.run().await });
        let ask = move |request: &[u8]| {
            let message = HotRestartMessage::decode(request).unwrap();
            child
                .send_to_addr(&frame(&message), &parent)
                .map(|_| ())
                .unwrap();
            child.try_clone().unwrap()
        };
        let reply = offload(move || {
            let child = ask(&[0x0a, 0x02, 0x1a, 0x00]);
            let mut reply = [0; 64];
            let length = child.recv(&mut reply).unwrap();
            ask(&[0x0a, 0x02, 0x2a, 0x00]);
            reply[..length].to_vec()
        });
        assert_eq!(
            reply.await.unwrap(),
            [0, 0, 0, 0, 0, 0, 0, 4, 0x12, 0x02, 0x1a, 0x00]
        );
        running.await.unwrap().unwrap();
    }

    /// The child asked the parent that died, so nobody will ever answer what it asked.
    #[tokio::test(start_paused = true)]
    async fn a_silent_child_is_answered_unasked() {
        let base_id = base_id();
        let child = address_of(&name_of(Role::Child, base_id, 8)).unwrap();
        let child = UnixDatagram::from_std({
            let child = StdUnixDatagram::bind_addr(&child).unwrap();
            child.set_nonblocking(true).unwrap();
            child
        })
        .unwrap();
        let stand_in = StandIn::bind(base_id, 7).unwrap();
        let mut reply = [0; 64];
        let started = Instant::now();
        let length = tokio::select! {
            _ = stand_in.run() => panic!("nobody let the parent go"),
            length = child.recv(&mut reply) => length.unwrap(),
        };
        assert!(started.elapsed() >= SILENCE);
        assert_eq!(
            reply[..length],
            [0, 0, 0, 0, 0, 0, 0, 4, 0x12, 0x02, 0x1a, 0x00]
        );
    }

    #[tokio::test]
    async fn a_place_that_is_taken_is_refused_and_named() {
        let base_id = base_id();
        let _parent = StandIn::bind(base_id, 6).unwrap();
        let error = StandIn::bind(base_id, 9).unwrap_err().to_string();
        assert!(
            error.contains("epoch 9") && error.contains(&name_of(Role::Parent, base_id, 6)),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_held_for_a_moment_is_taken_after_it() {
        let base_id = base_id();
        let name = name_of(Role::Parent, base_id, 7);
        let copy = StdUnixDatagram::bind_addr(&address_of(&name).unwrap()).unwrap();
        let begun = Instant::now();
        let taking = tokio::spawn(StandIn::take(base_id, 7));
        sleep(Duration::from_secs(3)).await;
        assert!(!taking.is_finished());
        drop(copy);
        let stand_in = taking.await.unwrap().unwrap();
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(3) + LONGEST_PAUSE, "{took:?}");
        // One that is never given free is told.
        let error = StandIn::take(base_id, 7).await.unwrap_err();
        assert!(error.is_in_use(), "{error}");
        let waited = begun.elapsed() - took;
        assert!(waited >= StandIn::PATIENCE, "{waited:?}");
        drop(stand_in);
    }

    #[tokio::test]
    async fn a_stand_in_is_not_taken_for_an_envoy() {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .unwrap();
        let host = HostPaths {
            shared_memory: dir.path().to_owned(),
            ..HostPaths::with_locks(dir.path())
        };
        let base_id = BaseId::new(base_id().get() + 100_000).unwrap();
        let choice = BaseIdChoice::Explicit(base_id);
        let owned = OwnedBaseId::claim(choice, "test", &host).unwrap();
        std::fs::write(owned.shared_memory().path(), "stale").unwrap();
        let _stand_in = StandIn::bind(base_id, 1).unwrap();
        assert!(owned.remove_stale_shared_memory().unwrap());
    }
}
