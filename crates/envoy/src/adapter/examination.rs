//! A look at what a live epoch can do, through its admin endpoint.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_runtime::time_limit::timeout;

use super::Envoy;
use super::epochs::evidence::{Answers, Evidence, Subject};
use super::running::{EnvoyProcess, now};
use crate::admin::{ActiveListener, AdminClient, AdminError, Certificates, Fetched, Place};
use crate::bootstrap::ListenAddress;
use crate::stopped::any_is_stopped;
use crate::text::one_line;

/// How long each answer may take. With 1,000 listeners and 1,000 clusters, Envoy 1.40 needs 7 ms for the
/// listeners, and 60 ms for the slowest of the statistics.
const ANSWER: Duration = Duration::from_secs(1);

/// How much longer the start of an epoch may take so that the look at the older one comes to its
/// end. It begins with the validation of the configuration, which takes 40 ms or more.
const LONGER_START: Duration = Duration::from_millis(100);

/// The same for an epoch that is held until it has what the older one had: what was not seen then holds
/// nothing.
const LONGER_GATED_START: Duration = Duration::from_secs(1);

/// How long the look before a start may take for certificates, so that the rest of it is not lost with them.
/// With 1,000 listeners and 1,000 clusters it takes 85 ms where one was refused.
const CERTIFICATES: Duration = Duration::from_millis(500);

/// What was seen of a live epoch. `None` stands for what could not be seen, and proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// Why its admin endpoint does not answer, if it does not. Nothing else is known then.
    pub silent: Option<String>,
    /// The listeners that are active.
    pub listeners: Option<Vec<ActiveListener>>,
    /// The listeners that were active before the epoch was started and are not active in it, although
    /// its configuration does not take them away. They are compared with those of the newest epoch
    /// before it that has passed its probation.
    pub missing: Option<Vec<MissingListener>>,
    /// What the epoch still waits for and the one before did not wait for, in words: listeners and
    /// clusters that are warming, and resources of which no version was ever received. Envoy goes live
    /// without the latter after `initial_fetch_timeout`. And the older epoch's word on clusters that are absent.
    pub waits_for: Option<Vec<String>>,
    /// Resources that the older epoch had received and this one has not, in words. They are part of
    /// what it waits for.
    pub lost: Option<Vec<String>>,
    /// The fetched clusters that were active before the epoch was started and are not active in it, although
    /// neither its configuration nor the control plane takes them away. The older epoch may tell late that
    /// some were removed; until then that is waited for.
    pub missing_clusters: Option<Vec<MissingCluster>>,
    /// How many clusters there are.
    pub clusters: Option<ClusterCounts>,
    /// The requests of clients, over all epochs.
    pub requests: Option<RequestTotals>,
    /// What could not be seen, and why.
    pub not_seen: Vec<String>,
}

/// A listener that an older epoch had and a newer one lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingListener {
    /// Its name; empty where the configuration gives none.
    pub name: String,
    /// The addresses where nobody listens. A listener inside of Envoy has none.
    pub addresses: Vec<ListenAddress>,
    /// Why Envoy has refused it, if that is why it is missing.
    pub refused: Option<String>,
}

/// For people: `listener web at 0.0.0.0:80`.
impl fmt::Display for MissingListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("listener")?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        for (index, address) in self.addresses.iter().enumerate() {
            let link = if index == 0 { " at" } else { " and" };
            write!(f, "{link} {}", Place(address))?;
        }
        match &self.refused {
            Some(why) => write!(f, ", which Envoy refuses: {why}"),
            None => Ok(()),
        }
    }
}

/// A cluster that an older epoch had and a newer one lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct MissingCluster {
    /// Its name in the statistics: `alt_stat_name` if it has one. A colon has become an underscore.
    pub name: String,
}

/// For people: `cluster api`.
impl fmt::Display for MissingCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}", one_line(&self.name))
    }
}

/// How many clusters an epoch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterCounts {
    /// Clusters that requests can be sent to.
    pub active: u64,
    /// Clusters that wait for something.
    pub warming: u64,
}

