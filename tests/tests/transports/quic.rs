//! HTTP/3 over QUIC. The client is another Envoy, which is asked by HTTP/1.1.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use handover_test_support::backend::Backend;
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Launch, Supervisor};

use crate::clients::{Clients, Habit};
use crate::config::{Bootstrap, route, socket};
use crate::wires::{answer, requests, tcp};
use crate::world::{
    DRAIN, LIMIT, Plan, SHUTDOWN, Seen, Site, measure, start, version, versions, wait_for_ends,
};

/// For these tests alone.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBhjCCASygAwIBAgIUSHxSJIbRjmqbdpbX1JzmNnsaWiwwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjYxMTA5MTdaGA8yMTI2MTEwMjExMDkx
N1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOCb
zKmd5GSlyFBNP9v2ghqH6HKinC6wrHUJKvFwxAOr9s73TR31oM6ppbQadRjUTQhB
oTt6TXvZj4XhR4NZzJmjZDBiMB0GA1UdDgQWBBQG55Ylk2SbGssUERN1f14v/r6I
CjAfBgNVHSMEGDAWgBQG55Ylk2SbGssUERN1f14v/r6ICjAPBgNVHRMBAf8EBTAD
AQH/MA8GA1UdEQQIMAaCBHRlc3QwCgYIKoZIzj0EAwIDSAAwRQIhAO4NyH+z671E
FhmOJ8fDcjD5OQaK7r5VOVamzw2cEXzxAiAwKEB0I8o8OwF7cBym5ir5Zlwfzfmd
YdFjEFth0J2fBQ==
-----END CERTIFICATE-----
";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgllI4mHgPSUqzLRA3
HFLwqZOMuKih1dHVZfNbJlmZkQChRANCAATgm8ypneRkpchQTT/b9oIah+hyopwu
sKx1CSrxcMQDq/bO900d9aDOqaW0GnUY1E0IQaE7ek172Y+F4UeDWcyZ
-----END PRIVATE KEY-----
";

/// Each long answer has a QUIC connection of its own, so that these are spread over the workers.
const CONNECTIONS: usize = 8;

/// The Envoy that speaks HTTP/3 to the one under test.
struct Client {
    plans: Vec<Plan>,
    _ports: [Port; 2],
    _process: Supervisor,
}

impl Client {
    fn start(site: &Site, envoy: &Path, server: SocketAddr) -> Self {
        let ports = [Port::free(), Port::free()];
        let [admin, listener] = &ports;
        let repeated = "match: { prefix: /repeated }, route: { cluster: server, prefix_rewrite: /, timeout: 0s, \
                        retry_policy: { retry_on: reset, num_retries: 2 } }";
        let routes = [repeated, &route("/", "server")];
        let bootstrap = Bootstrap::new(admin.number())
            .http("client", &socket(listener.number()), &routes)
            .http3_cluster("server", server);
        let file = site.dir.path().join("client.yaml");
        std::fs::write(&file, bootstrap.render()).expect("the directory is ours");
        // It goes with this value, later than what the test looks for at its end.
        let process = Launch::program(envoy)
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "-l",
                "warning",
                "-c",
            ])
            .arg(&file)
            .start();
        EnvoyAdmin::on(admin.number()).wait_live(0, LIMIT);
        let to = || tcp(listener.addr());
        let plans = vec![
            Plan::new(
                LONG,
                Habit::Keep(CONNECTIONS),
                answer(to(), "/stream?ms=60000"),
            ),
            Plan::new(KEPT, Habit::Renew, requests(to(), "/")),
            Plan::new(REPEATED, Habit::Renew, requests(to(), "/repeated")),
            Plan::new(NEW, Habit::Each, requests(to(), "/")),
        ];
        Self {
            plans,
            _ports: ports,
            _process: process,
        }
    }
}

const LONG: &str = "HTTP/3, long answers";
const KEPT: &str = "HTTP/3, requests on a kept connection";
/// A client of HTTP/3 may repeat what a server has not begun. This one repeats what was reset.
const REPEATED: &str = "HTTP/3, requests on a kept connection, repeated";
const NEW: &str = "HTTP/3, a connection for each request";

