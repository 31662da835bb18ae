//! Waiting until an epoch serves.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handover_retry::Retry;
use handover_tokio::gap::timeout;

use super::retry::retry_until;
use super::{AdminClient, AdminError, ServerInfo, ServerState};

/// How often an epoch is asked whether it is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivePoll {
    /// The time before the first question. Default: 20 ms, because the quickest start measured took
    /// 51 ms.
    pub first: Duration,
    /// The delays between questions, and how many there are. Default: without end, 5, 10, 20 ms and
    /// then every 20 ms; a question costs Envoy well below a millisecond.
    pub retry: Retry,
    /// How long it may take in all; `None` leaves the end to the caller. Default: `None`.
    pub limit: Option<Duration>,
}

impl Default for LivePoll {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            retry: Retry::new(u32::MAX, Duration::from_millis(5))
                .with_max_interval(Duration::from_millis(20)),
            limit: None,
        }
    }
}

/// Why an epoch is not live.
#[derive(Debug, thiserror::Error)]
pub enum NotLive {
    /// It cannot be asked.
    #[error("epoch {epoch} is not live: the admin endpoint cannot be asked")]
    Unreachable {
        /// The epoch that was waited for.
        epoch: u32,
        /// Why.
        #[source]
        source: AdminError,
    },
    /// Another epoch answers, most often the one before, which has not given the endpoint up.
    #[error("epoch {epoch} is not live: epoch {answering} answers at its admin endpoint")]
    OtherEpoch {
        /// The epoch that was waited for.
        epoch: u32,
        /// The epoch that answers.
        answering: u32,
    },
    /// It answers, but does not serve.
    #[error("epoch {epoch} is not live: its state is {state}")]
    State {
        /// The epoch that was waited for.
        epoch: u32,
        /// Its state.
        state: ServerState,
    },
    /// No question was answered before the limit.
    #[error("epoch {epoch} is not live: no answer within {limit:?}")]
    NoAnswer {
        /// The epoch that was waited for.
        epoch: u32,
        /// The limit.
        limit: Duration,
    },
}

impl AdminClient {
    /// Waits until the admin endpoint says `LIVE` *and* names this epoch. The state alone does not
    /// do: until the new epoch has taken the endpoint over, the old one answers there, and it is live
    /// too.
    ///
    /// # Errors
    ///
    /// [`NotLive`] once the poll's limit or questions are used up, with the last obstacle. Without
    /// either it goes on for ever.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any point, and called again.
    pub async fn wait_live(&self, epoch: u32, poll: &LivePoll) -> Result<ServerInfo, NotLive> {
        // Kept apart from the attempts, so that the obstacle is known when the limit cuts one.
        let last = Mutex::new(None);
        let wait = async {
            tokio::time::sleep(poll.first).await;
            // All epochs of one host poll alike without harm, so the delays have no jitter to seed.
            retry_until(poll.retry.delays(0), || async {
                let live = self.is_live(epoch).await;
                live.map_err(|obstacle| {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(obstacle);
                })
            })
            .await
        };
        let result = match poll.limit {
            None => wait.await,
            Some(limit) => timeout(limit, wait).await.unwrap_or(Err(())),
        };
        result.map_err(|()| {
            let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
            last.unwrap_or(NotLive::NoAnswer {
                epoch,
                limit: poll.limit.unwrap_or_default(),
            })
        })
    }

    async fn is_live(&self, epoch: u32) -> Result<ServerInfo, NotLive> {
        match self.server_info().await {
            Ok(info) if info.restart_epoch != epoch => Err(NotLive::OtherEpoch {
                epoch,
                answering: info.restart_epoch,
            }),
            Ok(info) if info.state != ServerState::Live => Err(NotLive::State {
                epoch,
                state: info.state,
            }),
            Ok(info) => Ok(info),
            // Nothing is final here: what sits on the port may still leave it to this epoch.
            Err(source) => Err(NotLive::Unreachable { epoch, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::fake_peer::{FakePeer, server_info};

    fn quick(limit: Option<Duration>) -> LivePoll {
        LivePoll {
            first: Duration::ZERO,
            retry: Retry::new(u32::MAX, Duration::from_millis(1))
                .with_max_interval(Duration::from_millis(1)),
            limit,
        }
    }

    #[tokio::test]
    async fn an_epoch_is_live_once_it_answers_itself_and_serves() {
        let peer = FakePeer::answers([
            server_info("LIVE", 0),
            b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Vec::new(),
            server_info("PRE_INITIALIZING", 1),
            server_info("INITIALIZING", 1),
            server_info("DRAINING", 1),
            server_info("LIVE", 1),
        ])
        .await;
        let info = peer.client().wait_live(1, &quick(None)).await.unwrap();
        assert_eq!((info.restart_epoch, info.state), (1, ServerState::Live));
        assert_eq!(peer.asked(), 7);
    }

    #[tokio::test]
    async fn at_the_limit_the_last_obstacle_is_told() {
        let limit = Some(Duration::from_millis(200));
        let wait = async |answer: Vec<u8>| {
            let peer = FakePeer::always(answer).await;
            let result = peer.client().wait_live(1, &quick(limit)).await;
            result.unwrap_err().to_string()
        };
        assert_eq!(
            wait(server_info("LIVE", 0)).await,
            "epoch 1 is not live: epoch 0 answers at its admin endpoint"
        );
        assert_eq!(
            wait(server_info("PRE_INITIALIZING", 1)).await,
            "epoch 1 is not live: its state is PRE_INITIALIZING"
        );
        assert_eq!(
            wait(b"garbage\r\n\r\n".to_vec()).await,
            "epoch 1 is not live: the admin endpoint cannot be asked"
        );
    }

    #[tokio::test]
    async fn a_peer_that_never_answers_is_told_as_such() {
        let peer = FakePeer::silent().await;
        let limit = Duration::from_millis(50);
        let error = peer.client().wait_live(2, &quick(Some(limit))).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "epoch 2 is not live: no answer within 50ms"
        );
    }

    #[tokio::test]
    async fn the_number_of_questions_can_be_limited() {
        let peer = FakePeer::always(server_info("INITIALIZING", 1)).await;
        let mut poll = quick(None);
        poll.retry.max_retries = 2;
        let error = peer.client().wait_live(1, &poll).await.unwrap_err();
        assert!(matches!(error, NotLive::State { .. }));
        assert_eq!(peer.asked(), 3);
    }
}
