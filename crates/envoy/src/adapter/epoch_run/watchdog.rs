//! Noticing an Envoy that hangs.
//!
//! An Envoy whose main thread stands still goes on serving with its workers for a while, or does
//! not serve at all where the whole process is stopped. Either way its admin endpoint takes
//! connections, because the kernel does that, and answers none. Nothing else is a sign of it: an
//! endpoint where nobody listens belongs to an epoch that has given it up to a newer one.

use std::time::Duration;

use tokio::time::sleep;

use super::super::epochs::silence::{Look, Silence, Step};
use super::EpochRun;
use crate::admin::{AdminClient, AdminError};

/// How a live Envoy is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// How long it may leave a question at its admin endpoint without an answer. Less than 100 ms is
    /// taken as 100 ms: a busy Envoy may need that. It is asked four times in this time, but every
    /// ten seconds at least and every 50 ms at most.
    pub hung_after: Duration,
    /// What becomes of an Envoy that hangs.
    pub action: HungAction,
}

/// What becomes of an Envoy that hangs. A warning is logged in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HungAction {
    /// Nothing more.
    #[default]
    Report,
    /// It is killed, which counts as its failure, so that the policy starts it again.
    Restart,
}

impl Watchdog {
    fn hung_after(&self) -> Duration {
        self.hung_after.max(Duration::from_millis(100))
    }

    fn interval(&self) -> Duration {
        let quarter = self.hung_after() / 4;
        quarter.clamp(Duration::from_millis(50), Duration::from_secs(10))
    }

    /// Whether Envoy leaves every question without an answer for as long as it may. Two questions
    /// share the time, so that one lost connection proves nothing.
    async fn is_silent(&self, admin: &AdminClient) -> bool {
        let half = self.hung_after() / 2;
        let admin = admin.clone().with_time_limit(half);
        for _ in 0..2 {
            match admin.ready().await {
                Err(AdminError::TimedOut { .. }) => {}
                // Even garbage shows that somebody is awake. Where nobody listens, a newer epoch
                // has had the endpoint; then there is nobody to ask.
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}

impl EpochRun<'_> {
    /// Watches the newest epoch and returns, with the time of its silence, once it hangs and must be
    /// restarted.
    pub(super) async fn until_hung(&self) -> Duration {
        let Some(watchdog) = &self.envoy.settings.watchdog else {
            return std::future::pending().await;
        };
        let epoch = self.process.epoch;
        let admin = self.process.admin();
        let silence = watchdog.hung_after();
        let mut seen = Silence::new(watchdog.action);
        loop {
            sleep(watchdog.interval()).await;
            let is_silent = watchdog.is_silent(&admin).await;
            let newest = self.envoy.running.table().newest();
            let look = Look {
                is_silent,
                is_newest: newest == Some(epoch),
                older_is_stopped: self.any_older_is_stopped().await,
            };
            for step in seen.handle_look(look) {
                match step {
                    Step::ContinueOlder => self.wake_older().await,
                    Step::ReportHung => tracing::warn!(
                        epoch = epoch.number(),
                        "epoch {epoch} hangs: it has not answered for {silence:?}"
                    ),
                    Step::ReportAnswering => {
                        tracing::info!(epoch = epoch.number(), "epoch {epoch} answers again");
                    }
                    Step::Kill => return silence,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use tokio::time::Instant;

    /// A peer that does the same with every connection.
    fn peer(act: impl Fn(std::net::TcpStream) + Send + 'static) -> AdminClient {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the test process and holds nothing but its sockets.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                act(stream);
            }
        });
        AdminClient::new(address.to_string().parse().unwrap())
    }

    fn answering(answer: &'static [u8]) -> AdminClient {
        peer(move |mut stream| {
            let mut request = [0; 1024];
            let _asked = stream.read(&mut request);
            let _answered = stream.write_all(answer);
        })
    }

    fn watchdog(hung_after: Duration) -> Watchdog {
        Watchdog {
            hung_after,
            action: HungAction::Restart,
        }
    }

    #[tokio::test]
    async fn a_peer_that_never_answers_is_silent_after_just_that_time() {
        let held = std::sync::Mutex::new(Vec::new());
        let silent = peer(move |stream| held.lock().unwrap().push(stream));
        let started = Instant::now();
        let limit = Duration::from_millis(300);
        assert!(watchdog(limit).is_silent(&silent).await);
        let took = started.elapsed();
        assert!(took >= limit && took < 10 * limit, "{took:?}");
    }

    #[tokio::test]
    async fn an_answer_of_any_kind_is_no_silence() {
        let watchdog = watchdog(Duration::from_secs(10));
        let draining = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\nDRAINING";
        for answer in [&draining[..], b"garbage\r\n\r\n", b"", &[0xff; 70_000]] {
            assert!(!watchdog.is_silent(&answering(answer)).await);
        }
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let nobody = AdminClient::new(nobody.to_string().parse().unwrap());
        assert!(!watchdog.is_silent(&nobody).await);
    }

    #[tokio::test]
    async fn a_peer_that_drips_for_ever_is_silent() {
        let dripping = peer(|mut stream| {
            std::thread::spawn(move || {
                while stream.write_all(b"H").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        });
        let started = Instant::now();
        let limit = Duration::from_millis(200);
        // Whether its bytes are found wrong or the time is over first, it does not block.
        let _silent = watchdog(limit).is_silent(&dripping).await;
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn it_asks_rarely_where_it_may_take_long() {
        let interval = |seconds| watchdog(Duration::from_secs(seconds)).interval();
        assert_eq!(interval(0), Duration::from_millis(50));
        assert_eq!(interval(20), Duration::from_secs(5));
        assert_eq!(interval(600), Duration::from_secs(10));
    }
}
