use std::io::ErrorKind;

use super::*;
use crate::admin::{AdminAddress, ClusterStates};
use crate::bootstrap::ListenAddress;

const PATH: &str = "/listeners";

fn admin() -> AdminAddress {
    "127.0.0.1:9901".parse().unwrap()
}

fn timed_out() -> AdminError {
    AdminError::TimedOut {
        address: admin(),
        path: PATH,
        limit: Duration::from_secs(1),
    }
}

fn forbidden() -> AdminError {
    AdminError::Status {
        address: admin(),
        path: PATH,
        status: 403,
        body: String::new(),
    }
}

fn config(more: &str) -> Arc<EnvoyConfig> {
    let text = format!("{{admin: {{address: {{pipe: {{path: /a}}}}}}, {more}}}");
    Arc::new(EnvoyConfig::parse("envoy.yaml".as_ref(), text.into_bytes()).unwrap())
}

/// An epoch that fetches its listeners; its process has the number of the epoch and 100.
fn fetching(epoch: u32) -> Subject {
    Subject {
        epoch: Epoch::new(epoch),
        pid: 100 + epoch,
        config: config("dynamic_resources: {lds_config: {ads: {}}}"),
        is_gated: false,
    }
}

fn listeners(names: &[&str]) -> Vec<ActiveListener> {
    let names = names.iter();
    names
        .map(|name| ActiveListener {
            name: (*name).to_owned(),
            addresses: vec![ListenAddress::Pipe(format!("/{name}").into())],
        })
        .collect()
}

/// The answers of an epoch with these listeners, which waits for these resources.
fn answers(active: &[&str], waits: &[&str]) -> Answers {
    let fetched = Fetched {
        awaited: waits.iter().map(ToString::to_string).collect(),
        ..Fetched::default()
    };
    Answers {
        listeners: Ok(listeners(active)),
        warming: Some(Ok(Vec::new())),
        fetched: Some(Ok(fetched)),
        certificates: None,
        requests: Some(Ok(Vec::new())),
        at: Instant::now(),
    }
}

fn with_gauges<const N: usize>(gauges: [(&str, u64); N], warming: &[&str]) -> Answers {
    let gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
    Answers {
        warming: Some(Ok(warming.iter().map(ToString::to_string).collect())),
        fetched: Some(Ok(Fetched {
            gauges,
            ..Fetched::default()
        })),
        ..answers(&[], &[])
    }
}

fn requests<const N: usize>(counters: [(&str, u64); N]) -> Answers {
    let counters = counters.map(|(name, value)| (name.to_owned(), value));
    Answers {
        requests: Some(Ok(counters.into())),
        ..answers(&[], &[])
    }
}

fn missing_of(examination: &Examination) -> Option<Vec<String>> {
    let missing = examination.missing.as_ref()?.iter();
    Some(missing.map(|missing| missing.name.clone()).collect())
}

/// The answers of an epoch that has received a certificate, and does not use it.
fn refusing(never_used: bool) -> Answers {
    let secret = || vec!["secret x (SDS)".to_owned()];
    let certificates = Certificates {
        refused: secret(),
        never_used: if never_used { secret() } else { Vec::new() },
    };
    Answers {
        fetched: Some(Ok(Fetched {
            received: secret(),
            ..Fetched::default()
        })),
        certificates: Some(Ok(certificates)),
        ..answers(&[], &[])
    }
}

/// What an epoch with these listeners lacks.
fn lacks(evidence: &mut Evidence, epoch: u32, active: &[&str]) -> Option<Vec<String>> {
    let subject = fetching(epoch);
    missing_of(&evidence.examine(&subject, Some(&answers(active, &[])), false))
}

/// Takes in a look at an epoch before the next start.
fn look(evidence: &mut Evidence, epoch: u32, is_proven: bool, active: &[&str], now: Instant) {
    if evidence.must_look(is_proven) {
        let answers = answers(active, &[]);
        evidence.remember(fetching(epoch), is_proven, Some(&answers), now);
    }
}

