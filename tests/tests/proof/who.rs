//! Who holds an old epoch of Envoy or a stop, and the end of just that connection.

#![expect(
    clippy::indexing_slicing,
    reason = "fields are read from JSON that the command has printed; a missing one is null"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use handover_test_support::envoy_config::replace_file;
use handover_test_support::limit::eventually;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::Signal;
use serde_json::Value;

use crate::world::{LIMIT, Site};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection that is kept after the beginning of its first answer.
fn keep<S: Read + Write>(mut stream: S) -> S {
    stream.write_all(REQUEST).expect("Envoy reads");
    let mut first = [0];
    stream.read_exact(&mut first).expect("Envoy answers");
    stream
}

fn is_cut(mut stream: impl Read) -> bool {
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    // The answer comes first. A reset is an end as well, and the limit of the socket is none.
    let has_ended = end.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
    has_ended && rest.starts_with(b"TTP/1.1 200")
}

fn epochs(site: &Site) -> Vec<Value> {
    let asked = site.ask(&["who", "--json"]);
    asked.is(0, "\"epochs\"");
    let who: Value = serde_json::from_str(&asked.stdout).expect("it is JSON");
    who["epochs"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn one_long_connection_that_holds_a_stop_is_named_and_its_end_ends_the_stop() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    site.write("v0");
    let launch = site.launch_with_times(&envoy, "200s", "300s");
    let mut supervisor = launch.args(["--termination-drain", "250s"]).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let long = keep(TcpStream::connect(site.listener.addr()).expect("Envoy listens"));
    long.set_read_timeout(Some(LIMIT)).expect("it is a socket");
    site.write("v1");
    site.admin().wait_live(1, LIMIT);
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    let new = keep(TcpStream::connect(site.listener.addr()).expect("Envoy listens"));

    let seen = epochs(&site);
    let peer = long.local_addr().expect("it is connected").to_string();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let old = &seen[0]["listed"][0];
    assert_eq!(
        (&seen[0]["connections"], &seen[0]["state"]),
        (&1.into(), &"draining".into())
    );
    assert_eq!(old["peer"], peer.as_str(), "{seen:?}");
    assert_eq!(old["bytes_in"], REQUEST.len(), "{seen:?}");
    assert!(old["bytes_out"].as_u64() > Some(10), "{seen:?}");
    let listener = format!("listener_{}", site.listener.number());
    assert_eq!(old["listener"], listener.as_str(), "{seen:?}");
    assert_eq!(old["local"], site.listener.addr().to_string(), "{seen:?}");
    // Neither the admin endpoint nor the upstream is a client.
    assert_eq!(seen[1]["connections"], 1, "{seen:?}");
    assert_eq!(seen[1]["not_seen"], serde_json::json!([]));

    // The client of the new epoch goes by itself.
    drop(new);
    supervisor.signal(Signal::TERM);
    supervisor.wait_for_line("terminating: draining", LIMIT);
    let asked = site.ask(&["who", "--end", &peer]);
    asked.is(0, &format!("closed 1 of 1 connection of {peer}\n"));
    assert!(is_cut(long));
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn the_client_of_a_unix_socket_is_named_by_its_process_and_ended() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let path = site.dir.path().join("web.sock");
    let port = site.listener.number();
    let address = format!("socket_address: {{ address: 127.0.0.1, port_value: {port} }}");
    let more = format!(
        "{address}\n    additional_addresses:\n    - address: {{ pipe: {{ path: \"{}\" }} }}",
        path.display()
    );
    let config = site.config("v0").render().replacen(&address, &more, 1);
    replace_file(&site.file(), config.as_bytes());
    let mut supervisor = site.launch(&envoy).start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let kept = keep(UnixStream::connect(&path).expect("Envoy listens"));
    kept.set_read_timeout(Some(LIMIT)).expect("it is a socket");
    let other = keep(TcpStream::connect(site.listener.addr()).expect("Envoy listens"));
    let own = format!("pid:{}", std::process::id());
    let seen = epochs(&site).remove(0);
    let listed = seen["listed"].as_array().expect("a list");
    let unix = listed.iter().find(|client| client["peer"] == own.as_str());
    let unix = unix.expect("the client is listed");
    assert_eq!(unix["local"], path.to_str().expect("it is text"));
    assert!(
        unix["bytes_in"].is_null() && seen["connections"] == 2,
        "{seen:?}"
    );

    let asked = site.ask(&["who", "--epoch", "0", "--end", &own]);
    asked.is(
        0,
        &format!("closed 1 of 1 connection of {own}\nof these on an epoch that serves: 1\n"),
    );
    assert!(is_cut(kept));
    eventually(LIMIT, "the other client alone", || {
        (epochs(&site)[0]["connections"] == 1).then_some(())
    });
    drop(other);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}
