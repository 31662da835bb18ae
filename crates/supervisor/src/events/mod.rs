//! What has happened: the last events in memory, and those of earlier runs in the state directory.
//!
//! ```text
//!  agent ──▶ Watched ──┐               ┌──▶ the status server: word and sentence
//!                      ├──▶ the ring ──┼──▶ the control socket: with details
//!  operator ───────────┘               └──▶ `kept`: two files, for later runs
//! ```
//!
//! An event is written once, into a ring that holds the last ones. Each reader has its own place in the ring
//! and takes what follows when its connection can take more. So nobody waits for a reader, and a slow one
//! costs no memory. One that the ring has overtaken is told how many events it has missed, and is cut off. With
//! the id of the last event that it has seen it can come back.

mod kept;
mod watched;
mod words;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::control::wire;
use crate::operator::{Event, Health, Verdict};
pub(crate) use kept::{EVENTS, EVENTS_LIMITS, EventLog};
pub use kept::{Entry, KEPT_EVENTS, KeptEvents, OLD_EVENTS};
pub(crate) use watched::Watched;
use words::{Told, Word};

/// How many events are held.
const HELD: usize = 1024;
/// How many events are written at once.
const AT_ONCE: usize = 64;
/// How often a reader hears that the connection stands, where nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many bytes of a detail are held.
const DETAIL: usize = 4 << 10;
/// How many events one answer of the control socket has.
const IN_ANSWER: usize = 256;
/// After how many milliseconds a browser connects again.
const RETRY: &str = "retry: 2000\n\n";

/// What has happened. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells the events of this run from those of another one.
    run: String,
    ring: Mutex<Ring>,
    /// The number of the newest event; nothing once no more come.
    newest: watch::Sender<Option<u64>>,
}

#[derive(Debug)]
struct Ring {
    capacity: usize,
    /// The newest events, the oldest first.
    held: VecDeque<Held>,
    /// The number of the newest event. The first is number 1.
    newest: u64,
    verdict: Option<Verdict>,
    /// The last verdict as it is written.
    health: Option<Arc<str>>,
    /// Where events are kept for later runs.
    log: Option<EventLog>,
}

/// An event in the ring.
#[derive(Clone, Debug)]
struct Held {
    /// As everyone reads it, without its id.
    public: Arc<str>,
    /// As the user of the instance reads it.
    own: Arc<wire::Event>,
}

/// The data of an event, as everyone reads it.
#[derive(Serialize)]
struct Data<'a> {
    at: &'a str,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    text: &'a str,
}

impl Events {
    /// Begins without an event. Each one is kept in this log as well.
    pub(crate) fn new(log: Option<EventLog>) -> Self {
        Self::holding(HELD, log)
    }

    fn holding(capacity: usize, log: Option<EventLog>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let run = since.map_or(0, |since| since.as_millis());
        Self(Arc::new(Shared {
            run: format!("{run:x}"),
            ring: Mutex::new(Ring {
                capacity,
                held: VecDeque::new(),
                newest: 0,
                verdict: None,
                health: None,
                log,
            }),
            newest: watch::Sender::new(Some(0)),
        }))
    }

    /// Writes what the operator says to people.
    pub(crate) fn operator(&self, event: &Event) {
        self.write(words::of_operator(event));
    }

    /// Writes the verdict, if it is another one than the last.
    pub(crate) fn verdict(&self, verdict: Verdict) {
        let mut ring = self.ring();
        let before = ring.verdict.replace(verdict);
        let differs = before.is_none_or(|before| {
            before != verdict
                && (before.health, before.why.to_string())
                    != (verdict.health, verdict.why.to_string())
        });
        if differs {
            let told = Told {
                event: Word::Health,
                epoch: None,
                text: verdict.why.to_string(),
                detail: None,
            };
            let held = self.hold(&ring, told, Some(verdict.health));
            // A client that comes between the two would read the old word first and never the new one.
            ring.health = Some(Arc::clone(&held.public));
            self.push(ring, held);
        }
    }

    /// Lets every reader come to its end.
    pub(crate) fn close(&self) {
        self.0.newest.send_replace(None);
    }

    fn write(&self, told: Told) {
        let ring = self.ring();
        let held = self.hold(&ring, told, None);
        self.push(ring, held);
    }

