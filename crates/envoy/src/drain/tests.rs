use super::*;
use crate::bootstrap::{Bootstrap, Format};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// An admin endpoint whose answers depend on what was asked before.
struct FakeEnvoy {
    admin: AdminClient,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeEnvoy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeEnvoy {
    /// The closure gets the path of a request and the paths of all before it.
    async fn new(
        answer: impl Fn(&str, &[String]) -> Option<(u16, String)> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let count = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = answer(&path, &log.lock().unwrap());
                log.lock().unwrap().push(path);
                let Some((status, body)) = answer else {
                    return;
                };
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.ok();
            }
        });
        Self {
            admin: AdminClient::new(address.parse().unwrap()),
            asked,
            task,
        }
    }

    fn posts(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|path| !path.starts_with("/stats"))
            .cloned()
            .collect()
    }
}

fn counted(path: &str, before: &[String]) -> usize {
    before
        .iter()
        .filter(|asked| asked.starts_with(path))
        .count()
}

const CONNECTIONS: &str = "/stats?filter=%5E%28listener%5C";
const LISTENERS: &str = "/stats?filter=%5Elistener_manager";

fn listeners(path: &str, before: &[String]) -> Option<(u16, String)> {
    path.starts_with(LISTENERS).then(|| {
        // Counters do not start at 0, and the second look after the call sees them closed.
        let closed = counted("/drain_listeners", before) > 0 && counted(LISTENERS, before) > 1;
        let stopped = if closed { 9 } else { 7 };
        (200, format!("listener_manager.listener_stopped: {stopped}\nlistener_manager.total_listeners_active: 2\n"))
    })
}

fn active(count: u64) -> Option<(u16, String)> {
    Some((
        200,
        format!("listener.0.0.0.0_80.downstream_cx_active: {count}\n"),
    ))
}

#[tokio::test]
async fn it_ends_when_the_last_connection_is_closed() {
    let envoy = FakeEnvoy::new(|path, before| {
        listeners(path, before).or_else(|| match counted(CONNECTIONS, before) {
            _ if !path.starts_with(CONNECTIONS) => Some((200, "OK\n".to_owned())),
            0..4 => active(2),
            4..8 => active(1),
            _ => active(0),
        })
    })
    .await;
    let report = drain(&envoy.admin, &DrainOptions::default()).await.unwrap();
    assert!(report.is_drained() && report.listeners_closed, "{report:?}");
    assert!(report.took < Duration::from_secs(4), "{report:?}");
    assert_eq!(envoy.posts(), ["/healthcheck/fail", "/drain_listeners"]);
    assert_eq!(counted(CONNECTIONS, &envoy.asked.lock().unwrap()), 9);
}

#[tokio::test]
async fn an_inbound_only_drain_waits_for_nothing_outbound() {
    let envoy = FakeEnvoy::new(|path, before| {
        let inbound = match counted(CONNECTIONS, before) {
            _ if !path.starts_with(CONNECTIONS) => return Some((200, "OK\n".to_owned())),
            0..3 => 1,
            _ => 0,
        };
        let gauge =
            |port, count| format!("listener.0.0.0.0_{port}.downstream_cx_active: {count}\n");
        Some((200, gauge(80, inbound) + &gauge(81, 5)))
    })
    .await;
    let text = "
admin: {address: {pipe: {path: /a}}}
static_resources:
  listeners:
  - {traffic_direction: INBOUND, address: {socket_address: {address: 0.0.0.0, port_value: 80}}}
  - {traffic_direction: OUTBOUND, address: {socket_address: {address: 0.0.0.0, port_value: 81}}}
";
    let bootstrap = Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap();
    assert_eq!(inbound_ports(&bootstrap.listeners), [80].into());
    let options = DrainOptions {
        exclude: Exclude {
            inbound_only: true,
            ..Exclude::default()
        },
        listeners: bootstrap.listeners,
        ..DrainOptions::default()
    };
    let report = drain(&envoy.admin, &options).await.unwrap();
    assert!(report.is_drained(), "{report:?}");
    let expected = ["/healthcheck/fail", "/drain_listeners?inboundonly"];
    assert_eq!(envoy.posts(), expected);
    assert!(counted(CONNECTIONS, &envoy.asked.lock().unwrap()) > 3);
}

