//! Waiting until an epoch serves.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_retry::Retry;
use handover_runtime::time_limit::timeout;
use tokio::time::Instant;

use super::retry::retry_until;
use super::{AdminClient, AdminError, ServerInfo, ServerState};

/// How often an epoch is asked whether it is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivePoll {
    /// The time before the first question. Default: 20 ms, because the quickest start measured took
    /// 51 ms.
    pub first: Duration,
    /// The delays between questions, and how many there are. Default: without end, 2, 4 and then every
    /// 5 ms, because a hand-over waits for the answer, and a question costs Envoy well below a millisecond.
    pub retry: Retry,
    /// How long it is asked so often. After that, and at once where the endpoint answers with
    /// something else than what was asked for, a further pause follows each question, which doubles
    /// up to `slowest`. Default: 5 s.
    pub patience: Duration,
    /// The longest of these pauses. Default: 500 ms.
    pub slowest: Duration,
    /// How long it may take in all; `None` leaves the end to the caller. Default: `None`.
    pub limit: Option<Duration>,
}

impl Default for LivePoll {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            retry: Retry::new(u32::MAX, Duration::from_millis(2))
                .with_max_interval(Duration::from_millis(5)),
            patience: Duration::from_secs(5),
            slowest: Duration::from_millis(500),
            limit: None,
        }
    }
}