#[test]
fn an_epoch_is_compared_with_the_one_that_served_before_its_start() {
    let mut evidence = Evidence::default();
    assert_eq!(lacks(&mut evidence, 0, &["a"]), None);
    look(&mut evidence, 0, true, &["a", "b"], Instant::now());
    assert_eq!(lacks(&mut evidence, 1, &["a"]), Some(vec!["b".to_owned()]));
    assert_eq!(lacks(&mut evidence, 1, &["a", "b", "c"]), Some(vec![]));
    // It is not compared with itself.
    assert_eq!(lacks(&mut evidence, 0, &["a"]), None);
}

#[test]
fn one_on_probation_is_no_measure_for_the_next_one() {
    let mut evidence = Evidence::default();
    let now = Instant::now();
    look(&mut evidence, 0, true, &["a", "b"], now);
    // Epoch 1 lacks one, and is followed before that is judged.
    look(&mut evidence, 1, false, &["a"], now);
    assert_eq!(lacks(&mut evidence, 2, &["a"]), Some(vec!["b".to_owned()]));
    // Epoch 2 has passed without it, so it is the measure.
    look(&mut evidence, 2, true, &["a"], now);
    assert_eq!(lacks(&mut evidence, 3, &["a"]), Some(vec![]));
}

#[test]
fn where_none_has_passed_the_newest_one_is_the_measure() {
    let mut evidence = Evidence::default();
    let now = Instant::now();
    look(&mut evidence, 0, false, &["a"], now);
    look(&mut evidence, 1, false, &["a", "b"], now);
    assert_eq!(lacks(&mut evidence, 2, &["a"]), Some(vec!["b".to_owned()]));
}

#[test]
fn where_the_one_that_has_passed_was_not_seen_the_newest_one_is_the_measure() {
    let mut evidence = Evidence::default();
    let now = Instant::now();
    // Epoch 0 waits for its parent, and a start that fails takes its admin endpoint away.
    evidence.remember(fetching(0), true, None, now);
    evidence.remember(fetching(0), true, None, now);
    assert_eq!(lacks(&mut evidence, 1, &["a"]), None);
    look(&mut evidence, 1, false, &["a", "b"], now);
    assert_eq!(lacks(&mut evidence, 2, &["a"]), Some(vec!["b".to_owned()]));
    // The same where it was seen, but long ago.
    let mut evidence = Evidence::default();
    look(&mut evidence, 0, true, &["a", "b"], now);
    let later = now + OLDEST + Duration::from_millis(1);
    evidence.remember(fetching(0), true, None, later);
    look(&mut evidence, 1, false, &["a"], later);
    assert_eq!(lacks(&mut evidence, 2, &[]), Some(vec!["a".to_owned()]));
}

#[test]
fn what_was_not_seen_before_the_start_is_unknown_and_not_what_was_seen_long_ago() {
    let mut evidence = Evidence::default();
    let now = Instant::now();
    look(&mut evidence, 0, true, &["a", "b"], now);
    evidence.remember(fetching(1), true, None, now);
    assert_eq!(lacks(&mut evidence, 2, &["a"]), None);
    let subject = fetching(2);
    let seen = evidence.examine(&subject, Some(&answers(&["a"], &["x"])), false);
    assert_eq!(seen.waits_for, None);
    // The same for one that forbids the question.
    let forbidden = Answers::only(Err(forbidden()), Instant::now());
    evidence.remember(fetching(1), true, Some(&forbidden), now);
    assert_eq!(lacks(&mut evidence, 2, &["a"]), None);
    evidence.forget();
    assert_eq!(lacks(&mut evidence, 2, &["a"]), None);
}

#[test]
fn one_that_has_lost_its_admin_endpoint_to_a_failed_start_is_a_measure_for_a_minute_and_holds_for_ever()
 {
    let mut evidence = Evidence::default();
    let now = Instant::now();
    look(&mut evidence, 0, true, &["a", "b"], now);
    evidence.remember(fetching(0), true, None, now + OLDEST);
    assert_eq!(lacks(&mut evidence, 1, &["a"]), Some(vec!["b".to_owned()]));
    let later = now + OLDEST + Duration::from_millis(1);
    evidence.remember(fetching(0), true, None, later);
    assert_eq!(lacks(&mut evidence, 1, &["a"]), None);
    // The default start deadline is as long, and a retry must be held as the first start was.
    let held = |evidence: &Evidence| evidence.holds(&fetching(1), &answers(&[], &[]));
    assert_eq!(held(&evidence).len(), 1);
    // Another process is another matter.
    evidence.remember(fetching(1), true, None, later);
    assert!(!evidence.can_hold(&fetching(2)));
}

