//! Answering over TCP.
//!
//! Each connection is for one request. It has ten seconds to ask, and ten seconds to read the answer; events
//! are read for as long as the client likes. The supervisor's loop has five seconds to answer. The status is
//! asked for once at a time, and one answer is for everybody who asks within half a second, so that nobody
//! can keep the supervisor busy with looks at its processes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handover_runtime::time_limit;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Question;
use super::compat::{self, Call};
use super::page;
use super::public::{NO_STATUS, PublicStatus};
use super::routes::{self, Answer, Endpoint, Entrance};
use super::stats;
use crate::control::accept::hold;
use crate::control::connections::{Connection, Dismissed, Owes};
use crate::control::wire::Reply;
use crate::control::{Ask, PendingAsk};
use crate::events::Events;
use crate::metrics::{Format, Scrape};
use crate::operator::Verdict;
use crate::statistics::Statistics;

/// How many questions may wait for the loop.
pub(super) const QUESTIONS: usize = 16;
/// How long the last answers may take when everything ends.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
/// How long a client may take to ask, and how long to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the loop may take to answer.
const LOOP_LIMIT: Duration = Duration::from_secs(5);
/// For how long a status is shown to others who ask.
const SHARED_FOR: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    questions: mpsc::Sender<Question>,
    events: Events,
    scrape: Scrape,
    statistics: Statistics,
    /// Whether the calls of other sidecars are there.
    compat: bool,
    /// The last status, and when it was made.
    status: Mutex<Option<(Instant, Bytes)>>,
}

