//! The calls of other sidecars on the status server.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use crate::control::Place;
use crate::exchange::{send, split};
use crate::status_server::Shown;
use crate::support::{LIMIT, handover, output_of, stderr};

const FLAG: [&str; 1] = ["--compat-endpoints"];

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: 0\r\n\r\n")
}

/// The status code and the body.
fn call(address: SocketAddr, request: &str) -> (u16, String) {
    let stream = TcpStream::connect_timeout(&address, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let answer = send(stream, request.as_bytes());
    let (code, _, body) = split(&answer);
    (code, body.to_owned())
}

#[test]
fn a_job_on_this_host_ends_its_proxy_as_it_ends_another_sidecar() {
    for (method, path) in [
        ("POST", "/quitquitquit"),
        ("POST", "/graceful_shutdown"),
        ("GET", "/graceful_shutdown"),
    ] {
        let place = Place::new();
        let mut shown = Shown::server(&place, &FLAG);
        let startup = call(shown.address, &request("GET", "/graceful_startup", ""));
        assert_eq!(startup.0, 200, "{startup:?}");
        let answer = call(shown.address, &request(method, path, ""));
        assert_eq!(answer, (200, "OK\n".to_owned()), "{method} {path}");
        assert_eq!(shown.running.code(), 0, "{method} {path}");
    }
}

#[test]
fn calls_that_a_page_or_a_stranger_could_make_change_nothing() {
    let place = Place::new();
    let shown = Shown::server(&place, &FLAG);
    for (method, path, headers, code) in [
        ("GET", "/quitquitquit", "", 405),
        ("GET", "/drain", "", 405),
        ("PUT", "/graceful_shutdown", "", 405),
        ("POST", "/quitquitquit", "origin: http://localhost\r\n", 403),
        ("POST", "/quitquitquit", "origin: null\r\n", 403),
        (
            "GET",
            "/graceful_shutdown",
            "sec-fetch-site: same-origin\r\n",
            403,
        ),
        (
            "POST",
            "/graceful_shutdown",
            "x-forwarded-for: 10.0.0.9\r\n",
            403,
        ),
        // `exec` knows of no health checks that could be made to fail.
        ("POST", "/drain", "", 409),
        ("POST", "/status", "", 405),
    ] {
        let answer = call(shown.address, &request(method, path, headers));
        assert_eq!(answer.0, code, "{method} {path} {headers}: {answer:?}");
    }
    let foreign = "POST /quitquitquit HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    assert_eq!(call(shown.address, foreign).0, 421);
    assert!(shown.get("/").body.contains("/quitquitquit"));
    assert_eq!(shown.get("/healthz/ready").code, 200);
}

/// The address by which this host reaches others. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn a_client_at_another_address_is_refused_by_its_own_address() {
    let Some(own) = own_address() else {
        eprintln!("skipped: this host has no address but loopback");
        return;
    };
    let place = Place::new();
    let shown = Shown::server(&place, &["--status-address", ":0", "--compat-endpoints"]);
    let port = shown.address.port();
    let local = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let elsewhere = SocketAddr::new(own, port);
    for path in [
        "/quitquitquit",
        "/drain",
        "/graceful_shutdown",
        "/graceful_startup",
    ] {
        let (code, body) = call(elsewhere, &request("POST", path, ""));
        assert_eq!(code, 403, "{path}: {body}");
        assert!(
            body.contains(&format!("comes from {own}")),
            "{path}: {body}"
        );
    }
    assert_eq!(
        call(local, &request("POST", "/graceful_startup", "")).0,
        200
    );
}

#[test]
fn without_the_flag_there_are_no_such_paths() {
    let place = Place::new();
    let shown = Shown::server(&place, &[]);
    for path in [
        "/quitquitquit",
        "/drain",
        "/graceful_shutdown",
        "/graceful_startup",
    ] {
        assert_eq!(
            call(shown.address, &request("POST", path, "")).0,
            404,
            "{path}"
        );
    }
    assert!(!shown.get("/").body.contains("quitquitquit"));
    assert_eq!(shown.get("/healthz/ready").code, 200);
}

#[test]
fn calls_without_a_status_server_are_refused_before_anything_runs() {
    for command in ["run", "exec"] {
        let output = output_of([command, "--compat-endpoints", "--", "true"]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        assert!(
            stderr(&output).contains("--status-address"),
            "{}",
            stderr(&output)
        );
    }
    // A switch that is off needs nothing.
    let mut command = handover(["exec", "--on-exit", "stop", "--", "true"]);
    command.env("HANDOVER_COMPAT_ENDPOINTS", "0");
    let output = crate::support::finish(&mut command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