#[test]
fn an_answer_that_has_not_come_opens_no_gate_and_a_refusal_is_an_answer() {
    let refused = || Some(Err(forbidden()));
    let late = || Some(Err(timed_out()));
    let no_descriptor = || AdminError::Connect {
        address: admin(),
        source: rustix::io::Errno::MFILE.into(),
    };
    for (listeners, fetched, lacks) in [
        (Ok(listeners(&["a"])), Some(Ok(Fetched::default())), false),
        (Ok(listeners(&["a"])), late(), true),
        (Ok(listeners(&["a"])), Some(Err(no_descriptor())), true),
        (Ok(listeners(&["a"])), refused(), false),
        (Err(no_descriptor()), None, true),
        (Err(forbidden()), refused(), false),
    ] {
        let answers = Answers {
            fetched,
            ..Answers::only(listeners, Instant::now())
        };
        assert_eq!(answers.unanswered().is_some(), lacks, "{answers:?}");
    }
}

/// A gate never waits for what Envoy makes for a request, nor for what only a request has kept.
/// One that serves with the certificate that came before holds the next one, which has none. One that has never
/// had a certificate that Envoy takes is no measure: nothing would ever take over from it.
#[test]
fn a_refused_certificate_holds_if_the_older_one_had_a_good_one() {
    for (never_used, holds) in [
        (false, vec!["secret x (SDS) (Envoy has refused what came)"]),
        (true, Vec::new()),
    ] {
        let mut evidence = Evidence::default();
        let now = Instant::now();
        evidence.remember(fetching(0), true, Some(&refusing(never_used)), now);
        let held = evidence.holds(&fetching(1), &refusing(true));
        assert_eq!(held, holds, "{never_used}");
        // Without an answer nothing holds, and it is asked again.
        let unanswered = |error| Answers {
            certificates: Some(Err(error)),
            ..refusing(true)
        };
        assert_eq!(
            evidence.holds(&fetching(1), &unanswered(timed_out())),
            [""; 0]
        );
        assert!(unanswered(timed_out()).unanswered().is_some());
        assert!(unanswered(forbidden()).unanswered().is_none());
    }
}

/// What could not be seen of the older epoch holds nothing, and takes nothing else away.
#[test]
fn each_question_about_the_older_epoch_may_fail_by_itself() {
    let now = Instant::now();
    let of_older = |answers: Answers| {
        let mut evidence = Evidence::default();
        evidence.remember(fetching(0), true, Some(&answers), now);
        evidence.holds(&fetching(1), &refusing(true)).len()
    };
    assert_eq!(of_older(refusing(false)), 1);
    // Nobody knows whether the older one could use the certificate.
    for error in [timed_out(), forbidden()] {
        let unknown = Answers {
            certificates: Some(Err(error)),
            ..refusing(false)
        };
        assert_eq!(of_older(unknown), 0);
    }
    let no_listeners = Answers {
        listeners: Err(forbidden()),
        ..refusing(false)
    };
    assert_eq!(of_older(no_listeners), 1);
    let nothing = Answers {
        listeners: Err(forbidden()),
        fetched: Some(Err(forbidden())),
        ..refusing(false)
    };
    assert_eq!(of_older(nothing), 0);
}

