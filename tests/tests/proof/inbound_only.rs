//! A drain that closes inbound listeners only: the program beside Envoy can still call out.

use std::net::TcpStream;
use std::time::Duration;

use handover_test_support::envoy_config::replace_file;
use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Signal;

use crate::stopping::{end, keep_a_connection, start};
use crate::world::{LIMIT, Site};

/// The configuration with a direction for the listeners on these ports.
fn directed(mut text: String, directions: [(&Port, &str); 2]) -> String {
    for (port, direction) in directions {
        let name = format!("  - name: listener_{}\n", port.number());
        let with = format!("{name}    traffic_direction: {direction}\n");
        assert!(text.contains(&name), "{text}");
        text = text.replace(&name, &with);
    }
    text
}

#[tokio::test]
async fn an_inbound_only_drain_closes_inbound_listeners_and_the_others_serve_until_its_end() {
    let envoy = require_envoy!();
    let site = Site::new();
    let outbound = Port::free();
    let text = site.config("v0").also_listen(outbound.number()).render();
    let directions = [(&site.listener, "INBOUND"), (&outbound, "OUTBOUND")];
    replace_file(&site.file(), directed(text, directions).as_bytes());
    let flags = ["--drain-inbound-only", "--termination-drain", "50s"];
    let mut supervisor = start(&site, site.launch(&envoy).args(flags));
    let inbound = keep_a_connection(site.listener.addr());
    let kept_outbound = keep_a_connection(outbound.addr());
    supervisor.signal(Signal::TERM);
    eventually(LIMIT, "a refused connection", || {
        TcpStream::connect(site.listener.addr())
            .is_err()
            .then_some(())
    });
    let held = format!(
        "the drain waits for 1 connection on listener 127.0.0.1_{}",
        site.listener.number()
    );
    supervisor.wait_for_line(&held, LIMIT);
    // The program beside it can still call out, on a new connection.
    let answer = http::get(outbound.addr(), "/", LIMIT).expect("it goes on accepting");
    assert_eq!(answer.status, 200);
    assert!(TcpStream::connect(site.listener.addr()).is_err());
    // What is left is outbound, and holds nothing.
    drop(inbound);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(supervisor.count_lines("cutting"), 0);
    drop(kept_outbound);
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_request_to_drain_does_not_wait_for_outbound_connections() {
    let envoy = require_envoy!();
    let site = Site::new();
    let outbound = Port::free();
    let text = site.config("v0").also_listen(outbound.number()).render();
    let directions = [(&site.listener, "INBOUND"), (&outbound, "OUTBOUND")];
    replace_file(&site.file(), directed(text, directions).as_bytes());
    let mut supervisor = start(&site, site.launch(&envoy).args(["--drain-inbound-only"]));
    let kept = keep_a_connection(outbound.addr());
    site.ask(&["drain", "--wait", "--timeout", "30s"])
        .is(0, "no client is connected");
    drop(kept);
    let (_, code) = end(&mut supervisor);
    assert_eq!(code, Some(0));
    site.assert_nothing_left();
}

/// Keeps the worker that answers `/?busy` from everything else for this time, and says so first.
fn busy(text: &str, time: Duration) -> String {
    let filters = "          http_filters:\n";
    assert!(text.contains(filters), "{text}");
    let script = format!(
        "          - name: envoy.filters.http.lua
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
              default_source_code:
                inline_string: |
                  function envoy_on_request(handle)
                    if handle:headers():get(\":path\") ~= \"/?busy\" then return end
                    handle:logWarn(\"a worker is busy\")
                    local began = os.clock()
                    while os.clock() - began < {} do end
                  end
",
        time.as_secs_f64()
    );
    text.replace(filters, &format!("{filters}{script}"))
}

/// Envoy closes a listener when its slowest worker has come to it. While a worker was busy for longer than 250 ms,
/// the inbound listener was taken for one that stays open, so its connections did not count, and the drain ended
/// and cut them.
#[tokio::test]
async fn an_inbound_only_drain_waits_for_the_clients_of_a_busy_worker() {
    let envoy = require_envoy!();
    let site = Site::new();
    let outbound = Port::free();
    let text = site.config("v0").also_listen(outbound.number()).render();
    let directions = [(&site.listener, "INBOUND"), (&outbound, "OUTBOUND")];
    let text = busy(&directed(text, directions), Duration::from_secs(2));
    replace_file(&site.file(), text.as_bytes());
    let flags = ["--drain-inbound-only", "--termination-drain", "50s"];
    let mut supervisor = start(&site, site.launch(&envoy).args(flags));
    let addr = site.listener.addr();
    let client = std::thread::spawn(move || http::get(addr, "/?busy", LIMIT));
    supervisor.wait_for_line("a worker is busy", LIMIT);
    supervisor.signal(Signal::TERM);
    let answer = client.join().expect("the client does not panic");
    assert_eq!(answer.expect("it is answered").status, 200);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(supervisor.count_lines("cutting"), 0);
    site.assert_nothing_left();
}