impl Server {
    pub(super) fn new(
        questions: mpsc::Sender<Question>,
        events: Events,
        scrape: Scrape,
        statistics: Statistics,
        compat: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            compat,
            questions,
            events,
            scrape,
            statistics,
            status: Mutex::new(None),
        }))
    }

    /// One connection to its end.
    pub(super) async fn converse(
        self,
        stream: TcpStream,
        _place: OwnedSemaphorePermit,
        (entry, dismissed): (Connection, Dismissed),
    ) {
        // Without it, an event may wait for the client's acknowledgement of the one before.
        let _only_slower = stream.set_nodelay(true);
        let entrance = Entrance {
            local: stream.local_addr().ok().map(|address| address.ip()),
            peer: stream.peer_addr().ok().map(|address| address.ip()),
            compat: self.0.compat,
        };
        let (turn, turns) = watch::channel(Some(Instant::now() + PATIENCE));
        let (turn, entry) = (Arc::new(turn), Arc::new(entry));
        let service = service_fn(|request: Request<Incoming>| {
            let (server, turn, entry) = (self.clone(), Arc::clone(&turn), Arc::clone(&entry));
            async move {
                let (head, _body) = request.into_parts();
                let answer = match routes::read(&head, entrance) {
                    Err(refused) => refused.answer(entrance.compat),
                    Ok(endpoint) => {
                        turn.send_replace(None);
                        entry.owes(Owes::Nothing);
                        server.answer(endpoint, &head).await
                    }
                };
                entry.owes(Owes::Reading);
                // Events are read for as long as they come.
                let limit = match answer.body() {
                    Either::Left(_) => Some(Instant::now() + PATIENCE),
                    Either::Right(_) => None,
                };
                turn.send_replace(limit);
                Ok::<_, Infallible>(answer)
            }
        });
        hold(stream, service, turns, dismissed).await;
    }

    async fn answer(&self, endpoint: Endpoint, head: &Parts) -> Answer {
        match endpoint {
            Endpoint::Index if page::is_wanted(&head.headers) => page::page(),
            Endpoint::Index => routes::index(self.0.compat),
            Endpoint::Ready => routes::ready(self.verdict().await),
            Endpoint::Live => routes::live(self.verdict().await),
            Endpoint::Current => routes::current(self.verdict().await),
            Endpoint::Status => routes::status(&self.status().await),
            Endpoint::Metrics => {
                let accept = head.headers.get(ACCEPT);
                let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
                routes::metrics(self.0.scrape.text(format))
            }
            Endpoint::Statistics => match stats::query(head.uri.query()) {
                Ok(query) => stats::statistics(self.0.statistics.text(query).await),
                Err(unknown) => stats::refused(unknown),
            },
            Endpoint::Call(call) => self.call(call).await,
            Endpoint::Events if head.method == Method::HEAD => routes::events(None),
            Endpoint::Events => {
                let last = head.headers.get("last-event-id");
                let last = last.map(|id| String::from_utf8_lossy(id.as_bytes()));
                routes::events(Some(self.0.events.read(last.as_deref())))
            }
        }
    }

    /// Asks the loop whether clients should be sent here; nothing if it does not answer in time.
    async fn verdict(&self) -> Option<Verdict> {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.0
                .questions
                .send(Question::Verdict(answer))
                .await
                .ok()?;
            answered.await.ok()
        };
        time_limit::timeout(LOOP_LIMIT, asked).await.ok().flatten()
    }

    /// Asks the loop for what is called. It is carried out even if the client goes.
    async fn call(&self, call: Call) -> Answer {
        let Some(ask) = call.ask() else {
            return routes::ready(self.verdict().await);
        };
        tracing::info!("a program on this host calls {}: {ask}", call.path());
        let asked = async {
            let (answer, answered) = oneshot::channel();
            let pid = None;
            let question = Question::Ask(PendingAsk {
                ask,
                text: None,
                pid,
                answer,
            });
            self.0.questions.send(question).await.ok()?;
            let outcome = answered.await.ok()?;
            if let Err(refusal) = &outcome {
                tracing::warn!("{} was not carried out: {}", call.path(), refusal.message);
            }
            Some(outcome.map(|_| ()))
        };
        let outcome = time_limit::timeout(LOOP_LIMIT, asked).await.ok().flatten();
        compat::done(outcome)
    }

    async fn status(&self) -> Result<Bytes, String> {
        let asked = async {
            // Those who ask meanwhile wait here, and get the same.
            let mut shared = self.0.status.lock().await;
            if let Some((made, json)) = &*shared
                && made.elapsed() < SHARED_FOR
            {
                return Ok(json.clone());
            }
            let ended = || "the supervisor has ended".to_owned();
            let (answer, answered) = oneshot::channel();
            let (ask, pid) = (Ask::Status, None);
            let pending = PendingAsk {
                ask,
                text: None,
                pid,
                answer,
            };
            let question = Question::Ask(pending);
            self.0.questions.send(question).await.map_err(|_| ended())?;
            match answered.await.map_err(|_| ended())? {
                Ok(Reply::Status(status)) => {
                    let json = routes::json(&PublicStatus::from(*status));
                    *shared = Some((Instant::now(), json.clone()));
                    Ok(json)
                }
                // Its words may quote a file or a process.
                Err(_) => Err(NO_STATUS.to_owned()),
                Ok(
                    Reply::Reloaded(_)
                    | Reply::Applied(_)
                    | Reply::Drained(_)
                    | Reply::Stopped(_)
                    | Reply::Who(_)
                    | Reply::Waited(_),
                ) => Err(ended()),
            }
        };
        let late = |_| "the status was not there in time".to_owned();
        time_limit::timeout(LOOP_LIMIT, asked).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::time::advance;

    use super::super::public::tests::full;
    use super::*;
    use crate::control::{Answer as Answered, wire};
    use crate::metrics::{Exposition, Shared};
    use crate::operator::{Health, Why};

    fn served() -> (Server, mpsc::Receiver<Question>) {
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let scrape = Scrape::new(|format| Exposition {
            content_type: "text/plain",
            body: format!("{format:?}"),
        });
        let statistics = Statistics::new(Shared::new(), |_| {
            Box::pin(async { Err("these tests have none".to_owned()) })
        });
        (
            Server::new(sender, Events::new(None), scrape, statistics, true),
            questions,
        )
    }

    async fn status_asked(questions: &mut mpsc::Receiver<Question>) -> PendingAsk {
        match questions.recv().await {
            Some(Question::Ask(pending)) => pending,
            question => panic!("{question:?}"),
        }
    }

    fn shown() -> Answered {
        Ok(Reply::Status(Box::new(full())))
    }

    /// Lets every task come as far as it can without time.
    async fn settle() {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_stuck_is_told_from_one_that_turns_and_one_that_has_ended() {
        let (server, mut questions) = served();
        let begun = Instant::now();
        assert_eq!(server.verdict().await, None);
        assert!(
            server
                .status()
                .await
                .unwrap_err()
                .contains("not there in time")
        );
        assert!(begun.elapsed() >= LOOP_LIMIT);
        let verdict = Verdict {
            health: Health::Terminating,
            why: Why::Draining,
        };
        tokio::spawn(async move {
            // What nobody waits for any more comes first.
            while let Some(question) = questions.recv().await {
                if let Question::Verdict(answer) = question
                    && answer.send(verdict).is_ok()
                {
                    return;
                }
            }
        });
        assert_eq!(server.verdict().await, Some(verdict));
        assert_eq!(server.verdict().await, None);
        assert!(server.status().await.unwrap_err().contains("has ended"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_is_asked_for_all_who_want_the_status_at_once() {
        let (server, mut questions) = served();
        let ask = |count: usize| -> Vec<_> {
            let asking = (0..count).map(|_| {
                let server = server.clone();
                tokio::spawn(async move { server.status().await })
            });
            asking.collect()
        };
        let asking = ask(50);
        let pending = status_asked(&mut questions).await;
        assert_eq!((pending.ask, pending.pid), (Ask::Status, None));
        // Every one of them has come as far as it can.
        settle().await;
        assert!(questions.try_recv().is_err(), "a second question");
        pending.answer.send(shown()).unwrap();
        for asked in asking {
            assert!(asked.await.unwrap().is_ok());
        }
        advance(SHARED_FOR - Duration::from_millis(1)).await;
        assert!(server.status().await.is_ok());
        assert!(questions.try_recv().is_err(), "it is shown for longer");
        advance(Duration::from_millis(1)).await;
        let asking = ask(1);
        let pending = status_asked(&mut questions).await;
        pending.answer.send(shown()).unwrap();
        assert!(asking.into_iter().next().unwrap().await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_for_one_alone_and_shows_no_text_of_it() {
        let (server, mut questions) = served();
        let asking: Vec<_> = (0..2)
            .map(|_| {
                let server = server.clone();
                tokio::spawn(async move { server.status().await })
            })
            .collect();
        for _ in 0..2 {
            let pending = status_asked(&mut questions).await;
            let refusal = wire::Refusal::new(wire::Code::Failed, "SECRET");
            pending.answer.send(Err(refusal)).unwrap();
        }
        for asked in asking {
            assert_eq!(asked.await.unwrap().unwrap_err(), NO_STATUS);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_are_there_although_the_loop_is_stuck() {
        let (server, _questions) = served();
        let begun = Instant::now();
        for (accept, format) in [("*/*", "OpenMetrics"), ("text/plain", "Text")] {
            let request = Request::builder().header(ACCEPT, accept);
            let (head, ()) = request.body(()).unwrap().into_parts();
            let answer = server.answer(Endpoint::Metrics, &head).await;
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_asked_of_the_loop_once_and_answered_as_the_loop_answers() {
        let (server, mut questions) = served();
        let calling = |call| {
            let server = server.clone();
            tokio::spawn(async move { server.call(call).await.status().as_u16() })
        };
        for call in [Call::Quit, Call::Drain, Call::GracefulShutdown] {
            let called = calling(call);
            let pending = status_asked(&mut questions).await;
            assert_eq!(Some(pending.ask), call.ask());
            let refusal = wire::Refusal::new(wire::Code::Ending, "");
            pending.answer.send(Err(refusal)).unwrap();
            assert_eq!(called.await.unwrap(), 409);
            let called = calling(call);
            let pending = status_asked(&mut questions).await;
            pending.answer.send(shown()).unwrap();
            assert_eq!(called.await.unwrap(), 200);
        }
        // It is not called what was not answered done.
        let called = calling(Call::Quit);
        let _kept = status_asked(&mut questions).await;
        assert_eq!(called.await.unwrap(), 503);
        // Whether the proxy is ready is asked as the probe asks it.
        let called = calling(Call::GracefulStartup);
        let Some(Question::Verdict(answer)) = questions.recv().await else {
            panic!("no verdict was asked for");
        };
        let (health, why) = (Health::Terminating, Why::Draining);
        answer.send(Verdict { health, why }).unwrap();
        assert_eq!(called.await.unwrap(), 503);
    }
}