#[test]
fn clusters_of_a_forward_proxy_on_demand_and_removed_ones_hold_nothing() {
    let subject = |epoch| Subject {
        config: config("dynamic_resources: {cds_config: {ads: {}}}"),
        ..fetching(epoch)
    };
    let with = |clusters: &[&str], on_demand, some_are_removed| Answers {
        fetched: Some(Ok(Fetched {
            clusters: ClusterStates {
                active: clusters.iter().map(ToString::to_string).collect(),
                some_are_removed,
                ..ClusterStates::default()
            },
            on_demand,
            ..Fetched::default()
        })),
        ..answers(&[], &[])
    };
    for (older, on_demand, some_are_removed, held) in [
        (["DFPCluster_host_443"].as_slice(), false, false, 0),
        (&["a"], true, false, 0),
        (&["a"], false, true, 0),
        (&["a"], false, false, 1),
    ] {
        let mut evidence = Evidence::default();
        let before = with(older, on_demand, some_are_removed);
        evidence.remember(subject(0), true, Some(&before), Instant::now());
        let holds = evidence.holds(&subject(1), &with(&[], false, false));
        assert_eq!(holds.len(), held, "{older:?}, {on_demand}: {holds:?}");
    }
}

#[test]
fn only_an_endpoint_from_which_nothing_comes_is_silent() {
    let mut evidence = Evidence::default();
    let subject = fetching(0);
    let refused = AdminError::Connect {
        address: admin(),
        source: ErrorKind::ConnectionRefused.into(),
    };
    let no_descriptor = AdminError::Connect {
        address: admin(),
        source: rustix::io::Errno::MFILE.into(),
    };
    for (error, is_silent) in [
        (timed_out(), true),
        (refused, true),
        (forbidden(), false),
        (no_descriptor, false),
    ] {
        let words = error.to_string();
        let answers = Answers::only(Err(error), Instant::now());
        let seen = evidence.examine(&subject, Some(&answers), false);
        assert_eq!(seen.silent.is_some(), is_silent, "{words}");
        assert_eq!(seen.not_seen.is_empty(), is_silent, "{words}");
        assert_eq!((seen.missing, seen.waits_for), (None, None));
    }
    // One that does not answer is silent, and neither without listeners nor without resources.
    let silent = Answers::only(Err(timed_out()), Instant::now());
    let waits = evidence.examine(&subject, Some(&silent), true);
    assert_eq!(waits.silent, None);
    assert_eq!(
        waits.not_seen,
        ["the epoch waits for an older one, which is stopped"]
    );
}

#[test]
fn an_answer_that_may_be_of_another_epoch_shows_nothing() {
    let mut evidence = Evidence::default();
    let seen = evidence.examine(&fetching(0), None, false);
    assert_eq!(seen.not_seen.len(), 1);
    assert_eq!(
        Examination {
            not_seen: Vec::new(),
            ..seen
        },
        Examination::default()
    );
}

#[test]
fn what_the_older_one_waited_for_too_is_no_evidence() {
    let mut evidence = Evidence::default();
    let before = answers(&[], &["old"]);
    evidence.remember(fetching(0), true, Some(&before), Instant::now());
    let waits = |evidence: &mut Evidence, epoch, answers| {
        evidence
            .examine(&fetching(epoch), Some(&answers), false)
            .waits_for
    };
    let of_both = waits(&mut evidence, 1, answers(&[], &["new", "old"]));
    assert_eq!(of_both, Some(vec!["new".to_owned()]));
    let of_the_older = waits(&mut evidence, 1, answers(&[], &["old"]));
    assert_eq!(of_the_older, Some(vec![]));
    // The first epoch follows on none.
    let of_the_first = waits(&mut Evidence::default(), 0, answers(&[], &["new"]));
    assert_eq!(of_the_first, Some(vec!["new".to_owned()]));
}

#[test]
fn what_the_older_one_had_received_and_the_newer_one_has_not_is_lost() {
    let fetched = |received: &str, awaited: &str| {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let fetched = Fetched {
            received: words(received),
            awaited: words(awaited),
            ..Fetched::default()
        };
        Answers {
            fetched: Some(Ok(fetched)),
            ..answers(&[], &[])
        }
    };
    let lost = |older: &Answers, newer: &Answers| {
        let mut evidence = Evidence::default();
        evidence.remember(fetching(0), true, Some(older), Instant::now());
        let seen = evidence.examine(&fetching(1), Some(newer), false);
        seen.lost.map(|names| names.join(" "))
    };
    let older = fetched("cert routes", "late");
    let lacks = fetched("routes", "cert late new");
    assert_eq!(lost(&older, &lacks).as_deref(), Some("cert"));
    assert_eq!(lost(&older, &fetched("cert", "")).as_deref(), Some(""));
    let forbidden = || Answers {
        fetched: Some(Err(forbidden())),
        ..answers(&[], &[])
    };
    assert_eq!(lost(&older, &forbidden()), None);
    assert_eq!(lost(&forbidden(), &lacks), None);
}