#[test]
fn a_port_that_an_outbound_listener_shares_is_not_closed() {
    let text = "
admin: {address: {pipe: {path: /a}}}
static_resources:
  listeners:
  - {traffic_direction: INBOUND, address: {socket_address: {address: 10.0.0.1, port_value: 80}}}
  - {traffic_direction: OUTBOUND, address: {socket_address: {address: 10.0.0.2, port_value: 80}}}
  - {traffic_direction: INBOUND, address: {socket_address: {address: 10.0.0.1, port_value: 81}}}
";
    let bootstrap = Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap();
    assert_eq!(inbound_ports(&bootstrap.listeners), [81].into());
}

#[tokio::test]
async fn at_the_limit_it_tells_what_holds_the_drain() {
    let envoy = FakeEnvoy::new(|path, before| {
        listeners(path, before).or_else(|| match path.starts_with(CONNECTIONS) {
            true => active(3),
            false => Some((200, String::new())),
        })
    })
    .await;
    let mut options = DrainOptions {
        limit: Duration::from_millis(200),
        ..DrainOptions::default()
    };
    let report = drain(&envoy.admin, &options).await.unwrap();
    assert!(!report.is_drained());
    assert_eq!(
        report.holding[0].to_string(),
        "3 connections on listener 0.0.0.0_80"
    );
    assert!(report.took >= options.limit, "{report:?}");

    options.exclude.ports.insert(80);
    assert!(drain(&envoy.admin, &options).await.unwrap().is_drained());
}

#[tokio::test]
async fn delays_are_kept() {
    let envoy = FakeEnvoy::new(|path, before| {
        listeners(path, before).or_else(|| match path.starts_with(CONNECTIONS) {
            true => active(0),
            false => Some((200, String::new())),
        })
    })
    .await;
    let options = DrainOptions {
        pre_drain_delay: Duration::from_millis(50),
        minimum: Duration::from_millis(150),
        ..DrainOptions::default()
    };
    let report = drain(&envoy.admin, &options).await.unwrap();
    assert!(report.took >= options.minimum, "{report:?}");
}

#[tokio::test]
async fn an_envoy_that_does_not_close_its_listeners_is_reported() {
    let envoy = FakeEnvoy::new(|path, _| match path {
        _ if path.starts_with(CONNECTIONS) => active(0),
        _ => Some((
            200,
            "listener_manager.total_listeners_active: 1\n".to_owned(),
        )),
    })
    .await;
    let report = drain(&envoy.admin, &DrainOptions::default()).await.unwrap();
    assert!(
        !report.listeners_closed && report.took >= closing::UNVERIFIED,
        "{report:?}"
    );
}

#[tokio::test]
async fn a_failing_step_is_named() {
    let refuses = async |refused: &'static str| {
        let envoy = FakeEnvoy::new(move |path, _| match path.starts_with(refused) {
            true => Some((500, "no".to_owned())),
            false => Some((200, String::new())),
        })
        .await;
        let options = DrainOptions {
            limit: Duration::from_millis(300),
            ..DrainOptions::default()
        };
        drain(&envoy.admin, &options).await.unwrap_err()
    };
    assert!(matches!(
        refuses("/healthcheck").await,
        DrainError::Start(_)
    ));
    assert!(matches!(
        refuses("/drain").await,
        DrainError::CloseListeners(_)
    ));
    assert!(matches!(refuses(CONNECTIONS).await, DrainError::Count(_)));
}

#[tokio::test]
async fn an_endpoint_that_goes_away_ends_the_wait() {
    let envoy = FakeEnvoy::new(|path, before| {
        // After two counts the listener is dropped, so connections are refused.
        if counted(CONNECTIONS, before) == 2 {
            return None;
        }
        listeners(path, before).or_else(|| active(1))
    })
    .await;
    let options = DrainOptions {
        limit: Duration::from_secs(60),
        ..DrainOptions::default()
    };
    let error = drain(&envoy.admin, &options).await.unwrap_err();
    assert!(matches!(error, DrainError::Count(_)), "{error}");
}

#[tokio::test]
async fn a_silent_endpoint_does_not_hold_it_longer_than_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = AdminClient::new(listener.local_addr().unwrap().to_string().parse().unwrap());
    let options = DrainOptions {
        limit: Duration::from_millis(100),
        ..DrainOptions::default()
    };
    let error = drain(&admin, &options).await.unwrap_err();
    assert!(matches!(error, DrainError::NoTime(_)), "{error}");
    drop(listener);
}

