//! Servers of applications, in Python and JavaScript.

use handover_test_support::load::FailureKind;
use handover_test_support::require_server;

use crate::clients::End;
use crate::servers::world::{Server, measure};

#[test]
fn gunicorn_takes_over_its_sockets() {
    let servers = require_server!("gunicorn");
    let seen = measure(
        &servers,
        &Server {
            heading: "gunicorn",
            files_of: "gunicorn",
            changed: "wsgi.py",
            adapted: &[],
            http2: None,
            has_web_sockets: false,
        },
    );
    seen.assert_nothing_lost();
}

#[test]
fn uvicorn_takes_over_its_sockets() {
    let servers = require_server!("uvicorn");
    let seen = measure(
        &servers,
        &Server {
            heading: "uvicorn",
            files_of: "uvicorn",
            changed: "app.py",
            adapted: &[],
            http2: None,
            has_web_sockets: true,
        },
    );
    seen.assert_only_closed_before_the_answer();
    seen.assert_sockets_end(&[End::Announced("a close frame")]);
}

#[test]
fn hypercorn_takes_over_its_sockets() {
    let servers = require_server!("hypercorn");
    let seen = measure(
        &servers,
        &Server {
            heading: "Hypercorn",
            files_of: "uvicorn",
            changed: "app.py",
            adapted: &[("--graceful-timeout 20", "--graceful-timeout 1")],
            http2: Some(8080),
            has_web_sockets: true,
        },
    );
    // Hypercorn ends everything at once if one of its connections ends with an error in that moment.
    seen.assert_few_lost(&[
        FailureKind::Reset,
        FailureKind::ClosedBeforeResponse,
        FailureKind::Status(500),
    ]);
    seen.assert_http2_goes_on();
    seen.assert_sockets_end(&[End::Announced("a close frame"), End::Closed, End::Reset]);
}

#[test]
fn node_takes_over_its_sockets() {
    let servers = require_server!("node");
    let seen = measure(
        &servers,
        &Server {
            heading: "Node.js",
            files_of: "Node.js",
            changed: "server.js",
            adapted: &[],
            http2: Some(8081),
            has_web_sockets: true,
        },
    );
    seen.assert_nothing_lost();
    seen.assert_http2_is_told();
    seen.assert_sockets_end(&[End::Closed, End::Reset]);
}