/// The answers of an epoch with these clusters, whose statistics were flushed so often.
fn with_clusters(active: &str, warming: &str, flushes: u64) -> Answers {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let count = u64::try_from(warming.split_whitespace().count()).unwrap();
    let gauges = [
        ("cluster_manager.warming_clusters", count),
        ("server.uptime", flushes),
    ];
    let gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
    let clusters = ClusterStates {
        active: words(active),
        warming: words(warming),
        ..ClusterStates::default()
    };
    Answers {
        fetched: Some(Ok(Fetched {
            gauges,
            clusters,
            ..Fetched::default()
        })),
        ..answers(&[], &[])
    }
}

/// An epoch with this configuration.
fn with_config(epoch: u32, more: &str) -> Subject {
    Subject {
        config: config(more),
        ..fetching(epoch)
    }
}

/// An epoch that fetches its clusters but one.
fn fetching_clusters(epoch: u32) -> Subject {
    let text =
        "static_resources: {clusters: [{name: own}]}, dynamic_resources: {cds_config: {ads: {}}}";
    with_config(epoch, text)
}

#[test]
fn fetched_clusters_that_the_older_one_had_and_the_newer_one_has_not_are_missing() {
    let waits = "the statistics of the epoch before, which tell of removed clusters";
    let missing = |newer: &Subject, looks: &[Answers]| {
        let mut evidence = Evidence::default();
        let older = with_clusters("own a b", "late", 1);
        evidence.remember(fetching_clusters(0), true, Some(&older), Instant::now());
        let last = looks.iter().map(|look| {
            let seen = evidence.examine(newer, Some(look), false);
            let missing = seen.missing_clusters?;
            let missing = missing.iter().map(ToString::to_string);
            let missing = missing.collect::<Vec<_>>().join(", ");
            let awaited = seen.waits_for?.iter().any(|name| name == waits);
            Some(if awaited {
                format!("{missing}?")
            } else {
                missing
            })
        });
        last.last().flatten()
    };
    let newer = fetching_clusters(1);
    let absent = |flushes| with_clusters("own a", "", flushes);
    let awaited = missing(&newer, &[absent(1)]);
    assert_eq!(awaited.as_deref(), Some("cluster b?"));
    let told = missing(&newer, &[absent(1), absent(2)]);
    assert_eq!(told.as_deref(), Some("cluster b"));
    // What is warming needs nobody's word.
    let warms = missing(&newer, &[with_clusters("own a", "b late", 1)]);
    assert_eq!(warms.as_deref(), Some("cluster b"));
    let removed = Answers {
        requests: Some(Ok(vec![("cluster_manager.cluster_removed".to_owned(), 1)])),
        ..absent(2)
    };
    assert_eq!(missing(&newer, &[absent(1), removed]).as_deref(), Some(""));
    // How many were removed is not known.
    let forbidden = Answers {
        requests: Some(Err(forbidden())),
        ..absent(2)
    };
    assert_eq!(missing(&newer, &[absent(1), forbidden]), None);
    // The configuration takes them away, or makes them its own.
    let all_removed = with_config(1, "static_resources: {clusters: [{name: own}]}");
    let looks = [with_clusters("own", "", 1), with_clusters("own", "", 2)];
    assert_eq!(missing(&all_removed, &looks).as_deref(), Some(""));
    let own = with_config(
        1,
        "static_resources: {clusters: [{name: a}]}, dynamic_resources: {cds_config: {ads: {}}}",
    );
    let looks = [with_clusters("a b", "", 1), with_clusters("a b", "", 2)];
    assert_eq!(missing(&own, &looks).as_deref(), Some(""));
}

