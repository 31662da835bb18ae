//! `resolve` and `private-ips`.

use std::net::IpAddr;

use crate::support::{output_of, stderr, stdout};

#[test]
fn an_address_is_printed_as_a_socket_address() {
    for (given, printed) in [
        ("127.0.0.1:80", "127.0.0.1:80\n"),
        ("[::1]:443", "[::1]:443\n"),
        ("localhost:8080", "127.0.0.1:8080\n"),
        ("[localhost]:9080", "127.0.0.1:9080\n"),
        ("[127.0.0.1]:80", "127.0.0.1:80\n"),
    ] {
        let output = output_of(["resolve", given]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), printed);
    }
}

#[test]
fn the_name_of_a_service_is_printed_as_its_port() {
    // A minimal container has no table of services, so both answers are right.
    let output = output_of(["resolve", "localhost:http"]);
    if output.status.code() == Some(64) {
        let error = stderr(&output);
        assert!(
            error.contains("not a TCP service that this system knows"),
            "{error}"
        );
    } else {
        assert_eq!(stdout(&output), "127.0.0.1:80\n", "{}", stderr(&output));
    }
    let output = output_of(["resolve", "localhost:no-such-service"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).starts_with("error: \"no-such-service\" in"));
    let output = output_of(["resolve", "localhost:"]);
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn a_host_that_does_not_exist_is_unavailable() {
    // The domain is reserved: no resolver may know a name in it.
    let output = output_of(["resolve", "nowhere.invalid:80"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).starts_with("error: the lookup of \"nowhere.invalid\""));
    assert_eq!(stdout(&output), "");
}

#[test]
fn the_addresses_of_this_node_come_one_per_line() {
    let output = output_of(["private-ips", "--timeout", "0s"]);
    let printed = stdout(&output);
    let addresses: Vec<IpAddr> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        addresses.iter().all(|address| !address.is_loopback()),
        "{addresses:?}"
    );
    // The code says whether that is all: a node may have no address but that of its loopback.
    match output.status.code() {
        Some(0) => assert!(!addresses.is_empty()),
        Some(75) => assert!(stderr(&output).contains("wait longer with --timeout")),
        other => panic!("{other:?}: {}", stderr(&output)),
    }
}