/// Why an epoch is not live.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotLive {
    /// It cannot be asked.
    #[error("epoch {epoch} is not live: the admin endpoint cannot be asked")]
    Unreachable {
        /// The epoch that was waited for.
        epoch: u32,
        /// The cause.
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
        /// The state that the epoch has answered with.
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
        let wait = self.wait_live_unless(epoch, poll, |_| std::future::ready(None::<Infallible>));
        match wait.await? {
            Ok(info) => Ok(info),
            Err(never) => match never {},
        }
    }

    /// Waits as [`wait_live`](Self::wait_live) does, unless `judge`, which is shown each obstacle, finds
    /// a reason to end the wait.
    pub(crate) async fn wait_live_unless<E, F, A>(
        &self,
        epoch: u32,
        poll: &LivePoll,
        judge: F,
    ) -> Result<Result<ServerInfo, E>, NotLive>
    where
        F: Fn(Arc<NotLive>) -> A,
        A: Future<Output = Option<E>>,
    {
        // Kept apart from the attempts, so that the obstacle is known when the limit cuts one.
        let last = Mutex::new(None);
        let pace = Mutex::new(Pace::new(poll));
        let started = Instant::now();
        let wait = async {
            tokio::time::sleep(poll.first).await;
            // All epochs of one host poll alike without harm, so the delays have no jitter to seed.
            retry_until(poll.retry.delays(0), || async {
                let obstacle = match self.is_live(epoch).await {
                    Ok(info) => return Ok(Ok(info)),
                    Err(obstacle) => Arc::new(obstacle),
                };
                *locked(&last) = Some(Arc::clone(&obstacle));
                let pause = locked(&pace).after(&obstacle, started.elapsed());
                if let Some(end) = judge(obstacle).await {
                    return Ok(Err(end));
                }
                tokio::time::sleep(pause).await;
                Err(())
            })
            .await
        };
        let result = match poll.limit {
            None => wait.await,
            Some(limit) => timeout(limit, wait).await.unwrap_or(Err(())),
        };
        result.map_err(|()| {
            let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
            last.and_then(Arc::into_inner).unwrap_or(NotLive::NoAnswer {
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

impl NotLive {
    /// Returns whether somebody has answered, but not as this epoch would on its way to be live.
    fn is_wrong_answer(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                !source.is_nobody_there() && !matches!(source, AdminError::TimedOut { .. })
            }
            // The one before has the endpoint for some milliseconds, and a question costs little.
            Self::OtherEpoch { .. } | Self::State { .. } | Self::NoAnswer { .. } => false,
        }
    }
}

/// The pauses that follow questions beyond the poll's own delays.
#[derive(Debug)]
struct Pace {
    patience: Duration,
    slowest: Duration,
    last: Duration,
}

impl Pace {
    /// The first pause. A single wrong answer, as when the endpoint changes hands, must not delay a
    /// start by more than that.
    const FIRST: Duration = Duration::from_millis(5);

    fn new(poll: &LivePoll) -> Self {
        Self {
            patience: poll.patience,
            slowest: poll.slowest,
            last: Duration::ZERO,
        }
    }

    /// Returns the pause after this obstacle, `waited` after the first question.
    fn after(&mut self, obstacle: &NotLive, waited: Duration) -> Duration {
        self.last = if waited >= self.patience || obstacle.is_wrong_answer() {
            let doubled = self.last.saturating_mul(2);
            doubled.max(Self::FIRST).min(self.slowest)
        } else {
            Duration::ZERO
        };
        self.last
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half-way by a panic.
    value.lock().unwrap_or_else(PoisonError::into_inner)
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
            ..LivePoll::default()
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

    fn refused(status: u16) -> NotLive {
        let source = AdminError::Status {
            address: "127.0.0.1:9901".parse().unwrap(),
            path: "/server_info",
            status,
            body: String::new(),
        };
        NotLive::Unreachable { epoch: 1, source }
    }

    #[test]
    fn a_start_as_it_should_be_is_asked_without_further_pauses() {
        let mut pace = Pace::new(&LivePoll::default());
        let waited = Duration::from_millis(100);
        let initializing = NotLive::State {
            epoch: 1,
            state: ServerState::Initializing,
        };
        let older = NotLive::OtherEpoch {
            epoch: 1,
            answering: 0,
        };
        assert_eq!(pace.after(&older, waited), Duration::ZERO);
        assert_eq!(pace.after(&initializing, waited), Duration::ZERO);
        // The connection breaks as the endpoint changes hands.
        assert_eq!(pace.after(&refused(503), waited), Pace::FIRST);
        assert_eq!(pace.after(&initializing, waited), Duration::ZERO);
    }

    #[test]
    fn an_endpoint_that_refuses_or_takes_long_is_asked_ever_more_rarely() {
        let poll = LivePoll::default();
        let mut pace = Pace::new(&poll);
        let pauses = (0..10).map(|_| pace.after(&refused(403), Duration::ZERO));
        let pauses: Vec<_> = pauses.map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 500, 500, 500]);
        let initializing = NotLive::State {
            epoch: 1,
            state: ServerState::Initializing,
        };
        assert_eq!(pace.after(&initializing, poll.patience), poll.slowest);
    }

    #[tokio::test]
    async fn a_refusing_endpoint_is_not_asked_in_a_hot_loop() {
        let forbidden = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        let peer = FakePeer::always(forbidden.to_vec()).await;
        let mut poll = quick(Some(Duration::from_secs(1)));
        poll.slowest = Duration::from_secs(1);
        let error = peer.client().wait_live(1, &poll).await.unwrap_err();
        assert!(matches!(error, NotLive::Unreachable { .. }));
        // 5 + 10 + .. + 320 ms; without these pauses it would be several hundred questions.
        assert!(peer.asked() <= 10, "{} questions", peer.asked());
    }

    #[tokio::test]
    async fn the_wait_ends_once_an_obstacle_is_judged_to_be_one_for_good() {
        let peer = FakePeer::answers([
            server_info("INITIALIZING", 1),
            b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ])
        .await;
        let judge = |obstacle: Arc<NotLive>| async move {
            matches!(&*obstacle, NotLive::Unreachable { source, .. } if source.is_refusal())
                .then_some("refused")
        };
        let poll = quick(None);
        let client = peer.client();
        let end = client.wait_live_unless(1, &poll, judge).await.unwrap();
        assert_eq!(end, Err("refused"));
        assert_eq!(peer.asked(), 2);
    }
}