/// Istio's own bootstrap keeps no gauge of a listener.
#[tokio::test]
async fn an_envoy_whose_statistics_leave_its_connections_out_is_not_drained() {
    let envoy = FakeEnvoy::new(|_, _| Some((200, String::new()))).await;
    let options = DrainOptions {
        limit: Duration::from_millis(400),
        ..DrainOptions::default()
    };
    let error = drain(&envoy.admin, &options).await.unwrap_err();
    let DrainError::Count(why) = error else {
        panic!("{error}");
    };
    assert!(why.to_string().contains("stats_matcher"), "{why}");
}

#[test]
fn a_slow_host_is_looked_at_less_often_and_after_a_stop_of_this_process_at_once() {
    let pause = |millis| {
        let least = Duration::from_millis(15);
        pause_after(Duration::from_millis(millis), least).as_millis()
    };
    let looks = [1, 100, 900, 1_000, 1_001, 9_000];
    assert_eq!(looks.map(pause), [15, 200, 1_000, 1_000, 50, 50]);
}

#[test]
fn a_wait_for_minutes_is_looked_at_five_times_a_second() {
    let pause = |millis| {
        let shortest = Duration::from_millis(15);
        least_pause(Duration::from_millis(millis), shortest).as_millis()
    };
    let waits = [0, 240, 800, 1_600, 3_200, 600_000];
    assert_eq!(waits.map(pause), [15, 15, 50, 100, 200, 200]);
    // One that is asked for is kept.
    let shortest = Duration::from_secs(1);
    assert_eq!(least_pause(Duration::from_secs(60), shortest), shortest);
}

#[tokio::test]
async fn a_step_that_fails_once_is_tried_once_more() {
    let envoy = FakeEnvoy::new(|path, before| {
        let fails = path.starts_with("/healthcheck/fail") || path.starts_with("/drain_listeners");
        if fails && counted(path, before) == 0 {
            return Some((503, "busy".into()));
        }
        listeners(path, before).or_else(|| active(0))
    })
    .await;
    let report = drain(&envoy.admin, &DrainOptions::default()).await.unwrap();
    assert!(report.is_drained(), "{report:?}");
    let posts = envoy.posts();
    for step in ["/healthcheck/fail", "/drain_listeners"] {
        assert_eq!(counted(step, &posts), 2, "{posts:?}");
    }
}

#[tokio::test]
async fn a_call_is_made_once_more_unless_nobody_is_there() {
    type Answers = Vec<Result<(), AdminError>>;
    let address = || "127.0.0.1:1".parse().unwrap();
    let slow = || AdminError::TimedOut {
        address: address(),
        path: "/x",
        limit: Duration::from_secs(1),
    };
    let nobody = || AdminError::Connect {
        address: address(),
        source: std::io::ErrorKind::ConnectionRefused.into(),
    };
    // What each call gives, and how many are made.
    let cases: [(Answers, bool, usize); 4] = [
        (vec![Ok(())], true, 1),
        (vec![Err(slow()), Ok(())], true, 2),
        (vec![Err(slow()), Err(slow()), Ok(())], false, 2),
        (vec![Err(nobody()), Ok(())], false, 1),
    ];
    for (answers, succeeds, expected) in cases {
        let answers = Mutex::new(answers.into_iter());
        let made = Mutex::new(0);
        let result = retry_once(|| {
            *made.lock().unwrap() += 1;
            let answer = answers.lock().unwrap().next().unwrap();
            async move { answer }
        });
        assert_eq!(result.await.is_ok(), succeeds);
        assert_eq!(made.into_inner().unwrap(), expected);
    }
}

/// It is too far away for the clock.
#[tokio::test]
async fn a_limit_without_end_is_none() {
    let envoy = FakeEnvoy::new(|path, before| listeners(path, before).or_else(|| active(0))).await;
    // Longer than what is looked around for after a limit that has passed.
    let options = DrainOptions {
        limit: Duration::MAX,
        pre_drain_delay: LOOK_AROUND + Duration::from_millis(100),
        ..DrainOptions::default()
    };
    let report = drain(&envoy.admin, &options).await.unwrap();
    assert!(report.is_drained() && report.listeners_closed, "{report:?}");
}