/// The bootstrap of the Envoy under test, and its address.
fn server(site: &Site, port: &Port, backend: &Backend) -> Bootstrap {
    let dir = site.dir.path();
    for (name, text) in [("certificate.pem", CERTIFICATE), ("key.pem", KEY)] {
        std::fs::write(dir.join(name), text).expect("the directory is ours");
    }
    site.bootstrap()
        .http3("h3", port.number(), dir, &[&route("/", "backend")])
        .cluster("backend", backend.addr())
}

#[test]
fn quic_goes_on_over_a_hand_over_with_the_same_number_of_workers() {
    for envoy in versions(require_envoy!()) {
        let (site, backend, port) = (Site::new(), Backend::start(), Port::free());
        site.write(&server(&site, &port, &backend));
        // The clients ask nothing before the server is live.
        let client = Client::start(&site, &envoy, port.addr());
        let seen = measure(&site, &envoy, &client.plans);
        seen.print();
        // While both epochs have the sockets, the share of one worker may be lost: 0 to 4 of 8 were seen.
        let [late, early] = late_and_early(&seen);
        assert!(late > 0, "{late} connections lived long, {early} did not");
        for name in [KEPT, REPEATED, NEW] {
            assert_nearly_all_answered(&seen, name);
        }
        seen.assert_stop_was_held_by(&format!("127.0.0.1_{}", port.number()));
    }
}

/// Handover gives each epoch the same number of worker threads. So the epochs are started by hand.
#[test]
fn quic_connections_are_reset_by_a_hand_over_to_another_number_of_workers() {
    for envoy in versions(require_envoy!()) {
        let (site, backend, port) = (Site::new(), Backend::start(), Port::free());
        site.write(&server(&site, &port, &backend));
        let client = Client::start(&site, &envoy, port.addr());
        let epoch = |number: &str, workers: &str| {
            let seconds = |time: Duration| time.as_secs().to_string();
            Launch::program(&envoy)
                .arg("-c")
                .arg(site.file())
                .args(["--base-id", &site.base_id().to_string()])
                .args(["--restart-epoch", number, "--concurrency", workers])
                .args(["--drain-time-s", &seconds(DRAIN)])
                .args(["--parent-shutdown-time-s", &seconds(SHUTDOWN)])
                .args(["-l", "warning"])
                .start()
        };
        let mut old = epoch("0", "2");
        site.admin().wait_live(0, LIMIT);
        let clients = start(client.plans.iter());
        let began = Instant::now();
        let asked = Instant::now();
        let new = epoch("1", "3");
        site.admin().wait_live(1, LIMIT);
        let live = Instant::now();
        old.wait_exit(LIMIT);
        let gone = Instant::now();
        wait_for_ends(&clients);
        let version = version(site.admin());
        let stop = Instant::now();
        let noted = clients.into_iter().map(Clients::stop).collect();
        drop(new);
        let seen = Seen {
            version,
            began,
            asked,
            live,
            gone,
            stop,
            stopped: stop,
            code: None,
            cut: Vec::new(),
            noted,
        };
        seen.print();
        let [_late, early] = late_and_early(&seen);
        assert!(early > 0, "no connection was cut early");
        for name in [REPEATED, NEW] {
            assert_nearly_all_answered(&seen, name);
        }
    }
}

/// How many of the kept connections lived until the parent-shutdown time, and how many did not.
fn late_and_early(seen: &Seen) -> [usize; 2] {
    let ends = seen.of(LONG).remove(0).ends(seen.asked, seen.stop);
    let is_late = |at: &Instant| *at >= seen.asked + SHUTDOWN;
    let late = ends.iter().filter(|(at, _)| is_late(at)).count();
    [late, ends.len() - late]
}

/// A datagram of a handshake may come to the wrong epoch, and a request may cross the end of its
/// connection. A hand-over costs few of either.
fn assert_nearly_all_answered(seen: &Seen, name: &str) {
    let noted = seen.of(name).remove(0);
    let lost: usize = noted.lost(seen.began, seen.stop).values().sum();
    let answered = noted.exchanged(seen.began, seen.stop);
    assert!(
        lost <= 3 + answered / 50,
        "{name}: {lost} of {answered} lost"
    );
    assert!(
        noted.exchanged(seen.gone, seen.stop) > 0,
        "{name}: silent at the end"
    );
}