#[test]
fn a_missing_listener_does_not_wait_for_the_word_on_a_cluster() {
    let mut evidence = Evidence::default();
    let with = |names: &[&str], clusters: &str, flushes| Answers {
        listeners: Ok(listeners(names)),
        ..with_clusters(clusters, "", flushes)
    };
    let fetches = |epoch| {
        let text = "dynamic_resources: {lds_config: {ads: {}}, cds_config: {ads: {}}}";
        with_config(epoch, text)
    };
    let before = with(&["web"], "a b", 1);
    evidence.remember(fetches(0), true, Some(&before), Instant::now());
    let mut look = |names: &[&str], flushes| {
        let answers = with(names, "a", flushes);
        let seen = evidence.examine(&fetches(1), Some(&answers), false);
        let count = |all: Option<usize>| all.map_or("?".to_owned(), |count| count.to_string());
        [
            count(seen.missing.map(|all| all.len())),
            count(seen.missing_clusters.map(|all| all.len())),
            count(seen.waits_for.map(|all| all.len())),
        ]
        .join(" ")
    };
    // The listeners, the clusters, and what is waited for.
    assert_eq!(look(&[], 1), "1 ? 0");
    assert_eq!(look(&["web"], 1), "0 1 1");
    assert_eq!(look(&[], 2), "1 1 0");
}

#[test]
fn clusters_that_cannot_be_told_are_not_missing() {
    let looks = |older: &Subject, newer: &Subject, on_demand: bool| {
        let fetching = |mut answers: Answers| {
            if let Some(Ok(fetched)) = &mut answers.fetched {
                fetched.on_demand = on_demand;
            }
            answers
        };
        let mut evidence = Evidence::default();
        let before = fetching(with_clusters("a b", "", 1));
        evidence.remember(older.clone(), true, Some(&before), Instant::now());
        let look = |flushes| fetching(with_clusters("a", "", flushes));
        let _first = evidence.examine(newer, Some(&look(1)), false);
        let seen = evidence.examine(newer, Some(&look(2)), false);
        (
            seen.missing_clusters.map(|missing| missing.len()),
            seen.not_seen,
        )
    };
    let all = |epoch| with_config(epoch, "dynamic_resources: {cds_config: {ads: {}}}");
    assert_eq!(looks(&all(0), &all(1), false), (Some(1), vec![]));
    let on_demand = "missing clusters: some are fetched on demand".to_owned();
    assert_eq!(looks(&all(0), &all(1), true), (None, vec![on_demand]));
    let partly = |epoch| {
        let list = "{patterns: [{suffix: warming_state}]}";
        let text = format!(
            "dynamic_resources: {{cds_config: {{ads: {{}}}}}}, \
             stats_config: {{stats_matcher: {{exclusion_list: {list}}}}}"
        );
        with_config(epoch, &text)
    };
    let left_out = "missing clusters: stats_matcher leaves out their states".to_owned();
    assert_eq!(looks(&all(0), &partly(1), false), (None, vec![left_out]));
    assert_eq!(looks(&partly(0), &all(1), false), (None, vec![]));
}

#[test]
fn warming_is_told_by_name_and_else_by_number() {
    let waits = |answers| {
        let seen = Evidence::default().examine(&fetching(0), Some(&answers), false);
        seen.waits_for.map(|names| names.join(", "))
    };
    let listeners = "listener_manager.total_listeners_warming";
    let clusters = "cluster_manager.warming_clusters";
    assert_eq!(waits(with_gauges([], &[])).unwrap(), "");
    let named = with_gauges([(listeners, 1)], &["listener a (x)"]);
    assert_eq!(waits(named).unwrap(), "listener a (x)");
    let partly = with_gauges([(listeners, 2), (clusters, 1)], &["listener a"]);
    assert_eq!(
        waits(partly).unwrap(),
        "listener a, a warming listener, a warming cluster"
    );
    let more = with_gauges([(listeners, 2), (clusters, 3)], &[]);
    assert_eq!(
        waits(more).unwrap(),
        "2 warming listeners, 3 warming clusters"
    );
    let named = with_clusters("", "a b", 1);
    assert_eq!(waits(named).unwrap(), "cluster a, cluster b");
    // What was not asked whole proves nothing by its absence, and still something by what it has.
    let forbidden_dump = || Some(Err(forbidden()));
    let empty = Answers {
        warming: forbidden_dump(),
        ..answers(&[], &[])
    };
    assert_eq!(waits(empty), None);
    let some = Answers {
        warming: forbidden_dump(),
        ..answers(&[], &["x"])
    };
    assert_eq!(waits(some).unwrap(), "x");
}