/// The requests of clients that were seen since the first look, over all epochs. Both counts only
/// ever grow.
///
/// An epoch counts from zero. A few seconds of what its parent has counted, and what the parent
/// counts while it drains, are part of its counters. So what is seen just after a hand-over is partly
/// the work of the older epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestTotals {
    /// HTTP requests that were answered, and connections through TCP proxies.
    pub all: u64,
    /// HTTP requests that were answered with 5xx, and connections of TCP proxies that found no upstream.
    pub failed: u64,
}

/// The evidence so far, which all looks share.
#[derive(Debug, Default)]
pub(super) struct SharedEvidence(Mutex<Evidence>);

impl SharedEvidence {
    pub(super) fn lock(&self) -> MutexGuard<'_, Evidence> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at a live epoch, which must be the newest one: a newer one has the admin endpoint.
pub(super) async fn examine(envoy: &Envoy, epoch: Epoch) -> Examination {
    let Some(process) = envoy.running.process(epoch) else {
        return Examination::default();
    };
    let admin = process.admin().with_time_limit(ANSWER);
    let answers = match has_endpoint(envoy, &process) {
        true => Some(ask(&admin).await),
        false => None,
    };
    // It may have changed hands meanwhile.
    let answers = answers.filter(|_| has_endpoint(envoy, &process));
    let older = envoy.running.older_in_lineage(epoch);
    let older_is_stopped = any_is_stopped(older.iter().map(|older| older.pid()).collect()).await;
    let subject = subject(&process);
    let answers = answers.as_ref();
    let mut seen = envoy
        .evidence
        .lock()
        .examine(&subject, answers, older_is_stopped);
    let missing = seen.missing.as_deref_mut().unwrap_or_default();
    if !missing.is_empty()
        && let Ok(refused) = admin.refused_listeners().await
    {
        explain(missing, refused);
    }
    seen
}

/// Says of missing listeners why Envoy has refused them.
fn explain(missing: &mut [MissingListener], refused: Vec<(String, String)>) {
    for (name, why) in refused {
        let mut missing = missing.iter_mut();
        if let Some(missing) = missing.find(|missing| missing.name == name) {
            missing.refused = Some(why);
        }
    }
}

/// Does the work that comes before the start of an epoch, and looks meanwhile at the one that serves. Work
/// that fails does not wait for the look. `may_hold` tells whether the epoch may be held by what is seen.
pub(super) async fn looking_before_start<T, E>(
    envoy: &Envoy,
    may_hold: bool,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let serving = envoy.running.table().newest_if_live();
    let process = serving.and_then(|(epoch, is_proven)| {
        let process = envoy.running.process(epoch)?;
        Some((process, is_proven))
    });
    let Some((process, is_proven)) = process else {
        return work.await;
    };
    if !envoy.evidence.lock().must_look(is_proven) {
        return work.await;
    }
    let admin = process.admin().with_time_limit(ANSWER);
    let longer = match may_hold {
        true => LONGER_GATED_START,
        false => LONGER_START,
    };
    let (done, answers) = beside(work, ask_before_start(&admin), longer).await?;
    let subject = subject(&process);
    let mut evidence = envoy.evidence.lock();
    evidence.remember(subject, is_proven, answers.as_ref(), now());
    Ok(done)
}

/// Takes in that an epoch is about to be started beside none.
pub(super) fn starting_alone(envoy: &Envoy) {
    envoy.evidence.lock().forget();
}

/// Waits for the work, and for the look as long as the work takes and so much longer. What the look has
/// not seen by then is `None`.
async fn beside<T, E, L>(
    work: impl Future<Output = Result<T, E>>,
    look: impl Future<Output = L>,
    longer: Duration,
) -> Result<(T, Option<L>), E> {
    let (mut work, mut look) = (pin!(work), pin!(look));
    tokio::select! {
        biased;
        done = &mut work => {
            let done = done?;
            Ok((done, timeout(longer, look).await.ok()))
        }
        seen = &mut look => Ok((work.await?, Some(seen))),
    }
}

pub(super) fn subject(process: &EnvoyProcess) -> Subject {
    Subject {
        epoch: process.epoch,
        pid: process.pid(),
        config: Arc::clone(&process.config),
        is_gated: process.is_gated,
    }
}

/// Returns whether the epoch is live, and no newer one was started that takes its admin endpoint.
fn has_endpoint(envoy: &Envoy, process: &EnvoyProcess) -> bool {
    let newest = envoy.running.table().newest_if_live();
    newest.is_some_and(|(epoch, _)| epoch == process.epoch) && !process.has_ended()
}

/// Asks the admin endpoint. One that is silent is not asked again.
async fn ask(admin: &AdminClient) -> Answers {
    let asked_at = now();
    let answers = Answers::only(admin.active_listeners().await, asked_at);
    if answers.silence().is_some() {
        return answers;
    }
    let (warming, fetched, requests) = tokio::join!(
        admin.warming_listeners(),
        admin.fetched(),
        admin.request_counters()
    );
    Answers {
        warming: Some(warming),
        fetched: Some(fetched),
        requests: Some(requests),
        ..answers
    }
}

/// Asks for what the next epoch must have as well.
async fn ask_before_start(admin: &AdminClient) -> Answers {
    let asked_at = now();
    let answers = Answers::only(admin.active_listeners().await, asked_at);
    if answers.silence().is_some() {
        return answers;
    }
    let (warming, fetched) = tokio::join!(admin.warming_listeners(), admin.fetched());
    let asking = ask_for_certificates(admin, &fetched);
    let certificates = timeout(CERTIFICATES, asking).await.unwrap_or_else(|_| {
        Some(Err(AdminError::TimedOut {
            address: admin.address().clone(),
            path: "/certs",
            limit: CERTIFICATES,
        }))
    });
    Answers {
        warming: Some(warming),
        fetched: Some(fetched),
        certificates,
        ..answers
    }
}

/// Asks an epoch behind its gate for what it has.
pub(super) async fn ask_behind_gate(admin: &AdminClient) -> Answers {
    let asked_at = now();
    let answers = Answers::only(admin.active_listeners().await, asked_at);
    let fetched = admin.fetched().await;
    let certificates = ask_for_certificates(admin, &fetched).await;
    Answers {
        fetched: Some(fetched),
        certificates,
        ..answers
    }
}

/// Asks which certificates are in no use, if any have come.
async fn ask_for_certificates(
    admin: &AdminClient,
    fetched: &Result<Fetched, AdminError>,
) -> Option<Result<Certificates, AdminError>> {
    match fetched {
        Ok(fetched) if fetched.has_secrets() => Some(Box::pin(admin.certificates()).await),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tokio::time::{Instant, sleep};

    async fn after<T>(milliseconds: u64, value: T) -> T {
        sleep(Duration::from_millis(milliseconds)).await;
        value
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_makes_a_start_a_tenth_of_a_second_longer_at_most() {
        for (work, look, seen, takes) in [
            (50, 10, Some("seen"), 50),
            (50, 140, Some("seen"), 140),
            (50, 10_000, None, 150),
        ] {
            let started = Instant::now();
            let work = after(work, Ok::<_, Infallible>("done"));
            let both = beside(work, after(look, "seen"), LONGER_START).await;
            assert_eq!(both, Ok(("done", seen)));
            let took = started.elapsed().as_millis();
            assert!(
                (takes..takes + 10).contains(&took),
                "{took} ms, not {takes}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_fails_does_not_wait_for_the_look() {
        let started = Instant::now();
        let work = after(50, Err::<(), _>("failed"));
        assert_eq!(
            beside(work, after(10_000, ()), LONGER_START).await,
            Err("failed")
        );
        assert!(started.elapsed() < Duration::from_millis(60));
    }

    #[test]
    fn a_refused_listener_is_told_with_the_reason() {
        let mut missing = ["web", ""].map(|name| MissingListener {
            name: name.to_owned(),
            addresses: vec![ListenAddress::Pipe("/a".into()), ListenAddress::Other],
            refused: None,
        });
        explain(
            &mut missing,
            vec![
                ("web".to_owned(), "duplicate address".to_owned()),
                ("other".to_owned(), "x".to_owned()),
            ],
        );
        assert_eq!(
            missing.map(|missing| missing.to_string()),
            [
                "listener web at unix:/a and an address inside of Envoy, which Envoy refuses: \
                 duplicate address",
                "listener at unix:/a and an address inside of Envoy",
            ]
        );
    }
}
