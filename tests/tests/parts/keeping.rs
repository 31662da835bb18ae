//! What an agent with a real Envoy keeps in the state directory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::{Event, Outcome, Policy};
use handover_envoy::Digest;
use handover_envoy::args::ArgsOptions;
use handover_envoy::last_good::{LastGood, LastKnownGood};
use handover_envoy::report::CrashReports;
use handover_envoy::{Envoy, EnvoyConfig, SetupError};
use handover_process::Signal;
use handover_test_support::require_envoy;
use handover_tokio::Agent;

use crate::support::{Host, LIMIT};

/// Waits for what another thread writes.
async fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_went_live_is_kept_and_what_crashed_is_reported() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let state = host.run.path().join("state");
    let last_good = LastKnownGood::open(&state).unwrap();
    let reports = CrashReports::open(&state).unwrap();
    let proxy = Arc::new(envoy(&host, &last_good, &reports).unwrap());
    let agent = Agent::new(Arc::clone(&proxy), Policy::resilient()).unwrap();
    let handle = agent.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(agent.run(async move {
        stopped.await.ok();
    }));
    let config = |text: &str| {
        let source = Path::new("/etc/envoy.yaml");
        Arc::new(EnvoyConfig::parse(source, text.as_bytes().to_vec()).unwrap())
    };
    let kept = |digest: Digest| -> Option<LastGood> {
        last_good
            .load()
            .unwrap()
            .filter(|kept| kept.digest == digest)
    };

    let first = host.config(host.web);
    handle.apply_and_wait(config(&first)).await.unwrap();
    let digest = Digest::of(first.as_bytes());
    let good = until("the first is kept", || kept(digest)).await;
    assert_eq!(good.config, *config(&first));
    assert!(good.envoy.starts_with("1."), "{}", good.envoy);

    proxy.signal_all(Signal::KILL);
    let report = until("a report", || reports.list().unwrap().pop()).await;
    let report = std::fs::read_to_string(report).unwrap();
    for expected in [
        "\"epoch\": 0,".to_owned(),
        "\"label\": \"killed\",".to_owned(),
        "\"signal\": 9,".to_owned(),
        format!("\"config_sha256\": \"{digest}\","),
        format!("\"version\": \"{}\",", good.envoy),
    ] {
        assert!(report.contains(&expected), "{expected}: {report}");
    }

    // An epoch that serves, to be held when the next configuration is rejected.
    handle.renew_and_wait(config(&first)).await.unwrap();

    // What is rejected never becomes the last good one; what follows it does.
    let bad = format!("{first}\nlistenerz: []\n");
    handle.apply_and_wait(config(&bad)).await.unwrap_err();
    assert_eq!(last_good.load().unwrap().unwrap().at, good.at);
    let second = format!("{first}\n# another one\n");
    handle.apply_and_wait(config(&second)).await.unwrap();
    until("the second is kept", || kept(Digest::of(second.as_bytes()))).await;

    let before = reports.list().unwrap();
    stop.send(()).unwrap();
    let outcome = running.await.unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!(reports.list().unwrap(), before, "a stop is no crash");
}

/// A cold start on one that was found unfit would serve nobody, and an older one is known to be good.
#[tokio::test]
async fn what_has_not_passed_its_probation_never_replaces_what_is_kept() {
    // Longer than an old epoch lives, which the third change waits for.
    const PROBATION: Duration = Duration::from_secs(5);
    let binary = require_envoy!();
    let host = Host::new(binary);
    let state = host.run.path().join("state");
    let last_good = LastKnownGood::open(&state).unwrap();
    let reports = CrashReports::open(&state).unwrap();
    let proxy = Arc::new(envoy(&host, &last_good, &reports).unwrap());
    let policy = Policy {
        probation: Some(PROBATION),
        ..Policy::resilient()
    };
    let agent = Agent::new(Arc::clone(&proxy), policy).unwrap();
    let handle = agent.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(agent.run(async move {
        stopped.await.ok();
    }));
    let config = |text: &str| {
        let source = Path::new("/etc/envoy.yaml");
        Arc::new(EnvoyConfig::parse(source, text.as_bytes().to_vec()).unwrap())
    };

    let first = host.config(host.web);
    let started = Instant::now();
    handle.apply_and_wait(config(&first)).await.unwrap();
    let good = until("the first is kept", || last_good.load().unwrap()).await;
    assert!(started.elapsed() >= PROBATION);
    assert_eq!(good.digest, Digest::of(first.as_bytes()));

    // One is found unfit, so the first one is started again. It has passed already.
    let mut events = handle.events();
    let second = format!("{first}\n# unfit\n");
    let unfit = handle.apply_and_wait(config(&second)).await.unwrap();
    handle.unfit(unfit, "it answers nobody");
    let back = unfit.next().unwrap();
    let is_back = |event: &Event| matches!(event, Event::Live { epoch, .. } if *epoch == back);
    until("the first serves again", || {
        events.try_recv().ok().filter(is_back)
    })
    .await;
    // Another one is followed by a third one before it has passed.
    let hurried = format!("{first}\n# hurried\n");
    handle.apply_and_wait(config(&hurried)).await.unwrap();
    let third = format!("{first}\n# the third\n");
    handle.apply_and_wait(config(&third)).await.unwrap();
    let never = [second, hurried].map(|text| Digest::of(text.as_bytes()));
    let kept = until("the third is kept", || {
        let kept = LastKnownGood::open(&state)
            .unwrap()
            .load()
            .unwrap()
            .unwrap();
        assert!(!never.contains(&kept.digest));
        (kept.digest != good.digest).then_some(kept)
    })
    .await;
    assert_eq!(kept.digest, Digest::of(third.as_bytes()));

    stop.send(()).unwrap();
    assert_eq!(running.await.unwrap(), Outcome::Drained);
}

fn envoy(
    host: &Host,
    last_good: &LastKnownGood,
    reports: &CrashReports,
) -> Result<Envoy, SetupError> {
    let args = ArgsOptions {
        drain_time: Duration::from_secs(1),
        parent_shutdown_time: Duration::from_secs(2),
        ..ArgsOptions::default()
    };
    Envoy::builder(&host.binary)
        .args(args)
        .instance("tests")
        .run_dir(host.run.path().join("run"))
        .lock_dir(&host.locks.0)
        .last_good(last_good.clone())
        .reports(reports.clone())
        .build()
}