#[test]
fn clusters_are_counted_where_the_gauge_is_kept() {
    let counted = |answers| {
        Evidence::default()
            .examine(&fetching(0), Some(&answers), false)
            .clusters
    };
    assert_eq!(counted(with_gauges([], &[])), None);
    let active = ("cluster_manager.active_clusters", 3);
    let (active, warming) = (
        with_gauges([active], &[]),
        with_gauges([active, ("cluster_manager.warming_clusters", 2)], &[]),
    );
    let of = |answers| counted(answers).map(|counts| (counts.active, counts.warming));
    assert_eq!((of(active), of(warming)), (Some((3, 0)), Some((3, 2))));
}

/// The totals after each of these answers, of epochs with these numbers.
fn totals<const N: usize>(looks: [(u32, Answers); N]) -> [Option<(u64, u64)>; N] {
    let mut evidence = Evidence::default();
    looks.map(|(epoch, answers)| {
        let seen = evidence.examine(&fetching(epoch), Some(&answers), false);
        seen.requests.map(|totals| (totals.all, totals.failed))
    })
}

#[test]
fn requests_of_all_epochs_are_added_up() {
    let done = |count| ("http.in.downstream_rq_completed", count);
    let failed = |count| ("http.in.downstream_rq_5xx", count);
    let seen = totals([
        (0, requests([])),
        (0, requests([done(10), failed(1)])),
        (
            0,
            requests([
                done(30),
                failed(1),
                ("http.admin.downstream_rq_completed", 900),
            ]),
        ),
        // The next epoch counts from zero.
        (1, requests([done(5), failed(2)])),
        (1, requests([done(6), failed(2)])),
        // It has counted more before the first look than the one before.
        (2, requests([done(50)])),
    ]);
    let expected = [(0, 0), (10, 1), (30, 1), (35, 3), (36, 3), (86, 3)];
    assert_eq!(seen, expected.map(Some));
}

#[test]
fn counters_that_are_reset_or_removed_take_nothing_back() {
    let seen = totals([
        (
            0,
            requests([
                ("http.a.downstream_rq_completed", 10),
                ("tcp.b.downstream_cx_total", 5),
            ]),
        ),
        (0, requests([("http.a.downstream_rq_completed", 12)])),
        (
            0,
            requests([
                ("http.a.downstream_rq_completed", 3),
                ("tcp.b.downstream_cx_no_route", 1),
            ]),
        ),
        (
            0,
            requests([
                ("http.a.downstream_rq_completed", u64::MAX),
                ("cluster.c.upstream_cx_connect_attempts_exceeded", 2),
            ]),
        ),
    ]);
    let expected = [(15, 0), (17, 0), (20, 1), (u64::MAX, 3)];
    assert_eq!(seen, expected.map(Some));
}

#[test]
fn requests_are_unknown_where_the_admin_endpoint_or_a_matcher_spoils_their_counters() {
    let mixed = requests([
        ("http.in.downstream_rq_completed", 10),
        ("http.admin.rq_total", 1),
    ]);
    assert_eq!(totals([(0, mixed)]), [None]);
    let counters = [("http.in.downstream_rq_completed", 10)];
    let mut evidence = Evidence::default();
    let matcher =
        "stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: http.in}]}}}";
    let subject = Subject {
        config: config(matcher),
        ..fetching(0)
    };
    let seen = evidence.examine(&subject, Some(&requests(counters)), false);
    assert_eq!(seen.requests, None);
    assert_eq!(
        seen.not_seen,
        [
            "missing resources: stats_matcher leaves out their versions",
            "missing clusters: stats_matcher leaves out their states",
            "requests: stats_matcher leaves out their counters",
        ]
    );
    let refused = Answers {
        requests: Some(Err(forbidden())),
        ..answers(&[], &[])
    };
    assert_eq!(totals([(0, refused)]), [None]);
}