    /// Makes the next event of this ring, at this moment.
    fn hold(&self, ring: &Ring, told: Told, health: Option<Health>) -> Held {
        let Told {
            event,
            epoch,
            text,
            detail,
        } = told;
        let epoch = epoch.map(handover_core::Epoch::number);
        let (at, event) = (now(), event.text());
        let data = Data {
            at: &at,
            event,
            epoch,
            health,
            text: &text,
        };
        // It has no maps with strange keys, so it can always be written. JSON has no line breaks of its own.
        let json = serde_json::to_string(&data).unwrap_or_default();
        let own = wire::Event {
            id: self.id(ring.newest.saturating_add(1)),
            at,
            event: event.to_owned(),
            epoch,
            health: health.map(|health| health.to_string()),
            text,
            detail: detail.map(cut),
        };
        Held {
            public: format!("event: {event}\ndata: {json}\n\n").into(),
            own: Arc::new(own),
        }
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.0.run)
    }

    /// Holds an event, and wakes the readers once it is there.
    fn push(&self, mut ring: MutexGuard<'_, Ring>, held: Held) {
        ring.newest = ring.newest.saturating_add(1);
        if let Some(log) = &mut ring.log {
            log.write(&held.own);
        }
        ring.held.push_back(held);
        while ring.held.len() > ring.capacity {
            ring.held.pop_front();
        }
        let newest = ring.newest;
        drop(ring);
        self.0.newest.send_if_modified(|before| match before {
            // Another event may have come in between, and was told first.
            Some(before) if *before < newest => {
                *before = newest;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Returns what a client reads. `last` is the id of the last event that it has seen. A client that has
    /// seen none gets the state of this moment first, and one with an id of another run all that is held.
    pub(crate) fn read(&self, last: Option<&str>) -> EventBody {
        let ring = self.ring();
        let mut begin = RETRY.to_owned();
        let seen = match last {
            None => {
                begin.extend(ring.health.as_deref());
                ring.newest
            }
            Some(id) => match self.number(id) {
                Some(number) if number <= ring.newest => {
                    let missed = ring.oldest().saturating_sub(number.saturating_add(1));
                    if missed > 0 {
                        begin.push_str(&self.missed(missed, ring.oldest()));
                    }
                    number.max(ring.oldest().saturating_sub(1))
                }
                Some(_) | None => ring.oldest().saturating_sub(1),
            },
        };
        drop(ring);
        let reader = Reader {
            newest: self.0.newest.subscribe(),
            events: self.clone(),
            seen,
            is_cut: false,
        };
        EventBody {
            begin: Some(Bytes::from(begin)),
            next: Some(Box::pin(reader.next())),
        }
    }

    /// Returns what has happened after the event with this id, or all that is held. If that is nothing, it
    /// waits for so long at most.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it takes nothing away.
    pub(crate) async fn after(&self, id: Option<&str>, wait: Duration) -> wire::Events {
        let end = Instant::now().checked_add(wait);
        let mut newest = self.0.newest.subscribe();
        loop {
            let ended = newest.borrow_and_update().is_none();
            let answer = self.now_after(id, ended);
            if ended || wait.is_zero() || !answer.events.is_empty() {
                return answer;
            }
            let change = newest.changed();
            let waited = match end {
                Some(end) => timeout_at(end, change).await,
                None => Ok(change.await),
            };
            // The sender lives as long as this.
            if waited.is_err() {
                return self.now_after(id, false);
            }
        }
    }

    fn now_after(&self, id: Option<&str>, ended: bool) -> wire::Events {
        let ring = self.ring();
        let oldest = ring.oldest();
        let known = id.and_then(|id| self.number(id));
        let known = known.filter(|number| *number <= ring.newest);
        let (seen, missed) = match (id, known) {
            (_, Some(number)) => (
                number,
                Some(oldest.saturating_sub(number.saturating_add(1))),
            ),
            (None, None) => (0, Some(oldest.saturating_sub(1))),
            // Of another run, of which nothing is known here.
            (Some(_), None) => (0, None),
        };
        let mut following = ring
            .after(seen)
            .map(|(_, held)| wire::Event::clone(&held.own));
        let events: Vec<_> = following.by_ref().take(IN_ANSWER).collect();
        let has_more = following.next().is_some();
        wire::Events {
            api: wire::API,
            events,
            missed,
            ended: ended && !has_more,
        }
    }

    /// The number of an event of this run.
    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.trim().split_once('-')?;
        (run == self.0.run).then(|| number.parse().ok())?
    }

    /// A marker with the id of the newest event that was missed.
    fn missed(&self, missed: u64, oldest: u64) -> String {
        let last = oldest.saturating_sub(1);
        let run = &self.0.run;
        let event = Word::Missed.text();
        format!("id: {run}-{last}\nevent: {event}\ndata: {{\"missed\":{missed}}}\n\n")
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here is left half-way by a panic.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock, as RFC 3339.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Cuts a detail that is too long for the ring.
fn cut(mut detail: String) -> String {
    if detail.len() > DETAIL {
        let end = (0..=DETAIL).rev().find(|end| detail.is_char_boundary(*end));
        detail.truncate(end.unwrap_or_default());
        detail.push('…');
    }
    detail
}

impl Ring {
    /// The number of the oldest event that is held, or of the next one where none is.
    fn oldest(&self) -> u64 {
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        self.newest.saturating_sub(held).saturating_add(1)
    }

    /// Whatever follows the event with this number.
    fn after(&self, number: u64) -> impl Iterator<Item = (u64, &Held)> {
        let oldest = self.oldest();
        let skipped = number.saturating_add(1).saturating_sub(oldest);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let numbers = oldest.saturating_add(u64::try_from(skipped).unwrap_or(u64::MAX))..;
        numbers.zip(self.held.iter().skip(skipped))
    }
}

/// A client's place among the events.
#[derive(Debug)]
struct Reader {
    newest: watch::Receiver<Option<u64>>,
    events: Events,
    /// The number of the last event that it was given.
    seen: u64,
    /// Whether it is told nothing more.
    is_cut: bool,
}

impl Reader {
    /// What it is given next; nothing at the end.
    async fn next(mut self) -> (Self, Option<Bytes>) {
        loop {
            if self.is_cut {
                return (self, None);
            }
            let state = *self.newest.borrow_and_update();
            if let Some(text) = self.take() {
                return (self, Some(text));
            }
            if state.is_none() {
                return (self, None);
            }
            match timeout(KEEP_ALIVE, self.newest.changed()).await {
                Ok(Ok(())) => {}
                // The server is gone.
                Ok(Err(_)) => return (self, None),
                Err(_) => return (self, Some(Bytes::from_static(b": alive\n\n"))),
            }
        }
    }

    /// What is there already.
    fn take(&mut self) -> Option<Bytes> {
        let ring = self.events.ring();
        let oldest = ring.oldest();
        let missed = oldest.saturating_sub(self.seen.saturating_add(1));
        if missed > 0 {
            self.is_cut = true;
            return Some(Bytes::from(self.events.missed(missed, oldest)));
        }
        let run = &self.events.0.run;
        let mut text = String::new();
        let mut last = self.seen;
        for (number, event) in ring.after(self.seen).take(AT_ONCE) {
            // Writing to a string does not fail.
            let _always = write!(text, "id: {run}-{number}\n{}", event.public);
            last = number;
        }
        drop(ring);
        self.seen = last;
        (!text.is_empty()).then(|| Bytes::from(text))
    }
}

type Next = Pin<Box<dyn Future<Output = (Reader, Option<Bytes>)> + Send>>;

/// The events for one client, as the body of a response.
pub(crate) struct EventBody {
    begin: Option<Bytes>,
    next: Option<Next>,
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(begin) = self.begin.take() {
            return Poll::Ready(Some(Ok(Frame::data(begin))));
        }
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (reader, text) = std::task::ready!(next.as_mut().poll(context));
        match text {
            Some(text) => {
                self.next = Some(Box::pin(reader.next()));
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            None => {
                self.next = None;
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::operator::Why;
    use handover_core::Epoch;

    fn happen(events: &Events, number: u64) {
        events.write(Told {
            event: Word::Other,
            epoch: None,
            text: format!("number {number}"),
            detail: number.is_multiple_of(2).then(|| "quoted".to_owned()),
        });
    }

    async fn chunk(body: &mut EventBody) -> Option<String> {
        let frame = body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// The ids of the events in a text, and the numbers in their own words.
    fn ids(events: &Events, text: &str) -> Vec<u64> {
        let prefix = format!("id: {}-", events.0.run);
        let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        lines.map(|id| id.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_each_event_once_in_order_and_a_sign_of_life_where_nothing_happens() {
        let events = Events::holding(8, None);
        happen(&events, 1);
        let mut body = events.read(None);
        assert_eq!(chunk(&mut body).await.as_deref(), Some(RETRY));
        happen(&events, 2);
        happen(&events, 3);
        let text = chunk(&mut body).await.unwrap();
        assert_eq!(ids(&events, &text), [2, 3]);
        assert!(text.contains("event: other\ndata: {\"at\":\""), "{text}");
        assert!(text.contains("\"text\":\"number 3\"}\n\n"), "{text}");
        assert_eq!(chunk(&mut body).await.as_deref(), Some(": alive\n\n"));
        happen(&events, 4);
        events.close();
        assert_eq!(ids(&events, &chunk(&mut body).await.unwrap()), [4]);
        assert_eq!(chunk(&mut body).await, None);
        assert_eq!(chunk(&mut body).await, None);
    }

    #[tokio::test]
    async fn a_slow_reader_hears_how_many_it_has_missed_and_is_cut_off() {
        let events = Events::holding(4, None);
        let mut body = events.read(None);
        chunk(&mut body).await.unwrap();
        for number in 1..=10 {
            happen(&events, number);
        }
        let marker = chunk(&mut body).await.unwrap();
        assert!(
            marker.contains("event: missed\ndata: {\"missed\":6}\n\n"),
            "{marker}"
        );
        assert_eq!(chunk(&mut body).await, None);
        // With the id of the marker it goes on where the ring begins.
        let last = ids(&events, &marker);
        assert_eq!(last, [6]);
        let again = format!("{}-6", events.0.run);
        let mut body = events.read(Some(&again));
        assert_eq!(chunk(&mut body).await.as_deref(), Some(RETRY));
        assert_eq!(
            ids(&events, &chunk(&mut body).await.unwrap()),
            [7, 8, 9, 10]
        );
    }

    #[tokio::test]
    async fn one_that_comes_back_goes_on_after_its_last_event() {
        let events = Events::holding(4, None);
        for number in 1..=6 {
            happen(&events, number);
        }
        let run = events.0.run.clone();
        let read = async |id: &str| {
            let mut body = events.read(Some(id));
            let begin = chunk(&mut body).await.unwrap();
            let begin = begin.strip_prefix(RETRY).unwrap().to_owned();
            (begin, ids(&events, &chunk(&mut body).await.unwrap()))
        };
        assert_eq!(read(&format!("{run}-4")).await, (String::new(), vec![5, 6]));
        let (begin, got) = read(&format!("{run}-1")).await;
        assert!(begin.contains("{\"missed\":1}"), "{begin}");
        assert_eq!(got, [3, 4, 5, 6]);
        // Of another run, or made up.
        for id in [
            "1-2",
            "",
            "-",
            "nonsense",
            &format!("{run}-99"),
            &format!("{run}-x"),
        ] {
            let (begin, got) = read(id).await;
            assert_eq!(begin, "", "{id}");
            assert_eq!(got.len(), 4, "{id}");
        }
    }

    #[tokio::test]
    async fn a_verdict_is_an_event_when_it_changes_and_the_first_thing_that_a_client_reads() {
        let events = Events::holding(8, None);
        let verdict = |health, why| events.verdict(Verdict { health, why });
        let serves = Why::Serves(Epoch::ZERO);
        verdict(Health::Ready, serves);
        verdict(Health::Ready, serves);
        let begin = chunk(&mut events.read(None)).await.unwrap();
        assert!(begin.contains("\"health\":\"READY\""), "{begin}");
        assert_eq!(ids(&events, &begin), [0; 0]);
        let mut all = events.read(Some("0"));
        chunk(&mut all).await.unwrap();
        verdict(Health::Terminating, Why::Draining);
        let text = chunk(&mut all).await.unwrap();
        assert_eq!(text.matches("event: health").count(), 2, "{text}");
    }

    /// A verdict was compared under one lock, and written under two more. A client between them was told the old
    /// word first, and began after the event with the new one. Two verdicts at once could also leave the older one
    /// as the last word.
    #[test]
    fn whoever_comes_while_a_verdict_changes_is_told_the_newest_one() {
        const EACH: u32 = 2_000;
        let events = Events::holding(8, None);
        let verdict = |number| Verdict {
            health: Health::Ready,
            why: Why::Serves(Epoch::new(number)),
        };
        events.verdict(verdict(0));
        std::thread::scope(|scope| {
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            for first in [0, EACH] {
                let (events, done) = (events.clone(), done.clone());
                scope.spawn(move || {
                    for number in first..first + EACH {
                        events.verdict(verdict(number));
                    }
                    drop(done);
                });
            }
            drop(done);
            while is_done.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                let ring = events.ring();
                let is_last = ring.held.back().map(|held| &held.public) == ring.health.as_ref();
                let is_told = ring.verdict.is_some_and(|verdict| {
                    let health = ring.health.as_deref().unwrap_or_default();
                    health.contains(&verdict.why.to_string())
                });
                assert!(is_last && is_told, "{ring:?}");
            }
        });
        let newest = events.ring().newest;
        assert_eq!(*events.0.newest.borrow(), Some(newest));
    }

    #[tokio::test(start_paused = true)]
    async fn the_user_of_the_instance_asks_for_what_came_after_an_event() {
        let events = Events::holding(4, None);
        let asked = async |id: Option<&str>, wait| {
            let answer = events.after(id, Duration::from_secs(wait)).await;
            let texts = answer.events.iter().map(|event| {
                assert_eq!(
                    event.detail.is_some(),
                    event.text.ends_with(['2', '4', '6'])
                );
                event
                    .text
                    .strip_prefix("number ")
                    .unwrap_or_default()
                    .to_owned()
            });
            (
                texts.collect::<Vec<_>>().join(" "),
                answer.missed,
                answer.ended,
            )
        };
        let text = |text: &str| text.to_owned();
        // Nothing has happened, and nothing does.
        assert_eq!(asked(None, 0).await, (text(""), Some(0), false));
        assert_eq!(asked(None, 60).await, (text(""), Some(0), false));
        for number in 1..=6 {
            happen(&events, number);
        }
        assert_eq!(asked(None, 60).await, (text("3 4 5 6"), Some(2), false));
        let id = |number: u64| events.id(number);
        assert_eq!(
            asked(Some(&id(1)), 0).await,
            (text("3 4 5 6"), Some(1), false)
        );
        assert_eq!(asked(Some(&id(4)), 0).await, (text("5 6"), Some(0), false));
        assert_eq!(asked(Some("1-2"), 0).await, (text("3 4 5 6"), None, false));
        assert_eq!(
            asked(Some("nonsense"), 0).await,
            (text("3 4 5 6"), None, false)
        );
        assert_eq!(
            asked(Some(&id(99)), 0).await,
            (text("3 4 5 6"), None, false)
        );
        let later = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            happen(&events, 7);
        };
        let newest = id(6);
        let (answer, ()) = tokio::join!(asked(Some(&newest), 60), later);
        assert_eq!(answer, (text("7"), Some(0), false));
        let newest = id(7);
        let end = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            events.close();
        };
        let (answer, ()) = tokio::join!(asked(Some(&newest), 60), end);
        assert_eq!(answer, (text(""), Some(0), true));
    }

    #[tokio::test]
    async fn many_events_take_several_answers_and_a_long_detail_is_cut() {
        let events = Events::holding(HELD, None);
        for number in 0..u64::try_from(IN_ANSWER).unwrap() + 1 {
            happen(&events, number);
        }
        events.close();
        let first = events.after(None, Duration::ZERO).await;
        assert_eq!((first.events.len(), first.ended), (IN_ANSWER, false));
        let last = first.events.last().map(|event| event.id.clone());
        let rest = events.after(last.as_deref(), Duration::ZERO).await;
        assert_eq!((rest.events.len(), rest.ended), (1, true));
        let long = cut("ä".repeat(DETAIL));
        assert_eq!(long.len(), DETAIL + '…'.len_utf8());
        assert_eq!(cut("ä".to_owned()), "ä");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_happened_already_is_told_without_a_wait() {
        let events = Events::holding(8, None);
        events.operator(&Event::FilesAreThere);
        let begun = Instant::now();
        let answer = events.after(None, Duration::from_secs(60)).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let [event] = &answer.events[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(event.event, "files_are_there");
        let at = humantime::parse_rfc3339(&event.at).unwrap();
        assert!(at.elapsed().unwrap() < Duration::from_secs(3600));
    }

    /// The moment of a retry is one of the agent's clock, and is not told.
    #[test]
    fn a_verdict_that_reads_as_before_is_no_event() {
        use crate::operator::Lacking;
        use handover_core::{Held, Timestamp};

        let events = Events::holding(8, None);
        let verdict = |seconds| {
            let at = Timestamp::ZERO.after(Duration::from_secs(seconds));
            events.verdict(Verdict {
                health: Health::NotReady,
                why: Why::NothingServes(Lacking::Held(Held::Retry(at))),
            });
            events.ring().newest
        };
        assert_eq!([verdict(1), verdict(1), verdict(2)], [1, 1, 1]);
    }

    #[test]
    fn a_detail_is_cut_only_if_it_is_too_long() {
        let whole = "x".repeat(DETAIL);
        assert_eq!(cut(whole.clone()), whole);
        assert_eq!(cut(format!("{whole}x")), format!("{whole}…"));
    }
}
